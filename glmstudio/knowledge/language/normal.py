"""Text in the one form in which answers are compared."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 8_000  # characters of an answer that are looked at: more than any answer of 2,048 tokens needs
# Frequent characters only: a whole table would be a dependency, and a mixed answer is rare.
_TRADITIONAL = (
    "萬與專業東絲兩嚴喪個豐臨為麗舉麼義烏樂喬習鄉書買亂爭於虧雲亞產親億僅從侖倉儀們價眾優會傘偉傳傷倫偽體餘傭僑侶俠債傾償兒黨蘭關興養獸"
    "內岡冊寫軍農馮衝決況凍淨涼減湊幾鳳憑凱擊創別劉則剛刪劍劇勸辦務動勵勁勞勢勝區醫華協單賣盧衛卻廠廳曆歷壓厭參雙發變敘葉號嘆嚇嗎啟吳員"
    "聽響問園圍國圖圓聖場壞塊堅壇墳壟墾墊處備復夠頭誇夾奪奮獎奧婦媽嬌孫學寧寶實寵審憲宮寬賓對尋導壽將爾塵嘗層屬歲豈島峽嶺崗幣帥師帳帶幫"
    "幹廣莊慶庫應廟廢開異張彌彎強歸當錄徑憶憂懷態憐總戀懇惡惱慣慘憤懶戰戲戶撲執擴掃揚擾撫拋搶護報擔擬攏擁攔擇掛揮損換據敵數斷無舊時曠晝"
    "顯曉暫術機殺雜權條來楊極構槍標樣檢歐歡殘毀畢氣漢湯溝沒滬淚澤潔濃測濟瀏渾湧濤漲漸漁溫灣濕滅燈靈災爐點煉煙煩燒熱愛爺牆牽犧狀猶獨獅"
    "獄獵現環瑪電畫暢療癢瘋監盤蓋盜礦碼磚確礎禮禍離種積稱穩窮竅競筆築簡籃類糧緊約級紀純紙紛紐線練組細織終紹經結給絡統絕繼績續維綠編緣縣"
    "縮總網羅罰職聯聰肅腸膚腦臟臉艦艙藝節蘇蘋範莖薦藍藥蘿虛蟲蛋補裝襲見觀規視覺覽譽計訂認討讓訓議記講許論設訪證評識訴詞試詩話該詳語誤說"
    "請諸讀課誰調談謝譯豬貝負財責賢敗貨質販貪貧購貫貴費賀資賽贊贈趙趕躍車軌軟轉輪輕載較輛輸轄達遷過運還這進遠違連遲適選遺遼鄧鄭鄰醬釋裡裏"
    "鑒針釣鈣鋼鐘鑰鐵鈴鉛銀銅鋁鎖錢錯錫錦鍵鎮鏡長門閃閉間閣聞閱隊陽陰陣階際陸陳險隨隱難雞霧靜韓頁頂項順須預領頻題顏額願顛風飛飯飲餅館饅馬駕"
    "駐騎驚驗骨魚魯鮮鯨鳥鳴鴨鴻鵝鶴麥黃齊齒龍龜後樓橋葉颱臺鐵課簽橡麵鹽"
)
_SIMPLIFIED = (
    "万与专业东丝两严丧个丰临为丽举么义乌乐乔习乡书买乱争于亏云亚产亲亿仅从仑仓仪们价众优会伞伟传伤伦伪体余佣侨侣侠债倾偿儿党兰关兴养兽"
    "内冈册写军农冯冲决况冻净凉减凑几凤凭凯击创别刘则刚删剑剧劝办务动励劲劳势胜区医华协单卖卢卫却厂厅历历压厌参双发变叙叶号叹吓吗启吴员"
    "听响问园围国图圆圣场坏块坚坛坟垄垦垫处备复够头夸夹夺奋奖奥妇妈娇孙学宁宝实宠审宪宫宽宾对寻导寿将尔尘尝层属岁岂岛峡岭岗币帅师帐带帮"
    "干广庄庆库应庙废开异张弥弯强归当录径忆忧怀态怜总恋恳恶恼惯惨愤懒战戏户扑执扩扫扬扰抚抛抢护报担拟拢拥拦择挂挥损换据敌数断无旧时旷昼"
    "显晓暂术机杀杂权条来杨极构枪标样检欧欢残毁毕气汉汤沟没沪泪泽洁浓测济浏浑涌涛涨渐渔温湾湿灭灯灵灾炉点炼烟烦烧热爱爷墙牵牺状犹独狮"
    "狱猎现环玛电画畅疗痒疯监盘盖盗矿码砖确础礼祸离种积称稳穷窍竞笔筑简篮类粮紧约级纪纯纸纷纽线练组细织终绍经结给络统绝继绩续维绿编缘县"
    "缩总网罗罚职联聪肃肠肤脑脏脸舰舱艺节苏苹范茎荐蓝药萝虚虫蛋补装袭见观规视觉览誉计订认讨让训议记讲许论设访证评识诉词试诗话该详语误说"
    "请诸读课谁调谈谢译猪贝负财责贤败货质贩贪贫购贯贵费贺资赛赞赠赵赶跃车轨软转轮轻载较辆输辖达迁过运还这进远违连迟适选遗辽邓郑邻酱释里里"
    "鉴针钓钙钢钟钥铁铃铅银铜铝锁钱错锡锦键镇镜长门闪闭间阁闻阅队阳阴阵阶际陆陈险随隐难鸡雾静韩页顶项顺须预领频题颜额愿颠风飞饭饮饼馆馒马驾"
    "驻骑惊验骨鱼鲁鲜鲸鸟鸣鸭鸿鹅鹤麦黄齐齿龙龟后楼桥叶台台铁课签橡面盐"
)
_CHARACTERS = {
    **str.maketrans(_TRADITIONAL, _SIMPLIFIED),
    **str.maketrans("‘’‛“”„«»「」『』‐‑‒–—−～", '\'\'\'"""""""""------~'),
    **{ord(c): None for c in "\u200b\u200c\u200d\u2060\ufeff\u00ad"},
}
_VULGAR = re.compile(r"(\d)([¼-¾⅐-⅞])")


def normal(text: str) -> str:
    """The first `LONGEST` characters with one width, one script of Chinese, no accents, plain quotes and dashes.

    Case stays: names and months are known by it.
    """
    text = _VULGAR.sub(r"\1 \2", text[:LONGEST])  # else 1½ would become 11/2
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/").translate(_CHARACTERS)
    if not text.isascii():
        text = _without_accents(text)
    return text[:LONGEST]


def lower(text: str) -> str:
    """Small letters, character for character, so that positions stay."""
    return "".join(c if len(small := c.lower()) != 1 else small for c in text)


def is_han(char: str) -> bool:
    """A character of Chinese, which is written without spaces."""
    return "\u3400" <= char <= "\u9fff" or "\U00020000" <= char <= "\U0003ffff" or char == "〇"


def _without_accents(text: str) -> str:
    apart = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in apart if not "\u0300" <= c <= "\u036f"))
