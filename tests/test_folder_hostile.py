"""Folders from elsewhere in every hostile form: each command answers in words, and the page draws its lists."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glmstudio.cli import main
from glmstudio.files import write_json
from glmstudio.models import jobs
from glmstudio.paths import DEMO, paths
from glmstudio.ui.framework.live import PageRenderer
from glmstudio.ui.state.page_state import ChatState, PageState, RunsState
from tests.drawn_page import RUN, drawn
from tests.marks import rare, slow

pytest_plugins = ["tests.drawn_page"]

Form = Callable[[Path], Any]
HUGE = 10**30
STEER = "\x1b]0;mine\x07\x1b[2J\x9b31m\u202e\n\ttxt"
CONFIG = json.loads((DEMO / "model/config.json").read_text())
WEIGHTS, INDEX, WORDS = "model.safetensors", "model.safetensors.index.json", "tokenizer.model"
PATIENCE_S = 120


# ---- how one file is spoiled


def put(name: str, content: bytes | str) -> Form:
    def spoil(folder: Path) -> None:
        file = folder / name
        file.unlink(missing_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    return spoil


def table(name: str, value: Any) -> Form:
    return put(name, json.dumps(value))


def config(**more: Any) -> Form:
    return table("config.json", CONFIG | more)


def pipe(name: str) -> Form:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def link(name: str, to: str) -> Form:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return spoil


def a_folder(name: str) -> Form:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


def closed(name: str) -> Form:
    """Root reads it all the same; a loop of links is what it cannot read."""
    return lambda folder: (folder / name).chmod(0)


def local_socket(name: str) -> Form:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        here = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            socket.socket(socket.AF_UNIX).bind(name)
        finally:
            os.chdir(here)

    return spoil


def sparse(name: str, size: int) -> Form:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return spoil


def cut(name: str, size: int) -> Form:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()[:size]
        put(name, content)(folder)

    return spoil


def header(text: str | bytes, length: int | None = None, body: int = 16) -> Form:
    """A safetensors file with this header, whatever length it claims."""
    written = text.encode() if isinstance(text, str) else text
    return put(WEIGHTS, struct.pack("<Q", len(written) if length is None else length) + written + bytes(body))


def tensors(**more: Any) -> Form:
    return header(json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | more}))


def packed(method: int, name: str = "archive/data.pkl", size: int = 10_000_000) -> Form:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w", method) as archive:
            archive.writestr(name, bytes(size))

    return spoil


def index(value: Any) -> Form:
    return table(INDEX, {"weight_map": value})


def both(*forms: Form) -> Form:
    return lambda folder: [form(folder) for form in forms]


def renamed(form: Form, name: str) -> Form:
    """A form of a model's weights for a file of another name."""

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(b"x")
        form(folder)
        (folder / WEIGHTS).rename(folder / name)

    return spoil


def bomb(name: str) -> Form:
    """A workbook whose one sheet unpacks to more than a gigabyte."""

    def spoil(folder: Path) -> None:
        import openpyxl

        openpyxl.Workbook().save(folder / "plain.xlsx")
        with (
            zipfile.ZipFile(folder / "plain.xlsx") as plain,
            zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as made,
        ):
            for each in plain.namelist():
                with made.open(each, "w") as out:
                    out.write(plain.read(each))
                    for _ in range(1100 if "sheet1" in each else 0):
                        out.write(b" " * (1 << 20))
        (folder / "plain.xlsx").unlink()

    return spoil


STATUS = (
    "state",
    "phase",
    "done",
    "total",
    "bytes_per_second",
    "seconds_left",
    "source",
    "connections",
    "files",
    "problem",
    "problems",
    "ended",
    "time",
)


def job(**files: Any) -> Form:
    """What stands in the studio's own state about work on the folder."""

    def spoil(folder: Path) -> None:
        for name, value in files.items():
            (jobs._job(folder).folder).mkdir(parents=True, exist_ok=True)
            (jobs._job(folder).folder / f"{name}.json").write_text(json.dumps(value))

    return spoil


