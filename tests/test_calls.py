"""Calls as text: what is rendered is read back, what is not a call is a CallError, and nothing is ever run."""

from __future__ import annotations

import json
import keyword
import os
import random
import sys
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmstudio.families.python_calls import CallError, fenced, parse_call, render_call
from glmstudio.syntax import module
from tests.waiting import not_for_ever

pytestmark = pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")  # of Python's parser

EVENTS: list[str] = []
_WATCHED = ("open", "exec", "import", "os.", "subprocess.", "socket.", "ctypes.", "shutil.")
_ON: list[bool] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _ON and event.startswith(_WATCHED):
        EVENTS.append(f"{event} {arguments[0]}" if event == "open" else event)


sys.addaudithook(_note)

NAMES = st.from_regex(r"[a-zA-Z_\u4e00-\u4eff][a-zA-Z0-9_\u4e00-\u4eff]{0,11}", fullmatch=True) | st.sampled_from(
    [*(each for each in keyword.kwlist), "argument_from", "argument_x", "argument_argument_in", "tool_call", "self"]
)
TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "```",
        "```python\ntool_call(x=1)\n```",
        "'",
        '"',
        "\\",
        "'''",
        "\n",
        "\x00",
        "\u202e",
        "<|user|>",
        "💥",
        "'); import os",
        "{x}",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
CALLS = st.dictionaries(NAMES, VALUES, max_size=5)
FAST = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def quietly(text: str) -> dict[str, Any] | None:
    """What `parse_call` makes of it (None: CallError), while nothing but parsing goes on, and not for long."""
    EVENTS.clear()
    with not_for_ever():
        _ON.append(True)
        try:
            found = parse_call(text)
        except CallError:
            found = None
        finally:
            _ON.clear()
    assert EVENTS == []
    if found is not None:
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    return found


@settings(FAST, max_examples=200)
@given(CALLS)
def test_what_is_rendered_is_read_back(arguments: dict[str, Any]) -> None:
    assert quietly(render_call(arguments)) == arguments


PIECES = [
    "tool_call", "(", ")", "=", ",", "```", "```python\n", "'", '"', "\\", "\n", "*", "**", "lambda: ", "[", "]", "{", "}", ":", "x",
    "from=", "__import__('os').system('id')", "1e999", "1_000", "0x10", "b'a'", "f'{x}'", "...", "-", "+1j", "not ", "None", "if 1 else 2",
    "for x in y", "\x00", "\u2028", "\ufeff", "#", ";", ":=", "await ", "yield", "(" * 50, "ａrgument_", "\\ud83d\\ude00", "\\udc00",
]  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randint(0, len(text)) for _ in range(2))
        kind = chance.random()
        if kind < 0.5:
            text = text[:at] + chance.choice(PIECES) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[end:] if end - at < 20 else text[:at] + text[at + 1 :]
        elif kind < 0.85:
            text = text[:at] + text[at : at + 10] * 2 + text[at + 10 :]
        else:
            text = text[:at] + chance.choice(PIECES) + text[min(at + 3, len(text)) :]
    return text


@pytest.mark.rare
@pytest.mark.slow
@settings(FAST, max_examples=1500)
@given(CALLS)
def test_many_more_are_read_back(arguments: dict[str, Any]) -> None:
    assert quietly(render_call(arguments)) == arguments


@settings(FAST, max_examples=150)
@given(CALLS, st.integers(0, 2**32))
def test_what_is_mutated_is_a_call_or_a_call_error(arguments: dict[str, Any], seed: int) -> None:
    mutate(arguments, seed)


@pytest.mark.slow
@settings(FAST, max_examples=850)
@given(CALLS, st.integers(0, 2**32))
def test_many_more_are_calls_or_call_errors(arguments: dict[str, Any], seed: int) -> None:
    mutate(arguments, seed)


def mutate(arguments: dict[str, Any], seed: int) -> None:
    """Ten mutations of one call."""
    chance = random.Random(seed)
    for _ in range(10):
        found = quietly(mutated(render_call(arguments), chance))
        if found is not None:
            # What is read means what it renders to: nothing is read in two ways.
            assert quietly(render_call(found)) == found or any(
                unicodedata.normalize("NFKC", name) != name for name in found
            )


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("tool_call()", {}),
        ("```python\ntool_call(a=1)", {"a": 1}),
        ("```python\ntool_call(from='a', argument_from='b')\n```", {"from": "a", "argument_from": "b"}),
        ("```python\ntool_call(argument_from='b')\n```", {"argument_from": "b"}),
        (
            "tool_call(from='in=1 # if=2', # or=3\n  in=\"\"\"is='\n\"\"\", not \t=r'\\'as=1')",
            {"from": "in=1 # if=2", "in": "is='\n", "not": "\\'as=1"},
        ),
        ("```python\ntool_call(code='```')\n```", {"code": "```"}),
        ("```python\ntool_call(a='x')\n``` and ```python\nmore\n```", {"a": "x"}),
        ("tool_call(a=(1, (2,)))", {"a": [1, [2]]}),
        ("tool_call(a='\\ud83d\\ude00')", {"a": "😀"}),
        ("tool_call(a='\\ud83d')", {"a": "\ufffd"}),
        ("tool_call(a=-1, b=+2.5, c=None)", {"a": -1, "b": 2.5, "c": None}),
        ("tool_call(a='x' 'y')", {"a": "xy"}),
    ],
)
def test_calls_that_are_read(text: str, arguments: dict[str, Any]) -> None:
    assert quietly(text) == arguments


