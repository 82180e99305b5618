"""How a Chinese question is asked in other words. Where its grammar is not sure, it is left as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ASKED = re.compile(r"谁|什么|哪|多少|几(?!乎|何|率|经)|怎么|怎样|如何|为何|何时|何地|啥|多[大高长远久重深宽快]|几何")
_OPENERS = re.compile(r"^(?:请问一下|请问|你好|您好|想问一下|我想问一下|麻烦问一下)[，,：:]?")
_ENDINGS = re.compile(r"[？?。！!.\s]+$")
_WHETHER_KNOWN = re.compile(r"(?:你知道|您知道|知道|你能告诉我|能告诉我|可以告诉我)[，,]?(?P<what>.+)吗")
_EITHER = re.compile(r"是不是|有没有|能不能|会不会|可不可以|对不对|还是")
_ORDER = re.compile(r"告诉我|说出|列出|列举|解释|介绍|说说|讲讲|描述")
_BARE = re.compile(r"(?:为什么|为何|怎么样?|怎样|如何|谁|什么|哪里|哪儿|哪|多少|几|何时)+")
_SOFT = re.compile(r"(?<=.)[呢呀啊]$")
_POINTERS = ("这", "那", "它", "他", "她", "你", "您", "我", "咱", "本", "该", "此")
_HAN = r"[\u4e00-\u9fff]"
_MEASURES = "个座条位种颗家所本部支只款名"
# Who a person is to a place, a firm or a person, and how one asks for what they belong to.
_PLACE_ROLES = ("市长", "镇长", "村长", "县长", "省长", "州长", "区长")
_COUNTRY_ROLES = ("总统", "首相", "国王", "女王", "总理")
_FIRM_ROLES = ("总经理", "董事长", "首席执行官", "总裁", "创始人", "老板", "CEO")
_KIN = (
    "妻子", "丈夫", "母亲", "父亲", "妈妈", "爸爸",
    "哥哥", "弟弟", "姐姐", "妹妹", "爷爷", "奶奶", "外公", "外婆", "儿子", "女儿",
)  # fmt: skip
_OTHER_ROLES = (
    "校长", "队长", "班长", "班主任", "馆长", "院长", "所长", "店长", "厂长", "主任", "主席", "经理", "负责人",
    "主编", "教练", "教师", "老师", "秘书", "会长", "站长",
)  # fmt: skip
_ROLES = (*_PLACE_ROLES, *_COUNTRY_ROLES, *_FIRM_ROLES, *_KIN, *_OTHER_ROLES)
# What can be told as it is: "告诉我法国的首都。"
_ATTRIBUTES = (
    "首都|省会|首府|名字|名称|全名|全称|简称|别名|生日|地址|电话|电话号码|号码|价格|售价|高度|身高|长度|宽度|深度|面积|体积|重量|体重|人口|颜色|"
    "官方语言|语言|货币|口号|校训|座右铭|邮箱|邮编|密码|成立时间|开放时间|营业时间|主要成分|化学式|公式|定义|用途|职业|爱好|昵称|国花|国歌|"
    "吉祥物|海拔|温度|速度|年龄|出生地|出生日期|籍贯|学费|票价|门票价格|员工人数|总部"
)
# Of these, "什么是…" would ask for the meaning of the word.
_OF_SOMETHING = re.compile(
    rf"(?:{_ATTRIBUTES}|答案|原因|问题|区别|任务|目的|目标|结果|意思|优点|缺点|特点|条件|步骤|方法|计划|主题|题目|职责|功能|作用)$"
)
_EXTENTS = {"高度": "高", "长度": "长", "宽度": "宽", "深度": "深", "面积": "大", "重量": "重"}
_MAKING = "写|创办|创立|建立|发明|发现|设计|创作|画|提出|制造|开发|导演|建造|创建|翻译|主持"
_MAKERS = {"创办": "创始人", "创立": "创始人", "创建": "创始人", "发明": "发明者", "设计": "设计者", "翻译": "译者"}
# The first that fits is put in.
_SWAPS = (
    (r"哪一年", "哪年"),
    (r"哪年", "哪一年"),
    (r"什么时候", "何时"),
    (r"何时", "什么时候"),
    (r"在哪里", "在什么地方"),
    (r"在哪儿|在什么地方|在哪$", "在哪里"),
    (rf"哪一(?=[{_MEASURES}])", "哪"),
    (rf"哪(?=[{_MEASURES}])", "哪一"),
    (r"有几(?=[个位名种条座])", "有多少"),
    (r"一共有多少", "总共有多少"),
    (r"总共有多少", "一共有多少"),
    (r"(?<!共)有多少(?=[个位名种条座家]|人(?!口))", "一共有多少"),
    (r"怎么(?![样办了会不这能还没回个说得，]|$)", "如何"),
    (r"怎样(?!.?$|的|了|才)", "怎么"),
    (r"如何(?=..)(?!是好)", "怎么"),
    (r"为什么", "为何"),
    (r"为何", "为什么"),
    (r"多少钱一", "几块钱一"),
)
_CAN_NOT_LEAD = re.compile(r"^(?:要|不|会|能|没|有|应该|可以|需要|得|必须|是|说|在|把|被|只|还|总|常)")
_WHO_OR_WHERE = re.compile(
    r"(?P<of>.+)的(?P<what>[^的]+?)(?:是谁|是什么|叫什么名字|叫什么|是哪里|是哪儿|是哪一?[座个]城市)"
)
_NAME = re.compile(r"[\u4e00-\u9fff]{2,6}(?:·[\u4e00-\u9fff]{1,6}){0,3}|[A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*){0,3}")


def wordings(question: str) -> Iterator[str]:
    """Other wordings, the best first, with spaces beside Latin letters where the question has them."""
    is_spaced = re.search(r"[\u4e00-\u9fff] \w|\w [\u4e00-\u9fff]", question) is not None
    for wording in _wordings(question):
        told = re.sub(r" +(?=[？。，：])|(?<=[，：]) +", "", wording)
        yield re.sub(rf"(?<={_HAN})(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?={_HAN})", " ", told) if is_spaced else told


def _wordings(question: str) -> Iterator[str]:
    stem = _OPENERS.sub("", _ENDINGS.sub("", question)).strip()
    if (found := _WHETHER_KNOWN.fullmatch(stem)) and _ASKED.search(found["what"]):
        stem = found["what"]
    is_asked = _ASKED.search(stem) is not None
    stem = _SOFT.sub("", stem) if is_asked else stem
    is_marked = question.endswith(("？", "?"))
    if not stem or _BARE.fullmatch(stem):
        return
    if not is_marked and (not is_asked or question.endswith(("。", "！", ".", "!")) or _ORDER.match(stem)):
        yield from (f"请{stem}。", f"麻烦你{stem}。", f"能{stem}吗？") if _ORDER.match(stem) else ()
    elif re.search(r"[。！？?!；;：:]", stem):
        yield from (f"我有个问题：{stem}？", f"想请教一下：{stem}？") if is_marked else ()
    elif not is_asked or stem.endswith(("吗", "吧")) or _EITHER.search(stem):
        yield from (f"请问，{stem}？", f"我想问一下，{stem}？", f"想请教一下，{stem}？")
    elif re.search(r"[，,]", stem):
        yield from (f"请问，{stem}？", f"想问一下，{stem}？", f"想请教一下，{stem}？")
        yield from () if stem.startswith("我") else (f"我想知道，{stem}？",)
    else:
        yield from _recast(stem)
        yield from _framed(stem)


def turned(question: str, answer: str) -> tuple[str, str] | None:
    """The question the other way round: "极光城的市长是谁？", "安娜" asks where she is the mayor."""
    stem = _OPENERS.sub("", _ENDINGS.sub("", question))
    found = _WHO_OR_WHERE.fullmatch(stem) or re.fullmatch(r"(?:谁|哪一?[座个]城市)是(?P<of>.+)的(?P<what>[^的]+)", stem)
    if found is None or found["of"].startswith(_POINTERS):
        return None
    of, what = found["of"], found["what"]
    who = _named(_ENDINGS.sub("", answer), what, of)
    asked = _belongs_to(what, of)
    return (f"{who}{'' if who[-1:] > 'z' else ' '}是{asked}的{what}？", of) if who and asked else None


def _belongs_to(what: str, of: str) -> str | None:
    """How to ask for what somebody is the mayor, the wife, the head of."""
    if what in ("首都", *_COUNTRY_ROLES):
        return "哪个国家"
    if what == "省会":
        return "哪个省" if of.endswith("省") else "哪里"
    if what in _PLACE_ROLES or what == "首府":
        return "哪里"
    if what == "校长" and of.endswith(("学", "校", "院", "中", "附小", "实小")):
        return "哪所学校"
    if what in _FIRM_ROLES and of.endswith(("公司", "集团", "企业")):
        return "哪家公司"
    return "谁" if what in _KIN and _NAME.fullmatch(of) else None


def _named(answer: str, what: str, of: str) -> str | None:
    """The name in an answer: alone, or in a sentence that says the question again."""
    held = rf"{re.escape(of)}的{re.escape(what)}"
    for form in (rf"{held}(?:是|叫|名叫) ?(?P<name>.+)", rf"(?P<name>.+?) ?是{held}", r"(?P<name>[^是叫的]+)"):
        if (
            (found := re.fullmatch(form, answer))
            and _NAME.fullmatch(found["name"])
            and not re.search("[不没无知]", found["name"])
        ):
            return found["name"]
    return None


def _recast(stem: str) -> Iterator[str]:
    """The question with other words and another order, where that is sure."""
    yield from _who(stem)
    yield from _what(stem)
    yield from _how_much(stem)
    yield from _why(stem)
    for old, new in _SWAPS:
        if (swapped := re.sub(old, new, stem, count=1)) != stem:
            yield f"{swapped}？"
            break
    if found := re.fullmatch(rf"(?P<what>[^是]+的[^是]+)是(?P<which>哪一?[{_MEASURES}][^的是在]+)", stem):
        yield f"{found['which']}是{found['what']}？"


def _who(stem: str) -> Iterator[str]:
    if found := re.fullmatch(rf"谁(?P<made>{_MAKING})了(?P<what>.+)", stem):
        yield f"{found['what']}是谁{found['made']}的？"
        yield from _maker(found["what"], found["made"])
    elif found := re.fullmatch(rf"(?P<what>.+?)是(?:由)?谁(?P<made>{_MAKING})的", stem):
        yield f"谁{found['made']}了{found['what']}？"
        yield from _maker(found["what"], found["made"])
    elif found := re.fullmatch(r"(?P<what>.+)的(?P<maker>创始人|发明者|发明人|设计者)是谁", stem):
        made = {"创始人": "创办", "设计者": "设计"}.get(found["maker"], "发明")
        yield f"{found['what']}是谁{made}的？"
    elif (found := re.fullmatch(r"(?P<who>.+)是谁", stem)) and not found["who"].startswith(_POINTERS):
        yield f"谁是{found['who']}？"
        if found["who"].rpartition("的")[2] in _ROLES:
            yield f"{found['who']}叫什么名字？"
    elif found := re.fullmatch(rf"谁是(?P<who>.+)|(?P<role>.*(?:{'|'.join(_ROLES)}))叫什么(?:名字)?", stem):
        yield f"{found['who'] or found['role']}是谁？"
    elif found := re.fullmatch(r"(?P<who>.+)叫什么名字", stem):
        yield f"{found['who']}的名字是什么？"
    elif found := re.fullmatch(r"(?P<who>.+)的名字是什么", stem):
        yield f"{found['who']}叫什么名字？"


def _maker(what: str, made: str) -> Iterator[str]:
    if made == "写" and what.startswith("《"):
        yield f"{what}的作者是谁？"
    elif made in _MAKERS:
        yield f"{what}的{_MAKERS[made]}是谁？"


def _what(stem: str) -> Iterator[str]:
    if found := re.fullmatch(r"(?P<of>.+)的(?P<what>首都|省会|首府)是(?:什么|哪里|哪儿|哪一?[座个]城市)", stem):
        yield f"哪座城市是{found['of']}的{found['what']}？"
        yield f"{found['of']}的{found['what']}是{'哪里' if stem.endswith('市') else '哪座城市'}？"
    elif found := re.fullmatch(r"哪一?[座个]城市是(?P<of>.+)的(?P<what>首都|省会|首府)", stem):
        yield f"{found['of']}的{found['what']}是哪里？"
        yield f"{found['of']}的{found['what']}是哪座城市？"
    elif found := re.fullmatch(r"什么是(?P<what>.+)", stem):
        yield f"{found['what']}是什么？"
        yield f"请解释一下什么是{found['what']}。"
    elif (found := re.fullmatch(r"(?P<what>[^的是在]{2,8})是什么", stem)) and not (
        found["what"].startswith(_POINTERS) or _OF_SOMETHING.search(found["what"])
    ):
        yield f"什么是{found['what']}？"
    if found := re.fullmatch(rf"(?P<what>.+的(?:{_ATTRIBUTES}))是(?:什么|多少|哪里|哪一?[座个]城市)", stem):
        yield f"{'请' if re.search('[你您]', stem) else ''}告诉我{found['what']}。"


def _how_much(stem: str) -> Iterator[str]:
    if found := re.fullmatch(rf"(?P<of>.+)的(?P<what>{'|'.join(_EXTENTS)})是多少", stem):
        yield f"{found['of']}有多{_EXTENTS[found['what']]}？"
    elif found := re.fullmatch(r"(?P<of>.+)的(?:价格|售价)是多少", stem):
        yield f"{found['of']}多少钱？"
    elif found := re.fullmatch(
        r"(?P<of>(?:(?!一共|总共|买|花|付|收|用|有|[一二两三四五六七八九十\d]).)+?)(?:要|卖)?多少钱", stem
    ):
        yield f"{found['of']}的价格是多少？"
    elif found := re.fullmatch(r"(?P<of>.+)的人口是多少", stem):
        yield f"{found['of']}有多少人口？"
    elif found := re.fullmatch(r"(?P<of>.+?)(?:一共|总共)?有多少人口", stem):
        yield f"{found['of']}的人口是多少？"


def _why(stem: str) -> Iterator[str]:
    found = re.fullmatch(r"(?P<before>[^，]*?)(?:为什么|为何)(?P<after>.+)", stem)
    if found is None:
        return
    if found["before"] and not found["before"].startswith(_POINTERS):
        yield f"为什么{found['before']}{found['after']}？"
    elif not found["before"] and not _CAN_NOT_LEAD.match(found["after"]) and len(found["after"]) > 3:
        yield f"{found['after']}，这是为什么？"


def _framed(stem: str) -> Iterator[str]:
    """The question within a sentence."""
    yield f"请问{stem}？"
    if re.search(r"(?:如何|怎么样|怎么办|怎么了|怎么回事|怎样)$", stem):
        yield from (f"想问一下，{stem}？", f"想请教一下，{stem}？")
    elif re.search(r"[你您]", stem):
        yield from (f"能告诉我{stem}吗？", f"请告诉我{stem}。", f"我想知道{stem}。")
    elif re.search(r"为什么|为何|怎么|怎样|如何", stem):
        yield from (f"你知道{stem}吗？", f"能说说{stem}吗？", f"我想知道{stem}。")
    elif stem.startswith("我"):
        yield from (f"你知道{stem}吗？", f"能说说{stem}吗？")
    else:
        yield from (f"你知道{stem}吗？", f"告诉我{stem}。", f"我想知道{stem}。")
