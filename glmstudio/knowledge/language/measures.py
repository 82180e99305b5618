"""Units of measure and of money, and the classifiers that Chinese puts after a number."""

from __future__ import annotations

import re
from fractions import Fraction

_LISTED = """
length 1 | m metre metres meter meters 米 公尺
length 1000 | km kilometre kilometres kilometer kilometers 公里 千米
length 1/10 | dm 分米
length 1/100 | cm centimetre centimetres centimeter centimeters 厘米 公分
length 1/1000 | mm millimetre millimetres millimeter millimeters 毫米
length 1609344/1000 | mile miles mi 英里
length 3048/10000 | ft foot feet 英尺
length 254/10000 | inch inches 英寸
length 9144/10000 | yd yard yards 码
mass 1 | g gram grams gramme grammes 克
mass 1000 | kg kilo kilos kilogram kilograms 公斤 千克
mass 500 | 斤
mass 1/1000 | mg milligram milligrams 毫克
mass 1000000 | t ton tons tonne tonnes 吨
mass 45359237/100000 | lb lbs pound-mass 磅
time 1 | s sec secs second seconds 秒 秒钟
time 1/1000 | ms millisecond milliseconds 毫秒
time 60 | min mins minute minutes 分钟
time 3600 | h hr hrs hour hours 小时 钟头
time 86400 | day days 天
time 604800 | week weeks 周 星期 礼拜
month 1 | month months 月
month 12 | yr yrs year years year-old years-old years_old full_years 年 岁
month 120 | decade decades
century 1 | century centuries 世纪
volume 1 | l litre litres liter liters 升 公升
volume 1/1000 | ml millilitre millilitres milliliter milliliters 毫升
volume 1000 | m3 cubic_metres cubic_meters 立方米
area 1 | m2 sqm square_metres square_meters square_metre square_meter 平方米 平米
area 1000000 | km2 square_kilometres square_kilometers 平方公里 平方千米
area 10000 | ha hectare hectares 公顷
area 2000/3 | 亩
temperature 1 | °c °_c celsius degree degrees degrees_celsius degree_celsius degrees_centigrade 摄氏度 度
fahrenheit 1 | °f °_f fahrenheit degrees_fahrenheit 华氏度
speed 5/18 | km/h kmh kph kilometres_per_hour kilometers_per_hour 公里/小时 千米/小时
speed 1 | m/s metres_per_second meters_per_second 米/秒
power 1 | w watt watts 瓦
power 1000 | kw kilowatt kilowatts 千瓦
power 1000000 | mw megawatt megawatts 兆瓦
energy 1 | kwh 度电 千瓦时
voltage 1 | v volt volts 伏
frequency 1 | hz hertz 赫兹
frequency 1000000 | mhz 兆赫
frequency 1000000000 | ghz
data 1 | kb kilobyte kilobytes
data 1000 | mb megabyte megabytes
data 1000000 | gb gigabyte gigabytes
data 1000000000 | tb terabyte terabytes
yuan 1 | yuan rmb cny ¥ 元 块 块钱 元钱 人民币 元人民币
yuan 1/10 | 角 毛 毛钱
dollar 1 | dollar dollars us_dollars usd $ us$ 美元 美金
dollar 1/100 | cent cents
euro 1 | euro euros eur € 欧元
pound 1 | pound pounds gbp £ 英镑
yen 1 | yen jpy 日元
"""
UNITS: dict[str, tuple[str, Fraction]] = {
    name: (dimension, Fraction(factor))
    for line in _LISTED.strip().splitlines()
    for dimension, factor, names in [(*line.split(" | ")[0].split(), line.split(" | ")[1])]
    for name in (each.replace("_", " ") for each in names.split())
}
# Classifiers by what they count: those of a row may stand for each other, and 个 for any.
_CLASSIFIERS = """
    名位人口 层楼 本册部 只头匹条 间所家座栋 张页 首支曲 次回遍 把
    件套 扇道门 辆台 棵株颗粒 枚块片 章节 门 届期 种样类 路 级 项 句 杯瓶碗 号 倍 幅
"""
COUNTERS = {char: row for row, chars in enumerate(_CLASSIFIERS.split()) for char in reversed(chars)} | {"个": -1}
_LONGEST_FIRST = sorted(UNITS, key=len, reverse=True)
_LATIN = "|".join(re.escape(name) for name in _LONGEST_FIRST if name.isascii() or name[0] == "°")
_OTHER = "|".join(name for name in _LONGEST_FIRST if not name.isascii() and name[0] != "°")
_UNIT = re.compile(rf"[ -]?(?:((?:{_LATIN})(?![a-z0-9])|{_OTHER})|([€£$¥]))")
_MONEY_BEFORE = re.compile(r"(us\$|[$€£¥]|usd |eur |rmb |gbp )")


def unit_at(text: str, at: int) -> tuple[str, Fraction, int] | None:
    """The dimension, the factor to its base unit, and the end of the unit that follows a number at this place."""
    found = _UNIT.match(text, at)
    if not found:
        return None
    name = found[1] or found[2]
    if name == "周" and text.startswith("年", found.end()):
        return None
    return (*UNITS[name], found.end())


def money_before(text: str, at: int) -> tuple[str, int] | None:
    """A sign of money in front of its number: its name as a unit, and where the number begins."""
    found = _MONEY_BEFORE.match(text, at)
    return (UNITS[found[1].strip()][0], found.end()) if found else None