FORM = "The tool call must have the form tool_call(name=value)."
NAMED = "The tool call must name each argument: tool_call(name=value)."
INVALID = "The tool call is not valid. Write tool_call(name=value)."
PLAIN = "The argument a must be a plain value."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", INVALID),
        ("hello", FORM),
        ("tool_call", FORM),
        ("other(a=1)", FORM),
        ("os.tool_call(a=1)", FORM),
        ("tool_call(a=1)(b=2)", FORM),
        ("[tool_call(a=1)]", FORM),
        ("tool_call(a=1); x", INVALID),
        ("tool_call(a=1)\ntool_call(b=2)", INVALID),
        ("tool_call('a')", NAMED),
        ("tool_call(*[1])", NAMED),
        ("tool_call(**{'a': 1})", NAMED),
        ("tool_call(a=1, a=2)", "The argument a is given twice."),
        ("tool_call(a=b)", PLAIN),
        ("tool_call(a=f'{1}')", PLAIN),
        ("tool_call(a=__import__('os').system('id'))", PLAIN),
        ("tool_call(a=[x for x in [1]])", PLAIN),
        ("tool_call(a=(lambda: 1)())", PLAIN),
        ("tool_call(a=9**9**9)", PLAIN),
        ("tool_call(a='x'*10**9)", PLAIN),
        ("tool_call(a=1+2j)", PLAIN),
        ("tool_call(a=b'x')", PLAIN),
        ("tool_call(a={1, 2})", PLAIN),
        ("tool_call(a={1: 2})", PLAIN),
        ("tool_call(a={**{}})", PLAIN),
        ("tool_call(a={[]: 1})", PLAIN),
        ("tool_call(a=...)", PLAIN),
        ("tool_call(a=1e999)", PLAIN),
        ("tool_call(a=[-1e999])", PLAIN),
        ("tool_call(a=0x" + "f" * 4000 + ")", PLAIN),
        ("tool_call(a=" + "9" * 5000 + ")", INVALID),
        ("tool_call(a=" + "[" * 150 + "]" * 150 + ")", PLAIN),
        ("tool_call(a='\x00')", INVALID),
        ("tool_call(a='" + "x" * 20_000 + "')", "The tool call is too long."),
        ("```python\ntool_call(a='" + "x" * 20_000 + "')\n```", "The tool call is too long."),
    ],
)
def test_what_is_no_call(text: str, words: str) -> None:
    with pytest.raises(CallError) as caught:
        parse_call(text)
    assert str(caught.value) == words
    assert quietly(text) is None


@pytest.mark.parametrize(
    "value", ["[" * 9000 + "]" * 9000, "-" * 19_000 + "1", "x." * 9000 + "x", "1+" * 9000 + "1", "{1:" * 6000]
)
def test_deep_values_are_refused_whatever_the_parser_makes_of_them(value: str) -> None:
    assert quietly(f"tool_call(a={value})") is None


TOO_EARLY = [
    "",
    "\n",
    "\\",
    "\\\n",
    "'",
    "'''",
    '"""',
    "f'{",
    "[",
    "{",
    "(\n",
    "# no end",
    "'''\n\\",
    "\x00",
    "1if",
    "\ud800",
]


@pytest.mark.parametrize("end", TOO_EARLY)
@pytest.mark.parametrize(
    "begin", ["tool_call(a=", "tool_call(from=", "tool_call(a=1,\n  in=2, b=[", "```python\ntool_call(a='x', "]
)
def test_a_text_that_ends_too_early_opens_no_file(begin: str, end: str) -> None:
    assert quietly(begin + end) is None


BROKEN = [*PIECES, "'''", '"""', "\\\n", "\r", "class=", "if =", "0777", "\\N{x}", "# coding: x\n"]


@settings(FAST, max_examples=300)
@given(st.lists(st.sampled_from(BROKEN), max_size=12).map("".join))
def test_whatever_the_pieces_no_file_is_opened(text: str) -> None:
    quietly(text)
    quietly(f"tool_call(a={text})")


def test_a_broken_file_is_not_looked_for_by_a_name() -> None:
    """CPython opens what a module is said to come from, to show the line: then it is a file that is always empty."""
    EVENTS.clear()
    _ON.append(True)
    try:
        with pytest.raises(SyntaxError):
            module(b"x = 1\ny = (")
    finally:
        _ON.clear()
    assert set(EVENTS) <= {f"open {os.devnull}"}


@pytest.mark.parametrize("piece", ["'", '"', "'''", "\\'", "\\'''", "from ", "from=", "from", "\\\n", "''' \\", "#"])
def test_long_texts_of_one_piece_take_no_longer(piece: str) -> None:
    text = piece * (19_000 // len(piece))
    assert [quietly(f"tool_call({begin}{text}\\") for begin in ("", "from=")] == [None, None]


def test_many_fences_take_no_longer() -> None:
    assert quietly("```" * 5000 + "tool_call(a=1)" + "```" * 5000) is None
    assert fenced("a ```python\nb``` c ``` d") == "\nb"


@pytest.mark.slow  # 9 s
def test_many_threads_read_calls_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    text = render_call({"a": [{"b": [[[1, 2], {"c": (3, 4)}]]}] * 200})
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(parse_call, [text] * 200))
    assert found == [parse_call(text)] * 200
