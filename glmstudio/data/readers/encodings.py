"""The encoding of a text that does not say it. Bytes are valid in many encodings and mean something in one: each
candidate is decoded, and what comes out must read like its language. Where that is not sure, they are named instead.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from glmstudio.errors import StudioError

BROKEN = re.compile("[\udc80-\udcff]")  # bytes that are no characters, as `surrogateescape` keeps them
_SAMPLE = 1 << 17  # bytes that are scored, from the first one that is not ASCII
_SURE, _CLEAR = 0.42, 0.6  # what reads so well is known, if nothing else reads more than so much of it
_MOST_BROKEN = 0.02  # of what is not ASCII may be a slip
_WHOLE = 0.95  # of what is not ASCII: nearly all of it
_UNLIKELY = 0.25
_GUESSES = 3
_ASCII_ZEROS = 0.4  # of the bytes of UTF-16, at least, where the text is ASCII
_MIXED = re.compile("[A-Za-z][Ѐ-ӿ]|[Ѐ-ӿ][A-Za-z]")
_FEW = 8  # bytes that are no text: so few may be slips in a text that is ASCII

_SIMPLIFIED = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多"
    "经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明"
    "性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世"
    "位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量"
    "再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完"
    "设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运请吗呢吧啊谢您哪怎岁每吃喝睡病药"
    "店车站城江河湖春夏秋冬晴雨雪风热冷左右买卖钱元角块答案示例图文字词句段字写读听说译英语汉京沪广深州省县街花草树木鸟鱼狗猫"
    "米饭茶酒肉菜红黄蓝绿黑六七八九百千零帮助推荐介绍简单详细步骤首末适穿衣步跑跳玩爱喜欢快乐玫瑰公园再贴近"
)
_TRADITIONAL = frozenset(
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多"
    "經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明"
    "性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西斯月話合回特代內信表化老給世"
    "位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神總何電數安少報才結反受目太量"
    "再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則聽白卻界達光放強即像難且權思王象完"
    "設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候帶導爭運請嗎呢吧啊謝您哪怎歲每吃喝睡病藥"
    "店車站城江河湖春夏秋冬晴雨雪風熱冷左右買賣錢元角塊答案示例圖文字詞句段寫讀譯英語漢京滬廣深州省縣街花草樹木鳥魚狗貓米飯茶"
    "酒肉菜紅黃藍綠黑六七八九百千零幫助推薦介紹簡單詳細步驟適穿衣跑跳玩愛喜歡快樂公園附近灣臺台嘛"
)
_KANA = frozenset(map(chr, [*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), 0x30FC]))
_KANJI = _KANA | frozenset(
    "日一人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千水半男西電校語土木聞"
    "食車何南万毎白天母火右読友左休父雨会同事自社発者地業方新場員立開手力問代明動京目通言理体田主題意不作用度強公持野以思家世多"
    "正安院心界教文元重近考画海売知道集別物使品計死特私始朝運終台広住真有口少町料工建空急止送切転研足究楽起着店病質待試族銀早映"
    "親験英医仕去味写字答夜音注帰古歌買悪図週室歩風紙黒花春赤青館屋色走秋夏習駅洋旅服夕借曜飲肉貸堂鳥飯勉冬昼茶弟牛魚兄犬妹姉漢"
    "晴曇雪何方県市区村東京大阪都府国語説明例教願好関係"
)
_HANGUL = frozenset(
    "이다는을가에의고하지은로도사리기서나대한어아를해시있인정자일전수부그만요니까라게여과들면주안제장상보것신동오구내우조성세원저적비때"
    "무소할진위습었했명연으거없말관분교국문치되모물생마음화산경중간습공호단계당방학유재현개용러스네것선후결심각입실반차양날씨운행님란감"
    "트드와며데예바야따년월회업체민합맑늘좋워떻무엇글번영미외천출식금집미북남서울강원점표래년같못받많잘살녕두찾먹맛려줘"
)
_CYRILLIC = frozenset("оеаинтсрвлкмдпуяызьіїє")
_EAST = frozenset("，。？！、：；“”‘’（）《》「」『』【】…—·～　％＋－＝／０１２３４５６７８９〇々ー｡､")
_VOWELS = frozenset("aeiouyáéíóúü")


def _alphabets(*letters: str) -> tuple[frozenset[str], ...]:
    return tuple(map(frozenset, letters))


_WESTERN = _alphabets(
    "äöüßé", "áéíóúüñ¿¡ºª", "àâæçéèêëîïôœùûü", "áâãàçéêíóôõúüºª", "àèéìíòóùú", "åäöé", "æøåéèóòôü", "éèëïóöüáê",
    "àçèéíïòóúü·", "áæðéíóöúýþ",
)  # fmt: skip
_CENTRAL = _alphabets("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áéíóöőúüű", "čćđšž", "ăâîşţ", "áäčďéíĺľňóôŕšťúýž", "äöüßé")
_TURKISH = _alphabets("çğıiöşüâîû")
_BALTIC = _alphabets("āčēģīķļņšūžō", "ąčęėįšųūž", "äõöüšž")
_PRINTED = frozenset("€£§©®°•«»“”‘’„‚–—…™\u00a0")
_DASHES = "–—"


@dataclass(frozen=True)
class _Candidate:
    """An encoding, how people call it, and how much of what is not ASCII in a text reads like its language."""

    codec: str
    name: str
    score: Callable[[str], float]


def encoding_of(head: bytes) -> str:
    """The codec for a file that begins with these bytes. Raises StudioError where it cannot be known.

    A mark says it (UTF-8, UTF-16, UTF-32); UTF-8 is known by itself, also with a slip; UTF-16 by its zero bytes.
    """
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec
    if codec := _by_zeros(head):
        return codec
    if b"\x1b$" in head and head.isascii() and _decoded("iso2022_jp", head) is not None:
        return "iso2022_jp"
    as_utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(head)
    broken = len(BROKEN.findall(as_utf8))
    whole = sum(character > "\x7f" for character in as_utf8) - broken if broken else 0
    return "utf-8-sig" if broken <= whole else _by_reading(head, broken)


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _by_zeros(head: bytes) -> str:
    """UTF-16 and UTF-32 without a mark: the line ends, commas and braces of a text have zero bytes, all at one side."""
    size = len(head) & ~3
    if not head[:size].count(0):
        return ""
    zeros = [head[at:size:4].count(0) for at in range(4)]
    quarter = size // 4
    for codec, empty, full in (("utf-32-le", (2, 3), 0), ("utf-32-be", (0, 1), 3)):
        if all(zeros[at] >= quarter * 0.98 for at in empty) and zeros[full] == 0:
            return codec
    even, odd = zeros[0] + zeros[2], zeros[1] + zeros[3]
    codec = "utf-16-le" if odd and not even else "utf-16-be" if even and not odd else ""
    if even + odd < size * _ASCII_ZEROS and _is_utf8(head.replace(b"\0", b"")):
        return ""  # a zero byte by mistake
    try:
        text = codecs.getincrementaldecoder(codec)("strict").decode(head[:size]) if codec else ""
    except UnicodeDecodeError:
        return ""
    return codec if any(sign in text for sign in ("\n", '"', ",", "。", "，")) and _is_printable(text) else ""


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _is_printable(text: str) -> bool:
    return not any(sign < " " and sign not in "\t\r\n\f" for sign in text[:4096])


def _by_reading(head: bytes, broken: int) -> str:
    sample = _sample(head)
    found = []
    for candidate in _CANDIDATES:
        text = _decoded(candidate.codec, sample)
        if text is not None:
            found.append((candidate.score(text), candidate, text))
    found.sort(key=lambda each: -each[0])
    if found and found[0][0] >= _SURE:
        best, candidate, text = found[0]
        if all(score <= best * _CLEAR or other == text for score, _, other in found[1:]):
            return candidate.codec
    chinese = next((text for _, candidate, text in found if candidate.codec == "gb18030"), "")
    others = [score for score, candidate, _ in found if candidate.codec != "gb18030"]
    if chinese and max(others, default=0.0) <= _UNLIKELY and _is_simplified(chinese):
        return "gb18030"
    if broken < _FEW and not (found and found[0][0] >= _SURE):
        return "utf-8-sig"  # slips in a text that is ASCII: each of its lines is told
    likely = [candidate for score, candidate, _ in found if score > 0.1][:3]
    names = [each.name for each in likely] + _guessed(sample, [each.codec for each in likely])
    raise StudioError("data.encoding_unknown", candidates=", ".join(names) or "?")


def _sample(head: bytes) -> bytes:
    """A part of the bytes that is not ASCII alone, from a line's beginning."""
    first = next((at for at, byte in enumerate(head) if byte > 0x7F), 0)
    start = head.rfind(b"\n", 0, first) + 1
    return head[max(start, first - 4096) :][:_SAMPLE]