def _deep(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(300):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.chdir(here)


def _crowded(folder: Path) -> None:
    for number in range(3000):
        (folder / f"x{number}.safetensors").touch()


DEEP = "[" * 10_000 + "]" * 10_000
WRONG = ([], {}, "x", "", None, True, -1, 0, HUGE, 1e308, [[[]]], {"a": {"a": 1}})

# A model's folder; those that are sound all the same are named in SOUND.
MODELS: dict[str, Form] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config a pipe": pipe("config.json"), "config a device": link("config.json", "/dev/zero"),
    "config a loop": link("config.json", "config.json"), "config a folder": a_folder("config.json"),
    "config a socket": local_socket("config.json"), "config closed": closed("config.json"),
    "config into nowhere": link("config.json", "/nowhere/config.json"), "config in proc": link("config.json", "/proc/self/mem"),
    "config of a gigabyte": sparse("config.json", 1 << 30), "config empty": put("config.json", b""),
    "config half": put("config.json", b'{"model_type": "chat'), "config binary": put("config.json", bytes(range(256))),
    "config utf-16": put("config.json", json.dumps(CONFIG).encode("utf-16")), "config deep": put("config.json", DEEP),
    "config deep inside": put("config.json", json.dumps(CONFIG)[:-1] + f', "x": {DEEP}}}'),
    "config half a character": config(x="\ud83d"), "config nan": put("config.json", json.dumps(CONFIG | {"layernorm_epsilon": float("nan")})),
    "config infinite": config(rope_ratio=float("inf")), "config a million digits": put("config.json", '{"num_layers": ' + "9" * 1_000_000 + "}"),
    "config many keys": table("config.json", {f"k{number}": number for number in range(200_000)}),
    "config twice the key": put("config.json", json.dumps(CONFIG)[:-1] + ', "num_layers": -1}'),
    "config that steers": config(model_type=STEER), "config of another model": config(model_type=["chatglm"]),
    "config huge text": config(model_type="x" * 5_000_000),
    "weights a pipe": pipe(WEIGHTS), "weights a device": link(WEIGHTS, "/dev/zero"), "weights a loop": link(WEIGHTS, WEIGHTS),
    "weights a folder": a_folder(WEIGHTS), "weights a socket": local_socket(WEIGHTS), "weights closed": closed(WEIGHTS),
    "weights empty": put(WEIGHTS, b""), "weights of seven bytes": put(WEIGHTS, b"1234567"),
    "weights cut in the header": cut(WEIGHTS, 500), "weights cut in the middle": cut(WEIGHTS, 1 << 20), "weights cut by one": cut(WEIGHTS, -1),
    "weights too long": lambda folder: put(WEIGHTS, (folder / WEIGHTS).read_bytes() + b"x")(folder),
    "weights sparse": sparse(WEIGHTS, 1 << 40), "header absurd": header("{}", 2**64 - 1), "header past the end": header("{}", 1 << 40),
    "header none": header("", 0), "header no json": header(b"\xff" * 100), "header deep": header(DEEP), "header a list": header("[]"),
    "header half": header('{"a": '), "header nan": header('{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}'),
    "header a million digits": header('{"a": {"dtype": "F32", "shape": [' + "9" * 1_000_000 + '], "data_offsets": [0, 16]}}'),
    "tensors overlap": tensors(b={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}),
    "tensors with a gap": tensors(b={"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}),
    "tensor backwards": tensors(a={"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}),
    "tensor beyond": tensors(a={"dtype": "F32", "shape": [4], "data_offsets": [0, HUGE]}),
    "tensor of wrong kinds": tensors(a={"dtype": 5, "shape": "x", "data_offsets": {}}), "tensor of floats": tensors(a={"dtype": "F32", "shape": [4.0], "data_offsets": [0.0, 16.0]}),
    "tensor of a strange type": tensors(a={"dtype": "X99", "shape": [], "data_offsets": [0, 16]}), "tensor unhashable": tensors(a={"dtype": [], "shape": [4], "data_offsets": [0, 16]}),
    "metadata of wrong kind": tensors(__metadata__=[STEER]), "names that steer": tensors(a=0, **{STEER: {}}),
    "placeholder": put(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"),
    "bin no zip": both(lambda folder: (folder / WEIGHTS).unlink(), put("pytorch_model.bin", b"\x80\x04N.")),
    "bin packed": packed(zipfile.ZIP_DEFLATED), "bin packed otherwise": packed(zipfile.ZIP_LZMA), "bin huge table": packed(zipfile.ZIP_STORED),
    "bin outside": packed(zipfile.ZIP_STORED, "../../escape/data.pkl", 10), "bin steers": packed(zipfile.ZIP_STORED, STEER, 10),
    "index outside": index({"a": "../../../../etc/passwd"}), "index absolute": index({"a": "/etc/passwd"}), "index to itself": index({"a": INDEX}),
    "index to nothing": index({"a": "none.safetensors"}), "index of wrong kinds": index({"a": {"b": 1}}), "index of numbers": index({"a": HUGE}),
    "index a list": index([]), "index empty": index({}), "index steers": index({"a": STEER}), "index of a pipe": both(pipe("p.safetensors"), index({"a": "p.safetensors"})),
    "index many shards": index({f"t{number}": f"s{number}.safetensors" for number in range(100_000)}), "index deep": put(INDEX, DEEP),
    "index a pipe": pipe(INDEX), "index a loop": link(INDEX, INDEX), "index a device": link(INDEX, "/dev/zero"), "index of a gigabyte": sparse(INDEX, 1 << 30),
    "index other tensors": index({"nobody": WEIGHTS}),
    "words a pipe": pipe(WORDS), "words a device": link(WORDS, "/dev/zero"), "words a loop": link(WORDS, WORDS), "words a folder": a_folder(WORDS),
    "words empty": put(WORDS, b""), "words absent": lambda folder: (folder / WORDS).unlink(), "words of another family": put(WORDS, b"IQ== 0\nIg== 1\nIw== 2\n"),
    "words binary": put(WORDS, bytes(range(256)) * 1000), "words sparse": sparse(WORDS, 1 << 40),
    "manifest a pipe": pipe("glmstudio.json"), "manifest of wrong kinds": table("glmstudio.json", {"files": {"config.json": {"sha256": "0" * 64, "size": STEER}}, "source": [STEER], "repo": {}, "whole": "no"}),
    "manifest outside": table("glmstudio.json", {"files": {"../x": {"sha256": "0" * 64, "size": 1}}, "converted": ["../x", HUGE, None], "whole": False}),
    "manifest huge size": table("glmstudio.json", {"files": {WEIGHTS: {"sha256": "0" * 64, "size": HUGE}}}), "manifest zero byte": table("glmstudio.json", {"files": {"a\0b": {"sha256": "0" * 64}}, "converted": ["a\0b"]}),
    "manifest half a character": table("glmstudio.json", {"files": {"\ud83d": {"sha256": "0" * 64}}, "source": "\ud83d", "repo": "\ud83d"}),
    "job of wrong kinds": job(job={key: [STEER] for key in ("kind", "model", "folder", "options", "run_id", "created", "identity")}, status={key: [STEER] for key in STATUS}),
    "job of a strange kind": job(job={"kind": "x", "model": 5, "folder": 5}, status={"state": "x"}),
    "job without end": job(job={"kind": "download"}, status=dict.fromkeys(STATUS, float("inf")) | {"state": "paused"}),
    "job of texts": job(job={"kind": "download"}, status=dict.fromkeys(STATUS, "x") | {"state": "failed"}),
    "job of huge numbers": job(job={"kind": "download"}, status=dict.fromkeys(STATUS, HUGE) | {"state": "paused"}),
    "job with files of wrong kinds": job(job={"kind": "download"}, status={"state": "paused", "files": [5, [1, 2], {"a": 1}], "problems": [5, {"key": 5}], "problem": {"key": "no.such"}}),
    "notes of a hub": lambda folder: [(folder / ".cache/huggingface/download").mkdir(parents=True), os.mkfifo(folder / ".cache/huggingface/download/config.json.metadata")],
    "deep folders": _deep, "many files": _crowded, "all closed": lambda folder: folder.chmod(0),
    "a link to itself": lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder.name)),
    "a link to all": lambda folder: (shutil.rmtree(folder), folder.symlink_to("/")),
    **{f"config {name} = {value!r:.20}": config(**{name: value}) for name in CONFIG for value in WRONG},
}  # fmt: skip

ABOUT = {"format": "glmstudio.ptuning_v2", "kind": "prefix", "base": "demo", "length": 4}
PEFT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query_key_value"]}

# What a run learned, or another program: the folder of an adapter.
ADAPTERS: dict[str, Form] = {
    "nothing": lambda folder: None, "about a pipe": pipe("adapter.json"), "about a loop": link("adapter.json", "adapter.json"),
    "about a device": link("adapter.json", "/dev/zero"), "about a folder": a_folder("adapter.json"), "about deep": put("adapter.json", DEEP),
    "about binary": put("adapter.json", bytes(range(256))), "about half": put("adapter.json", "{"), "about a gigabyte": sparse("adapter.json", 1 << 30),
    **{f"about only {value!r:.20}": table("adapter.json", value) for value in WRONG},
    **{f"about {name} = {value!r:.20}": table("adapter.json", ABOUT | {name: value}) for name in ABOUT for value in (*WRONG, STEER)},
    "peft a pipe": pipe("adapter_config.json"), "peft a loop": link("adapter_config.json", "adapter_config.json"), "peft deep": put("adapter_config.json", DEEP),
    "peft binary": put("adapter_config.json", b"\xff\xfe"), "peft without weights": table("adapter_config.json", PEFT),
    **{f"peft {name} = {value!r:.20}": table("adapter_config.json", PEFT | {name: value}) for name in PEFT for value in (*WRONG, STEER)},
    **{f"weights {name}": both(table("adapter_config.json", PEFT), renamed(MODELS[form], "adapter_model.safetensors")) for name, form in
       (("a pipe", "weights a pipe"), ("a device", "weights a device"), ("sparse", "weights sparse"), ("absurd", "header absurd"), ("deep", "header deep"), ("overlap", "tensors overlap"))},
    "a bin of a pipe": pipe("pytorch_model.bin"), "a bin that is none": put("pytorch_model.bin", b"\x80\x04N."), "a link to all": lambda folder: (folder.rmdir(), folder.symlink_to("/")),
    "a loop": lambda folder: (folder.rmdir(), folder.symlink_to(folder.name)), "a file": lambda folder: (folder.rmdir(), folder.write_text("x")),
    "closed": lambda folder: folder.chmod(0),
}  # fmt: skip

ROW = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}

# A folder of data; beside the hostile file lies a sound one.
DATA: dict[str, Form] = {
    "a pipe": pipe("x.jsonl"), "a device": link("x.jsonl", "/dev/zero"), "a loop": link("x.jsonl", "x.jsonl"), "a folder": a_folder("x.jsonl"), "a socket": local_socket("x.jsonl"),
    "outside": link("x.jsonl", "/etc/passwd"), "into nowhere": link("x.jsonl", "/nowhere"), "empty": put("x.jsonl", b""), "binary": put("x.jsonl", bytes(range(256)) * 100),
    "half": put("x.jsonl", '{"conversations": ['), "deep": put("x.jsonl", DEEP), "deep inside": put("x.jsonl", json.dumps(ROW)[:-1] + f', "x": {DEEP}}}'), "one line of 20 MB": put("x.jsonl", '"' + "x" * 20_000_000),
    "nan": put("x.jsonl", '{"conversations": NaN}'), "a million digits": put("x.jsonl", '{"conversations": ' + "9" * 1_000_000 + "}"), "half a character": table("x.jsonl", {"conversations": [{"role": "user", "content": "\ud83d"}]}),
    "utf-16 cut": put("x.jsonl", json.dumps(ROW).encode("utf-16")[:-1]), "utf-16": put("x.jsonl", json.dumps(ROW).encode("utf-16")), "NUL bytes": put("x.jsonl", b"\0" * 1000), "steers": table("x.jsonl", {"conversations": [{"role": STEER, "content": STEER}], STEER: 1}),
    "a name that steers": put(STEER.replace("/", "") + ".jsonl", "{"), "a name without text": lambda folder: Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.jsonl")).write_text("{"),
    "a csv of one quote": put("x.csv", '"' * 100_001), "a csv with a giant field": put("x.csv", 'question,answer\n"' + "x" * 5_000_000 + '",b\n'), "a csv of commas": put("x.csv", "," * 1_000_000),
    "a workbook that is none": put("x.xlsx", b"PK\x03\x04nothing"), "a workbook packed": bomb("x.xlsx"), "a json of a list of lists": table("x.json", [[[]]] * 1000), "a json deep": put("x.json", DEEP), "a json half": put("x.json", "[{"),
    "deep folders": _deep, "a loop of folders": link("again", "."), "a link to all": link("all", "/"), "closed": closed("good.jsonl"), "all closed": lambda folder: folder.chmod(0),
    **{f"only {value!r:.20}": table("x.jsonl", value) for value in WRONG},
    **{f"conversations = {value!r:.20}": table("x.jsonl", {"conversations": value}) for value in WRONG},
    **{f"a turn = {value!r:.20}": table("x.jsonl", {"conversations": [value]}) for value in WRONG},
    **{f"tools = {value!r:.20}": table("x.jsonl", ROW | {"tools": value}) for value in WRONG},
    **{f"messages = {value!r:.20}": table("x.jsonl", {"messages": value}) for value in WRONG},
}  # fmt: skip

BULK = [form for form in (*MODELS, *ADAPTERS) if form.startswith(("config ", "about ", "peft ")) and " = " in form]
# The rest is marked slow: minutes in all.
QUICK = (
    "config a pipe", "config that steers", "weights sparse", "header absurd", "index outside", "manifest half a character", "job of wrong kinds", "words sparse",
    "about a pipe", "peft deep", "weights a device", "closed", "a loop", "a name without text", "steers",
)  # fmt: skip


def each(forms: dict[str, Form]) -> Any:
    """The forms as a test's cases; of the many values that a field may have three of four are rare, of folders of data half."""
    seldom = {*BULK} - {*BULK[::4]} | {*[*DATA][1::2]}
    marked = [form if form in QUICK else rare(form) if form in seldom else slow(form) for form in forms]
    return pytest.mark.parametrize("form", marked)


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A pipe that is waited for would be for ever."""

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def answered(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str]:
    """Status and words of a command, which must be words."""
    capsys.readouterr()
    status = main(list(command))
    said = capsys.readouterr()
    broke = paths().state / "broke.log"
    assert not broke.exists(), (command, broke.read_text()[-3000:])
    assert "Traceback" not in said.out + said.err, (command, said)
    assert not set("\x1b\x07\x9b\u202e") & set(said.out + said.err), (command, said)
    assert status in (0, 1), command
    assert status == 0 or said.err or said.out, command
    if "--json" in command and said.out:
        json.loads(said.out)
    return status, said.out + said.err


def model(spoil: Form) -> Path:
    """A model of the home, as the form leaves it."""
    folder = paths().models / "mine"
    shutil.copytree(DEMO / "model", folder)
    spoil(folder)
    return folder


def silent(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether nothing broke that was only written into a log."""
    return [record.getMessage() + str(record.exc_info) for record in caplog.records] == []


@each(MODELS)
def test_a_model_folder(
    form: str, home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = model(MODELS[form])
    assert "demo" in answered(capsys, "models", "list")[1]
    listed = {each["name"]: each for each in json.loads(answered(capsys, "models", "list", "--json")[1])}
    for command in (
        ["verify", "mine"],
        ["verify", str(folder), "--json"],
        ["verify", "mine", "--full"],
        ["add", str(folder)],
    ):
        status, said = answered(capsys, "models", *command)
        assert len(said) < 20_000, command
        if listed.get("mine", {"state": "absent"})["state"] == "broken":
            assert status == 1, command
    assert silent(caplog)


@pytest.mark.parametrize(  # a plan measures a model that still works: more than an hour for all of them
    "form", [slow(form) if form in QUICK[::2] else rare(form) for form in MODELS]
)
def test_what_is_done_with_a_model_folder(form: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model(MODELS[form])
    answered(capsys, "data", "check", str(DEMO / "sample.jsonl"), "--model", "mine", "--json")
    answered(capsys, "train", "demo/ptuning_v2", "--plan", "--set", "model=mine")


@pytest.mark.rare
@pytest.mark.slow
def test_the_page_draws_all_of_them(home: Path, built: PageRenderer, caplog: pytest.LogCaptureFixture) -> None:
    forms = [form for form in MODELS if form not in BULK and "many" not in form]
    for number, form in enumerate(forms):
        folder = paths().models / f"form-{number}"
        shutil.copytree(DEMO / "model", folder)
        MODELS[form](folder)
    number = forms.index("weights empty")
    for view in (
        PageState(),
        PageState(chat=ChatState(f"form-{number}")),
        PageState(runs=RunsState("none"), chat=ChatState(f"form-{number + 1}")),
    ):
        assert f"form-{number}" in drawn(built, view)
    assert silent(caplog)


@each(ADAPTERS)
def test_what_a_run_learned(
    form: str, home: Path, built: PageRenderer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = paths().runs / "one" / "result"
    folder.mkdir(parents=True)
    write_json(paths().runs / "one/run.json", RUN)
    write_json(paths().runs / "one/status.json", {"state": "finished", "ended": 6.0})
    ADAPTERS[form](folder)
    for command in (
        ["list"],
        ["list", "--json"],
        ["show", "one"],
        ["show", "one", "--json"],
        ["export", "one", str(home / "out"), "--to", "bundle"],
    ):
        answered(capsys, "runs", *command)
    for view in (PageState(), PageState(runs=RunsState("one"), chat=ChatState("demo", "one"))):
        assert "one" in drawn(built, view)
    assert silent(caplog)


@each(DATA)
def test_a_folder_of_data(form: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "good.jsonl").write_text(json.dumps(ROW) + "\n")
    DATA[form](folder)
    for place in (
        (folder, *(each for each in folder.iterdir() if each.name != "good.jsonl"))
        if os.access(folder, os.R_OK)
        else (folder,)
    ):
        for more in ([], ["--json"], ["--model", "demo"]):
            answered(capsys, "data", "check", str(place), *more)


@pytest.mark.parametrize(
    "name",
    [
        "x\nchatglm3-6b 12.5 GB ready",
        "-x",
        "名\u202e",
        *map(slow, (STEER, "x" * 255, " ", "-", "*", "'\"`$(id)", "%s{0}{name}")),
    ],
)
def test_names(
    name: str, home: Path, built: PageRenderer, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    name = name.replace("/", "")
    shutil.copytree(DEMO / "model", paths().models / name)
    (paths().runs / name).mkdir(parents=True)
    write_json(paths().runs / name / "run.json", RUN)
    plain = (
        len(answered(capsys, "models", "list")[1].splitlines()),
        len(answered(capsys, "runs", "list")[1].splitlines()),
    )
    for command in (
        ["models", "list", "--json"],
        ["models", "verify", "--", name],
        ["runs", "list", "--json"],
        ["runs", "show", "--", name],
    ):
        answered(capsys, *command)
    drawn(built, PageState(runs=RunsState(name), chat=ChatState(name, name)))
    assert silent(caplog)
    shutil.rmtree(paths().models / name)
    shutil.rmtree(paths().runs / name)
    shutil.copytree(DEMO / "model", paths().models / "plain")
    (paths().runs / "plain").mkdir()
    write_json(paths().runs / "plain/run.json", RUN)
    assert plain == (
        len(answered(capsys, "models", "list")[1].splitlines()),
        len(answered(capsys, "runs", "list")[1].splitlines()),
    )
