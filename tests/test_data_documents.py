"""PDF and Word documents as training data: their paragraphs as text, and in words why one cannot be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import psutil
import pytest

from glmstudio.config.optional_packages import DOCUMENTS
from glmstudio.data.protocol.tokenizer import Tokenizer
from glmstudio.data.readers import pdf as pdf_room
from glmstudio.data.readers.values import read_values
from glmstudio.data.readers.wrapping import paragraphs
from glmstudio.data.records import check_file, form_of
from glmstudio.data.store import prepare
from glmstudio.errors import StudioError
from glmstudio.paths import DEMO, ROOT
from tests.documents import archive, docx, pdf

LINES = [
    "The library of the town was built in the year 1912, when there was",
    "nothing but grass on the hill. It holds many books, of which the old-",
    "est was printed by hand. Its (long) roof was mended twice.",
    "The next paragraph of this page begins here, and it goes on for",
]
MORE = ["more than one page.", "", "And a last one."]
CHINESE = [
    "小镇的老图书馆建于一九一二年，那时山上除了草什么也没有，馆里",
    "有四万册书，最老的一本是手工印的。",
    "下一段从这里开始。",
]


def text_of(file: Path) -> str:
    return "".join(each.text if not isinstance(each, StudioError) else each.key for _, each in read_values(file))


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def problem(file: Path) -> str:
    (found,) = check_file(file).problems
    assert found.line >= 1
    assert found.text("zh") != found.text("en")
    return found.reason.key


def test_lines_of_a_page_become_paragraphs(tmp_path: Path) -> None:
    file = write(tmp_path / "a.pdf", pdf(LINES, MORE))
    assert text_of(file).strip().split("\n\n") == [
        "The library of the town was built in the year 1912, when there was nothing but grass on the hill. It holds many "
        "books, of which the oldest was printed by hand. Its (long) roof was mended twice.",
        "The next paragraph of this page begins here, and it goes on for more than one page.",
        "And a last one.",
    ]
    assert (check_file(file).records, form_of(file)) == (1, "text")


def test_chinese_lines_are_joined_without_spaces(tmp_path: Path) -> None:
    file = write(tmp_path / "a.PDF", pdf(CHINESE))
    assert text_of(file).strip().split("\n\n") == ["".join(CHINESE[:2]), CHINESE[2]]


@pytest.mark.parametrize(
    ("lines", "joined"),
    [
        (["a long line of words that goes to the ex-", "ample of a word"], ["a long line of words that goes to the example of a word"]),
        (["the trains between Berlin and Frankfurt-", "Main are late a lot"], ["the trains between Berlin and Frankfurt-Main are late a lot"]),
        (["it was printed between 1990 and the year 1991-", "1992 by somebody"], ["it was printed between 1990 and the year 1991-1992 by somebody"]),
        (["what we need for the garden this year:", "• a spade and a rake", "• seeds"], ["what we need for the garden this year:", "• a spade and a rake", "• seeds"]),
        (["1. Title", "a line that goes on up to the edge of the page", "and ends."], ["1. Title", "a line that goes on up to the edge of the page and ends."]),
        (["使用这个软件的人都应该先看一看它的说明 Python", "编程语言"], ["使用这个软件的人都应该先看一看它的说明 Python 编程语言"]),
        (["", " ", "\t"], []),
    ],
)  # fmt: skip
def test_where_a_paragraph_ends(lines: list[str], joined: list[str]) -> None:
    assert list(paragraphs(["\n".join(lines)])) == joined


def test_a_pdf_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    whole = pdf(LINES)
    assert problem(write(tmp_path / "scan.pdf", pdf([], []))) == "data.pdf_no_text"
    assert problem(write(tmp_path / "locked.pdf", pdf(LINES, locked=True))) == "data.document_locked"
    for name, content in {"empty": b"", "html": b"<html>", "half": whole[:200], "zip": docx("a")}.items():
        assert problem(write(tmp_path / f"{name}.pdf", content)) == "data.document_broken", name


def test_a_pdf_that_unpacks_without_end_ends_only_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9)
    stream = b"".join(
        packer.compress(b"BT /F1 1 Tf (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj ET\n" * 20_000) for _ in range(400)
    )
    file = write(tmp_path / "bomb.pdf", pdf([""] * 3, stream=stream + packer.flush()))
    assert file.stat().st_size < 4 << 20
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (20, 20)); from glmstudio.data.readers import pdf; "
    limit += (
        "from pathlib import Path; pdf._MEMORY, pdf._SECONDS = 400 << 20, 20; sys.exit(pdf.main(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", limit, str(file)], cwd=ROOT, capture_output=True)
    assert done.returncode != 0
    assert pdf_room._problem(done.stderr).key in ("data.document_large", "data.document_broken")


def test_who_stops_listening_ends_the_reader(tmp_path: Path) -> None:
    file = write(tmp_path / "a.pdf", pdf(*[LINES] * 3000))
    values = read_values(file)
    next(islice(values, 1, None), None)
    values.close()  # type: ignore[attr-defined]
    assert [each for each in psutil.Process().children() if "glmstudio.data.readers.pdf" in each.cmdline()] == []


@pytest.mark.parametrize("name", ["a.pdf", "more/b.pdf"])
def test_without_the_library_one_sentence_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, pdf(LINES))
    done = without_library(
        "import sys; from glmstudio.cli import main; sys.exit(main(['data', 'check', sys.argv[1]]))",
        tmp_path if "/" in name else tmp_path / name,
    )
    assert done.returncode == 1
    assert "the library for them is not installed" in done.stderr
    assert "python launcher.py setup --with-documents" in done.stderr
    assert "pypdfium2" in DOCUMENTS.requirements.read_text(encoding="utf-8")


def test_without_the_library_the_page_has_a_button_for_it(tmp_path: Path) -> None:
    code = (
        "from glmstudio.ui.state.page_state import FinetuneState; from glmstudio.ui.finetune.review import render_data; import sys\n"
        "print(render_data('en', FinetuneState(source='file', data=sys.argv[1], preset='demo/lora')))"
    )
    done = without_library(code, write(tmp_path / "a.pdf", pdf(LINES)))
    assert 'data-act="install-documents"' in done.stdout, done.stderr
    assert "Install pypdfium2" in done.stdout
    assert "--with-documents" not in re.sub(r"<pre hidden>.*?</pre>", "", done.stdout, flags=re.DOTALL)


def without_library(code: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run some Python in which PDFium cannot be imported."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "GLMSTUDIO_HOME": str(file.parent / "home")}
    command = [sys.executable, "-c", f"import sys; sys.modules['pypdfium2'] = None\n{code}", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_a_word_document_in_its_order(tmp_path: Path) -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    body = (
        f'<w:p>{run.format("one")}<w:r><w:tab/><w:t>two</w:t><w:br/><w:t xml:space="preserve"> three</w:t></w:r></w:p>'
        f'<w:p><w:del w:id="1"><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins w:id="2">{run.format("new")}</w:ins></w:p>'
        f"<w:tbl><w:tr><w:tc><w:p>{run.format('a')}</w:p><w:p>{run.format('b')}</w:p></w:tc><w:tc><w:p>{run.format('c')}</w:p></w:tc></w:tr>"
        f"<w:tr><w:tc><w:p>{run.format('d')}</w:p></w:tc><w:tc><w:p>{run.format('d')}</w:p></w:tc></w:tr></w:tbl>"
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><mc:Choice Requires="x">'
        f"<w:p>{run.format('box')}</w:p></mc:Choice><mc:Fallback><w:p>{run.format('box')}</w:p></mc:Fallback></mc:AlternateContent>"
        "<w:sectPr/>"
    )
    file = write(tmp_path / "a.docx", docx("第一段 & <它>", "", body=body))
    assert text_of(file).strip().split("\n\n") == ["第一段 & <它>", "one\ttwo\n three", "new", "a b\tc", "d\td", "box"]
    store = prepare(tmp_path, DEMO / "model")
    assert "第一段" in Tokenizer(DEMO / "model").decode(store.ids(0).tolist())


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """Every test has a cache of its own."""


def test_a_word_document_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    whole = docx(*LINES)
    laughs = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    for name, (content, key) in {
        "old": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 100, "data.document_locked"),
        "empty": (b"", "data.document_broken"),
        "half": (whole[: len(whole) // 2], "data.document_broken"),
        "noxml": (archive("hello"), "data.document_broken"),
        "cut": (archive(b"<w:document xmlns:w='a'><w:body>"), "data.document_broken"),
        "laughs": (docx("a", body="<w:p><w:r><w:t>&b;</w:t></w:r></w:p>", before=laughs), "data.document_broken"),
        "deep": (docx(body="<w:r>" * 5000 + "</w:r>" * 5000), "data.document_large"),
    }.items():
        assert problem(write(tmp_path / f"{name}.docx", content)) == key, name
    with zipfile.ZipFile(tmp_path / "other.docx", "w") as parts:
        parts.writestr("a.txt", "a")
    assert problem(tmp_path / "other.docx") == "data.document_broken"


def test_a_word_document_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    file = tmp_path / "bomb.docx"
    file.write_bytes(docx("a"))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("_rels/.rels", "")
        with parts.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(600):
                part.write(b" " * (1 << 20))
    assert file.stat().st_size < 1 << 20
    assert problem(file) == "data.document_large"


def test_a_policy_leaves_a_bad_document_out(tmp_path: Path) -> None:
    write(tmp_path / "a.pdf", pdf([]))
    write(tmp_path / "b.docx", docx(*CHINESE))
    write(tmp_path / "c.pdf", pdf(LINES))
    store = prepare(tmp_path, DEMO / "model")
    assert [(Path(each.file).name, each.reason.key) for each in store.problems()] == [("a.pdf", "data.pdf_no_text")]
    assert store.select("drop", 2048).used == 2
    with pytest.raises(StudioError, match="only images of pages"):
        store.select("stop", 2048)