def _decoded(codec: str, sample: bytes) -> str | None:
    """The sample as text; None where more than a slip of it is not in this encoding."""
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
    high = sum(character > "\x7f" for character in text)
    return text if text.count("\ufffd") <= high * _MOST_BROKEN else None


def _guessed(sample: bytes, known: list[str]) -> list[str]:
    """What a detector takes it for, to help who has to say it."""
    from charset_normalizer import from_bytes

    found = [match.encoding for match in from_bytes(sample[: 1 << 14])]
    return [name for name in found if not name.startswith("utf") and codecs.lookup(name).name not in known][:_GUESSES]


def _share(expected: frozenset[str]) -> Callable[[str], float]:
    """A score: which part of the signs that are not ASCII, and are no marks of all East Asia, are usual."""

    def score(text: str) -> float:
        signs = [sign for sign in text if sign > "\x7f" and sign not in _EAST]
        return sum(sign in expected for sign in signs) / len(signs) if signs else 0.0

    return score


def _words(languages: tuple[frozenset[str], ...]) -> Callable[[str], float]:
    """A score: letters with accents stand as they do in words, and nearly all of them belong to one language."""

    def score(text: str) -> float:
        good = total = 0
        letters: dict[str, int] = {}
        padded = f" {text} "
        for at, sign in enumerate(padded):
            if sign <= "\x7f":
                continue
            total += 1
            before, after = padded[at - 1], padded[at + 1]
            if sign in _PRINTED:
                good += not (sign in _DASHES and before.isalpha() and after.isalpha())
            elif _fits(sign, before, after):
                letters[sign.lower()] = letters.get(sign.lower(), 0) + 1
        most = max(sum(count for sign, count in letters.items() if sign in language) for language in languages)
        share = (good + most) / total if total else 0.0
        return share if share >= _WHOLE else 0.0

    return score


