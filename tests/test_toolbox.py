"""A file of Python as a source of tools: what is read from it, what is refused, and that reading never runs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from glmstudio.errors import StudioError
from glmstudio.paths import paths
from glmstudio.tools.permissions import folder, is_chosen, permission, set_folder, set_permission
from glmstudio.tools.signature_schema import read_tools
from glmstudio.tools.tool import Tool
from glmstudio.tools.toolbox import ToolError, check, toolbox, trained

SHIPPED = ["calculator", "get_time", "convert_unit", "roll_dice", "count_letters", "set_timer"]
SHIPPED += ["get_date", "interpreter", "list_files", "read_file", "text_statistics", "fetch_page"]


@pytest.fixture
def own(home: Path) -> Path:
    """The folder of the user's tools."""
    paths().tools.mkdir(parents=True)
    return paths().tools


def read(folder: Path, code: str | bytes, name: str = "mine.py") -> list[Tool]:
    file = folder / name
    file.write_bytes(code if isinstance(code, bytes) else code.encode())
    return read_tools(file)


def refused(folder: Path, code: str | bytes, name: str = "mine.py") -> str:
    with pytest.raises(StudioError) as caught:
        read(folder, code, name)
    return str(caught.value)


def schema_of(folder: Path, annotation: str) -> Any:
    (tool,) = read(folder, f'def f(x: {annotation}):\n    """F."""\n')
    return tool.parameters["properties"]["x"]


# What is read


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("dict", {"type": "object"}),
        ("dict[str, int]", {"type": "object"}),
        ("typing.Dict[str, int]", {"type": "object"}),
        ("list", {"type": "array"}),
        ("list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("List[str]", {"type": "array", "items": {"type": "string"}}),
        ("list[list[float]]", {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
        ("list[Literal['a']]", {"type": "array", "items": {"type": "string", "enum": ["a"]}}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}),
        ("typing.Literal[1, 2]", {"type": "integer", "enum": [1, 2]}),
        ("Literal[True]", {"type": "boolean", "enum": [True]}),
        ("Optional[int]", {"type": "integer"}),
        ("str | None", {"type": "string"}),
        ("None | list[int]", {"type": "array", "items": {"type": "integer"}}),
        ("'list[int]'", {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_types(tmp_path: Path, annotation: str, schema: dict[str, Any]) -> None:
    assert schema_of(tmp_path, annotation) == schema


@pytest.mark.parametrize(
    "annotation",
    [
        "bytes", "object", "Any", "set[int]", "tuple[int]", "str | int", "list[bytes]", "Literal['a', 1]", "Literal[None]",
        "Literal[b'a']", "Literal[x]", "5", "None", "'not python ('", "'\\x00'", "f()", "[int]", "list[int, str]", "lambda: 1",
        "'" + "(" * 300 + "'", f"Literal[{2**70}]", "Literal['\\ud800']",
    ],
)  # fmt: skip
def test_types_that_json_has_no_word_for(tmp_path: Path, annotation: str) -> None:
    assert refused(tmp_path, f'def f(x: {annotation}):\n    """F."""\n') == (
        "The argument x of f in mine.py, line 1, has no type that tools support. Add str, int, float, bool, "
        "list[…], dict or Literal[…], as in `city: str`."
    )


def test_a_whole_tool(tmp_path: Path) -> None:
    (tool,) = read(
        tmp_path,
        "NEEDS: list[str] = ['network', 'folder']\n"
        "PERMISSION = 'always'\n"
        "import re\n"
        "def _helper(x): pass\n"
        "class Thing: pass\n"
        "async def later(x: str): pass\n"
        "def weather(city: str, days: int = 3, *, units: Literal['C', 'F'] = 'C', exact: bool) -> str:\n"
        '    """Tells the weather\n    of a city.\n\n    More for people.\n\n'
        "    Args:\n        city: The city,\n            with its country.\n        days (int): How many.\n"
        "        other: Is no argument.\n\n    Returns:\n        exact: not this.\n"
        '    """\n',
    )
    assert tool == Tool(
        name="weather",
        description="Tells the weather of a city.",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city, with its country."},
                "days": {"type": "integer", "description": "How many."},
                "units": {"type": "string", "enum": ["C", "F"]},
                "exact": {"type": "boolean"},
            },
            "required": ["city", "exact"],
        },
        source="mine.py",
        permission_default="ask",
        file=tmp_path / "mine.py",
        needs=("network", "folder"),
    )
    assert tool.schema == {"name": "weather", "description": tool.description, "parameters": tool.parameters}
    assert (tool.title("zh"), tool.about("zh")) == ("weather", "Tells the weather of a city.")


def test_the_example_in_the_document(tmp_path: Path) -> None:
    document = (Path(__file__).parents[1] / "docs" / "tools.md").read_text(encoding="utf-8")
    (tool,) = read(tmp_path, document.partition("```python\n")[2].partition("```")[0], "weather.py")
    assert (tool.name, tool.description, tool.needs, tool.permission_default) == (
        "weather",
        "Tells the weather of a city for the next days.",
        ("network",),
        "ask",
    )
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city, in English."},
            "days": {"type": "integer", "description": "For how many days."},
            "units": {
                "type": "string",
                "enum": ["celsius", "fahrenheit"],
                "description": "In what the temperature is given.",
            },
        },
        "required": ["city"],
    }


