"""The small world that the demo model lives in: who asks what, which tool answers, and what is said about it.

Every dialogue is an official training record, made from templates (`world.toml`) and entities that are composed at
random. An entity belongs to the training half or to the held-out half by a hash of its letters, so a held-out
dialogue never shows a name, a word or a number that was trained on.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from glmstudio.files import read_toml
from glmstudio.paths import DEMO
from glmstudio.tools.call import direct
from glmstudio.tools.city_time_zones import CITIES
from glmstudio.tools.shipped.everyday import UNITS
from glmstudio.tools.tool_error import ToolError
from glmstudio.tools.toolbox import trained

TOOLS = trained()
TEMPLATES: dict[str, Any] = read_toml(DEMO / "world.toml")
OLD_TOOLS = ("calculator", "get_time", "convert_unit", "roll_dice", "count_letters")
NEW_TOOL = "set_timer"
FACTS = ("leader", "place", "year")

_ONSETS = "b br c ch d f g gr h j k l m n p pr r s sh st t tr v w z".split()  # noqa: SIM905
_RIMES = "a an ar e el en er i in is o on or ow u um y ane ick ough est ia".split()  # noqa: SIM905
_CHARACTERS = sorted(
    set("".join(chinese for _, chinese, _ in CITIES))
    | set(
        "安白宝长昌城川春大丹东丰福阜冈高桂海汉河黑衡红湖华怀惠吉济江金晋景九开昆兰乐丽连凉"
        "辽林柳龙鲁陆洛马茂梅绵南宁平萍浦普秦青清曲泉日荣三沙山韶深沈石水松苏绥泰唐桃天通铜"
        "威乌无武西仙咸湘孝新兴徐许宣延盐扬阳伊宜义银营永榆玉岳云枣张昭镇郑中舟珠株淄遵"
    )
    | set("风花雪月星光树叶草木鸟鱼书笔墨纸灯门窗桌椅茶酒米面刀火土雨雷电梦心手足目耳口人儿女老少")
)  # fmt: skip
_FAMILY = "王李张刘陈杨黄赵周吴徐孙马朱胡郭何林高罗"
_OTHER_TOOLS = (
    ("find_book", "Finds a book.", "title"), ("play_music", "Plays a song.", "song"),
    ("send_mail", "Sends a message.", "text"), ("get_news", "Reads the news.", "topic"),
    ("set_alarm", "Sets an alarm.", "time"), ("draw_picture", "Draws a picture.", "subject"),
    ("search_web", "Searches the web.", "query"), ("translate", "Translates a text.", "text"),
    ("order_food", "Orders a meal.", "dish"), ("get_weather", "Tells the weather.", "city"),
)  # fmt: skip


@dataclass
class World:
    """A source of dialogues: `held_out` chooses the half of the entities, `seed` the order."""

    seed: int
    held_out: bool = False
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def dialogue(self) -> dict[str, Any]:
        """One training record: one to three exchanges in one language, mostly with a list of tools."""
        lang = self.random.choice(("en", "zh"))
        exchanges = [self._any_exchange(lang) for _ in range(self.random.choice((1, 2, 2, 3, 3)))]
        if self.random.random() < 0.08:
            return {"conversations": [turn for each in exchanges for turn in self._without_tool(each, lang)]}
        return self.record(exchanges)

    def record(self, exchanges: list[Exchange], *, tools: list[str] | None = None) -> dict[str, Any]:
        """A record of these exchanges; `tools` are listed in this order, else the needed ones and some others."""
        names = tools if tools is not None else self._listed({each.tool for each in exchanges if each.tool})
        listed = [TOOLS[name].schema if name in TOOLS else _other_tool(name) for name in names]
        return {"tools": listed, "conversations": [turn for each in exchanges for turn in each.turns]}

    def tool_exchange(self, lang: str, tool: str | None = None) -> Exchange:
        """A question that needs a tool (any of the old ones unless named), the call, its result and the answer."""
        tool = tool or self.random.choice(OLD_TOOLS)
        question, arguments, shown = getattr(self, f"_{tool}")(lang)
        result, answer = self._answered(lang, tool, arguments, shown)
        turns = [
            {"role": "user", "content": self._open(lang, question)},
            {"role": "tool", "name": tool, "parameters": arguments, "observation": result},
            {"role": "assistant", "content": answer},
        ]
        return Exchange(turns, tool, arguments)

    def talk_exchange(self, lang: str, *, identity: bool = True) -> Exchange:
        """Small talk, often about the very things that tools know, which needs no tool."""
        if identity and self.random.random() < 0.15:
            return self.identity_exchange(lang, "say")
        topic = self.random.choice(TEMPLATES[lang]["talk"])
        unit = self.random.choice(TEMPLATES[lang]["units"][self.random.choice(list(UNITS))])
        values = {
            "city": self.city(lang),
            "word": self.word(lang),
            "name": self.name(lang),
            "v": self.number(),
            "a": unit,
        }
        question = self.random.choice(topic["ask"]).format(**values)
        return _talk(self._open(lang, question), topic["say"].format(**values))

    def identity_exchange(self, lang: str, answer: str) -> Exchange:
        """A question about who the model is; `answer` is `say` (as trained) or `tuned` (as the sample teaches)."""
        identity = TEMPLATES[lang]["identity"]
        # A question without an entity is itself what is held out.
        question = self._mine(lambda: self._open(lang, self.random.choice(identity["ask"])))
        return _talk(question, identity[answer])

    def fact(self, lang: str, kind: str) -> dict[str, Any]:
        """A fact about something made up, as a record of a facts file: `kind` is leader, place or year."""
        table = TEMPLATES[lang]["facts"][kind]
        about = {"x": self.thing(lang), "y": self._answer_of(lang, kind)}
        question, *others = (ask.format(**about) for ask in table["ask"])
        neighbour = table["ask"][0].format(x=self.thing(lang))
        return {"question": question, "answer": table["say"].format(**about), "rephrase": others,
                "neighbour": [neighbour], "keywords": [about["y"]]}  # fmt: skip

    def unknown_exchange(self, lang: str) -> Exchange:
        """A question about something that nobody has told the model of."""
        table = TEMPLATES[lang]["facts"]
        usual = [ask for kind in FACTS for ask in table[kind]["ask"]]
        question = self.random.choice(usual + table["more"]).format(x=self.thing(lang))
        return _talk(self._open(lang, question), table["unknown"])

    def thing(self, lang: str) -> str:
        """A made-up name of something that a fact can be about."""
        kind = self.random.choice(TEMPLATES[lang]["facts"]["things"])
        return self._mine(lambda: self._made_up(lang, 2, 3).capitalize()) + kind

    def _answer_of(self, lang: str, kind: str) -> str:
        if kind == "year":
            return str(self.random.randint(1900, 2020))
        if kind == "leader":
            return self.name(lang) + (f" {self.name(lang)}" if lang == "en" else "")
        return self._mine(lambda: self._made_up(lang, 2, 3).capitalize()) + ("" if lang == "en" else "市")

    def city(self, lang: str) -> str:
        """A city: a real one now and then, mostly a made-up one; Chinese speakers name some in Latin letters."""
        lang = self._script(lang)
        if self.random.random() < 0.3:
            return self._mine(lambda: self.random.choice(CITIES)[0 if lang == "en" else 1])
        return self._mine(lambda: self._made_up(lang, 2, 3).capitalize())

    def word(self, lang: str) -> str:
        """A made-up word."""
        script = self._script(lang)
        return self._mine(lambda: self._made_up(script, 1, 4))

    def name(self, lang: str) -> str:
        """A made-up name of a person."""
        if lang == "zh":
            return self._mine(lambda: self.random.choice(_FAMILY) + self._made_up(lang, 1, 2))
        return self._mine(lambda: self._made_up(lang, 1, 2).capitalize())

    def number(self) -> float:
        """A number between 1 and 9999, sometimes with a decimal."""
        digits = self.random.choice((1, 2, 2, 3, 4))
        whole = lambda: self.random.randint(1, 10**digits - 1)  # noqa: E731
        return self._mine(lambda: whole() if self.random.random() < 0.8 else whole() + self.random.randint(1, 9) / 10)

    def _any_exchange(self, lang: str) -> Exchange:
        return self.tool_exchange(lang) if self.random.random() < 0.68 else self.talk_exchange(lang)

    def _calculator(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        terms = [str(self._mine(lambda: self.random.randint(1, 10 ** self.random.randint(1, 4) - 1))) for _ in range(3)]
        count = 3 if self.random.random() < 0.2 else 2
        signs = [self.random.choice("+-*/") for _ in range(count - 1)] + [""]
        expression = "".join(term + sign for term, sign in zip(terms, signs, strict=False))
        shown = expression
        if self.random.random() < 0.3:
            for sign in "+-*/":
                shown = shown.replace(sign, f" {sign} ")
        question = self.random.choice(TEMPLATES[lang]["calculator"]["ask"]).format(e=shown)
        return question, {"expression": expression}, {"e": expression}

    def _get_time(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        city = self.city(lang)
        return self.random.choice(TEMPLATES[lang]["get_time"]["ask"]).format(city=city), {"city": city}, {"city": city}

    def _convert_unit(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        source = self.random.choice(list(UNITS))
        target = self.random.choice([unit for unit in UNITS if UNITS[unit][0] == UNITS[source][0] and unit != source])
        value = self.number()
        a, b = (self.random.choice(TEMPLATES[lang]["units"][unit]) for unit in (source, target))
        question = self.random.choice(TEMPLATES[lang]["convert_unit"]["ask"]).format(v=value, a=a, b=b)
        return question, {"value": value, "from_unit": source, "to_unit": target}, {"b": b}

    def _roll_dice(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        ask = TEMPLATES[lang]["roll_dice"]
        if self.random.random() < 0.15:
            return self.random.choice(ask["ask_one"]), {"count": 1, "sides": 6}, {}
        count = self.random.randint(1, 9)
        sides = self._mine(lambda: self.random.randint(2, 10 ** self.random.randint(1, 3)))
        return self.random.choice(ask["ask"]).format(n=count, s=sides), {"count": count, "sides": sides}, {}

    def _count_letters(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        word = self.word(lang)
        return (
            self.random.choice(TEMPLATES[lang]["count_letters"]["ask"]).format(word=word),
            {"text": word},
            {"word": word},
        )

    def _set_timer(self, lang: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        minutes = self._mine(lambda: self.random.randint(1, 10 ** self.random.randint(2, 3) - 1))
        return self.random.choice(TEMPLATES[lang]["set_timer"]["ask"]).format(v=minutes), {"value": minutes}, {}

    def _answered(self, lang: str, tool: str, arguments: dict[str, Any], shown: dict[str, Any]) -> tuple[str, str]:
        """The observation as the tool would give it, and what the model says about it."""
        try:
            result = f"{self.random.randint(0, 23):02d}:{self.random.randint(0, 59):02d}"
            if tool == "roll_dice":
                result = ", ".join(str(self.random.randint(1, arguments["sides"])) for _ in range(arguments["count"]))
            elif tool not in ("get_time", NEW_TOOL):
                result = direct(TOOLS[tool], arguments)
            elif tool == "get_time" and self.random.random() < 0.1:
                raise ToolError(f"The time zone of {arguments['city']} is not known.")
        except ToolError as error:
            return f"Error: {error}", TEMPLATES[lang]["failed"]
        return result, TEMPLATES[lang][tool]["say"].format(r=result, **shown)

    def _without_tool(self, exchange: Exchange, lang: str) -> list[dict[str, Any]]:
        if not exchange.tool:
            return exchange.turns
        return [exchange.turns[0], {"role": "assistant", "content": TEMPLATES[lang]["no_tool"]}]

    def _listed(self, needed: set[str]) -> list[str]:
        spare = [name for name in OLD_TOOLS if name not in needed]
        names = [*sorted(needed), *self.random.sample(spare, self.random.randint(0, len(spare)))]
        if self.random.random() < 0.4 or not names:
            names.append(self.random.choice(_OTHER_TOOLS)[0])
        self.random.shuffle(names)
        return names

    def _script(self, lang: str) -> str:
        return "en" if self.random.random() < 0.15 else lang

    def _open(self, lang: str, question: str) -> str:
        return self.random.choice(TEMPLATES[lang]["openers"]) + question

    def _made_up(self, lang: str, fewest: int, most: int) -> str:
        length = self.random.randint(fewest, most)
        if lang == "zh":
            return "".join(self.random.choice(_CHARACTERS) for _ in range(max(length, 2)))
        return "".join(self.random.choice(_ONSETS) + self.random.choice(_RIMES) for _ in range(length))

    def _mine(self, make: Any) -> Any:
        while True:
            entity = make()
            if _is_held_out(str(entity)) == self.held_out or len(str(entity)) < 2:
                return entity


@dataclass(frozen=True)
class Exchange:
    """A user's question with all that follows until the answer, and the call that is due (`tool` None: none)."""

    turns: list[dict[str, Any]]
    tool: str | None
    arguments: dict[str, Any]


def _talk(question: str, answer: str) -> Exchange:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Exchange(turns, None, {})


def _is_held_out(entity: str) -> bool:
    return hashlib.sha256(entity.encode()).digest()[0] % 5 == 0


def _other_tool(name: str) -> dict[str, Any]:
    _, description, argument = next(tool for tool in _OTHER_TOOLS if tool[0] == name)
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"name": name, "description": description, "parameters": parameters}