def _fits(sign: str, before: str, after: str) -> bool:
    """Whether a letter stands where one of its kind does in a word."""
    if sign in "¿¡ºª·":
        return (after if sign in "¿¡" else before).isalnum()
    if sign == "ń" and after in _VOWELS:  # Polish writes `ni` there; it is the ñ of another encoding
        return False
    if sign.isupper() and sign != "İ":
        return not before.isalpha() or before.isupper()
    around = [each for each in (before, after) if each.isalpha()]
    return any(each <= "\x7f" for each in around) or (not around and sign in "àéèáóíúaeiouy")


def _cyrillic(text: str) -> float:
    """Words of Cyrillic letters alone, the frequent ones frequent: other alphabets land on the rare ones."""
    letters = [sign for sign in text if sign.isalpha() and sign > "\x7f"]
    mixed = sum(1 for _ in _MIXED.finditer(text))
    share = sum(sign.lower() in _CYRILLIC for sign in letters) / len(letters) if letters else 0.0
    small = sum(sign.islower() for sign in letters) / len(letters) if letters else 0.0
    return share if share >= 0.78 and small > 0.6 and mixed * 50 <= len(letters) and len(letters) >= 8 else 0.0


def _is_simplified(text: str) -> bool:
    """Whether nearly all of it is of the first level of GB2312: rare words, but Chinese ones."""
    signs = [sign for sign in text if sign > "\x7f" and sign not in _EAST]
    first = sum(0xB0 <= sign.encode("gb2312", "replace")[0] <= 0xD7 for sign in signs)
    return len(signs) >= _FEW and first >= _WHOLE * len(signs)


_CANDIDATES = (
    _Candidate("gb18030", "GB18030 (GBK)", _share(_SIMPLIFIED | _TRADITIONAL)),
    _Candidate("cp950", "Big5", _share(_TRADITIONAL)),
    _Candidate("cp932", "Shift-JIS", _share(_KANJI)),
    _Candidate("euc_jp", "EUC-JP", _share(_KANJI)),
    _Candidate("cp949", "EUC-KR", _share(_HANGUL)),
    _Candidate("cp1252", "Windows-1252", _words(_WESTERN)),
    _Candidate("cp1250", "Windows-1250", _words(_CENTRAL)),
    _Candidate("cp1254", "Windows-1254", _words(_TURKISH)),
    _Candidate("cp1257", "Windows-1257", _words(_BALTIC)),
    _Candidate("cp1251", "Windows-1251", _cyrillic),
    _Candidate("koi8_r", "KOI8-R", _cyrillic),
)