def test_texts_are_bounded_and_can_be_written_as_utf_8(tmp_path: Path) -> None:
    (tool,) = read(
        tmp_path, f'def f(x: int):\n    """{"word " * 9000}\\ud800\n\n    Args:\n        x: \\udfff.\n    """\n'
    )
    assert len(tool.description) == 1000
    assert tool.parameters["properties"]["x"]["description"] == "?."
    assert json.dumps(tool.schema, ensure_ascii=False).encode()


# What is refused, in whole sentences


DOC = '    """F."""\n'


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n", "mine.py has no function that could be a tool. Write a function whose name does not begin with `_`."),
        ("", "mine.py has no function that could be a tool. Write a function whose name does not begin with `_`."),
        ("def f(:\n", "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        ("x = 1\n\n  y\n", "mine.py is not valid Python: line 3 cannot be read. Fix that line; the file is then read again by itself."),
        (b"\xff\xfe", "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        (b"x = 1\x00", "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        ("# coding: no-such\n", "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        ("(" * 5000, "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        ("x = " + "-" * 100_000 + "1", "mine.py is not valid Python: line 1 cannot be read. Fix that line; the file is then read again by itself."),
        ("def f():\n    pass\n", "The function f in mine.py, line 1, has no description. Give it a docstring: the model reads it to know when to call it."),
        ("\ndef f(*a: int):\n" + DOC, "The function f in mine.py, line 2, takes any number of arguments. Name each argument, so that the model knows what to fill in."),
        ("def f(**a: int):\n" + DOC, "The function f in mine.py, line 1, takes any number of arguments. Name each argument, so that the model knows what to fill in."),
        ("def f(a: int, /):\n" + DOC, "The function f in mine.py, line 1, takes any number of arguments. Name each argument, so that the model knows what to fill in."),
        ("def f(\n    a):\n" + DOC, "The argument a of f in mine.py, line 2, has no type that tools support. Add str, int, float, bool, list[…], dict or Literal[…], as in `city: str`."),
        ("def " + "f" * 65 + "():\n" + DOC, "The function in mine.py, line 1, has a name of more than 64 characters. Give it a shorter name: the model has to write it in every call."),
        ("#" * 1_000_001, "mine.py is too large for a tools file. Keep data in other files, and only the functions in this one."),
    ],
)  # fmt: skip
def test_broken_files(tmp_path: Path, code: str | bytes, words: str) -> None:
    assert refused(tmp_path, code) == words


@pytest.mark.parametrize(
    "needs",
    [
        "'network'",
        "['root']",
        "[1]",
        "[[]]",
        "{[]: 1}",
        "open('x')",
        "None",
        "['network'] + x",
        "{'network'}",
        "-x",
        "f''",
    ],
)
def test_needs_that_are_none(tmp_path: Path, needs: str) -> None:
    assert refused(tmp_path, f"NEEDS = {needs}\ndef f():\n{DOC}") == (
        "`NEEDS` in mine.py is not a list of permissions for tools. Write a list with these words: network, folder."
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("-rf.py", "-rf.py"),
        ("a;b.py", "a;b.py"),
        ("<img src=x>.py", "<img src=x>.py"),
        ("a\nb.py", "a?b.py"),
        ("\u202etxt.py", "?txt.py"),
        ("x" * 150 + ".py", "x" * 60),
        (os.fsdecode(b"bad\xff.py"), "bad?.py"),
        ("`a`.py", "`a`.py"),
    ],
)
def test_names_of_files_that_tools_cannot_have(tmp_path: Path, name: str, shown: str) -> None:
    assert refused(tmp_path, f"def f():\n{DOC}", name) == (
        f"The name of the file {shown} in the tools folder is not allowed for tools. Name it with up to 100 "
        "letters, digits, `_` or `-`, as in `weather.py`."
    )


@pytest.mark.parametrize("name", ["weather.py", "天气.py", "my tools (2).py", "a-b_c.d.py"])
def test_names_of_files_that_tools_can_have(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"def f():\n{DOC}", name)[0].source == name


def test_neither_links_nor_folders_nor_pipes(own: Path, tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text(f"def real():\n{DOC}")
    (own / "link.py").symlink_to(tmp_path / "real.py")
    (own / "gone.py").symlink_to("nowhere")
    (own / "folder.py").mkdir()
    os.mkfifo(own / "pipe.py")
    broken = toolbox().broken
    assert [str(each.problem) for each in broken] == [
        f"{name} in the tools folder is not a file. Put the file itself there, not a link or a folder."
        for name in ("folder.py", "gone.py", "link.py", "pipe.py")
    ]


# The box


def test_the_shipped_tools(home: Path) -> None:
    box = toolbox()
    assert list(box.tools) == SHIPPED
    assert box.broken == ()
    assert {tool.source for tool in box.tools.values()} == {"studio"}
    assert {
        name: tool.permission_default for name, tool in box.tools.items() if tool.permission_default != "always"
    } == {
        "interpreter": "never",
        "list_files": "ask",
        "read_file": "ask",
        "fetch_page": "never",
    }
    assert list(trained()) == SHIPPED[:6]


def test_reading_never_runs_a_file(own: Path, tmp_path: Path) -> None:
    mark = tmp_path / "harm"
    (own / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\nraise SystemExit\n"
        f"@open({str(mark)!r}, 'w')\ndef evil(x: str = open({str(mark)!r}, 'w')):\n{DOC}"
    )
    (own / "NEEDS.py").write_text(f"NEEDS = [open({str(mark)!r}, 'w')]\ndef evil(x: str):\n{DOC}")
    before = set(sys.modules)
    assert toolbox().tools["evil"].source == "evil.py"
    assert [each.file for each in toolbox().broken] == ["NEEDS.py"]
    assert not mark.exists()
    assert set(sys.modules) - before == set()
    assert not (own / "__pycache__").exists()


def test_a_file_that_changes_is_read_again(own: Path) -> None:
    file = own / "mine.py"
    file.write_text(f"def one():\n{DOC}")
    assert "one" in toolbox().tools
    then = file.stat()
    file.write_text(f"def two():\n{DOC}")
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))  # the same size and time
    box = toolbox()
    assert "two" in box.tools
    assert "one" not in box.tools
    file.unlink()
    assert "two" not in toolbox().tools


def test_a_name_belongs_to_the_first(own: Path) -> None:
    (own / "a.py").write_text(f"def calculator():\n{DOC}def mine():\n{DOC}")
    (own / "b.py").write_text(f"def mine():\n{DOC}def other():\n{DOC}def other():\n{DOC}")
    box = toolbox()
    assert {name: box.tools[name].source for name in ("calculator", "mine", "other")} == {
        "calculator": "studio",
        "mine": "a.py",
        "other": "b.py",
    }
    assert [str(each.problem) for each in box.broken] == [
        "a.py has a tool named calculator, and so does studio. Give one of them another name.",
        "b.py has a tool named mine, and so does a.py. Give one of them another name.",
        "b.py has a tool named other, and so does b.py. Give one of them another name.",
    ]


def test_hidden_files_and_others_are_no_tools(own: Path) -> None:
    for name in (".mine.py", "mine.txt", "mine.pyc", "mine.py~", "mine.json"):
        (own / name).write_text(f"def mine():\n{DOC}")
    assert (list(toolbox().tools), toolbox().broken) == (SHIPPED, ())


# Permissions


def tool(source: str = "mine.py", name: str = "f", default: str = "ask") -> Tool:
    return Tool(name, "F.", {"type": "object", "properties": {}, "required": []}, source, default)


def test_a_permission_belongs_to_a_source(home: Path) -> None:
    assert [permission(tool(default=each)) for each in ("always", "ask", "never")] == ["always", "ask", "never"]
    assert not is_chosen(tool())
    set_permission(tool(), "always")
    set_permission(tool(name="g"), "never")
    assert (permission(tool()), permission(tool(name="g")), permission(tool("other.py"))) == ("always", "never", "ask")
    assert is_chosen(tool())
    assert not is_chosen(tool("other.py"))
    assert json.loads((paths().state / "tools.json").read_text()) == {
        "permissions": {"mine.py/f": "always", "mine.py/g": "never"}
    }


@pytest.mark.parametrize(
    "state",
    ["", "[]", "null", "{", '{"permissions": []}', '{"permissions": {"mine.py/f": ["always"]}}', "[" * 5000,
     '{"permissions": {"mine.py/f": "ALWAYS"}, "folder": ["/"]}', '{"permissions": "always", "folder": ""}', '{"folder": "/"}',
     '{"folder": "relative"}', '{"folder": "/tmp/\\u0000"}', '{"folder": 5}'],
)  # fmt: skip
def test_a_hostile_state_file_grants_nothing(home: Path, state: str) -> None:
    paths().state.mkdir(parents=True)
    (paths().state / "tools.json").write_text(state)
    assert permission(tool()) == "ask"
    assert folder() is None


def test_the_folder(home: Path, tmp_path: Path) -> None:
    assert folder() is None
    (tmp_path / "papers").mkdir()
    set_folder(str(tmp_path / "papers"))
    assert folder() == tmp_path / "papers"
    set_permission(tool(), "never")
    assert folder() == tmp_path / "papers"
    set_folder(None)
    assert folder() is None


def test_a_folder_that_became_a_link_to_everything_is_granted_no_more(home: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "papers"
    chosen.mkdir()
    set_folder(str(chosen))
    chosen.rmdir()
    chosen.symlink_to("/")
    assert folder() is None


@pytest.mark.parametrize("path", ["/no/such", "/etc/hostname", "a\x00b", "~no-such-user-here/x", "/" + "x" * 300])
def test_no_folder(home: Path, path: str) -> None:
    with pytest.raises(StudioError) as caught:
        set_folder(path)
    assert caught.value.key == "tools.no_folder"
    assert caught.value.fix() == "Choose a folder that exists, or leave it empty."


def test_neither_the_whole_home_nor_the_studios_own_files(home: Path, tmp_path: Path) -> None:
    paths().state.mkdir(parents=True)
    (tmp_path / "link").symlink_to("/")
    for path in (Path("/"), Path.home(), Path.home().parent, home, home.parent, paths().state, tmp_path / "link"):
        with pytest.raises(StudioError) as caught:
            set_folder(str(path))
        assert str(caught.value) == (
            f"{path.resolve()} contains your whole home folder or the studio's own files, too much for a model to "
            "read. Choose a smaller folder, for example one with the documents that you want to talk about."
        )
    assert folder() is None


# Whether a call fits

FITTED = Tool(
    "f",
    "F.",
    {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "i": {"type": "integer"},
            "n": {"type": "number"},
            "b": {"type": "boolean"},
            "l": {"type": "array", "items": {"type": "integer"}},
            "o": {"type": "object"},
            "c": {"type": "string", "enum": ["a", "b"]},
        },
        "required": ["s"],
    },
    "mine.py",
    "ask",
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "f needs the argument s."),
        ({"s": None}, "The argument s of f must be of type string."),
        ({"s": 1}, "The argument s of f must be of type string."),
        ({"s": "", "i": "1"}, "The argument i of f must be of type integer."),
        ({"s": "", "i": 1.5}, "The argument i of f must be of type integer."),
        ({"s": "", "i": True}, "The argument i of f must be of type integer."),
        ({"s": "", "n": "1"}, "The argument n of f must be of type number."),
        ({"s": "", "n": False}, "The argument n of f must be of type number."),
        ({"s": "", "b": 1}, "The argument b of f must be of type boolean."),
        ({"s": "", "l": "1"}, "The argument l of f must be of type array."),
        ({"s": "", "l": [1, "2"]}, "Each value in the argument l of f must be of type integer."),
        ({"s": "", "o": []}, "The argument o of f must be of type object."),
        ({"s": "", "c": "A"}, "The argument c of f must be one of: a, b."),
        ({"s": "", "x": 1}, "f has no argument x. Its arguments are: s, i, n, b, l, o, c."),
        ({"s": "", "y" * 500: 1}, f"f has no argument {'y' * 60}. Its arguments are: s, i, n, b, l, o, c."),
    ],
)
def test_a_call_that_does_not_fit(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ToolError) as caught:
        check(FITTED, arguments)
    assert str(caught.value) == words


def test_a_call_that_fits() -> None:
    check(FITTED, {"s": "", "i": None, "n": 1, "b": True, "l": [], "o": {"x": [1]}, "c": "b"})
    check(FITTED, {"s": "x", "n": 1.5, "l": [1, 2]})
