"""PDF and Word files as bytes, small and by hand: what the tests of documents read."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from openpyxl import Workbook

_LATIN = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
_CHINESE = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts [<< /Type /Font "
    b"/Subtype /CIDFontType0 /BaseFont /STSong-Light /CIDSystemInfo << /Registry (Adobe) /Ordering (GB1) /Supplement 4 >> "
    b"/DW 1000 /FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light /Flags 4 /FontBBox [0 0 1000 1000] "
    b"/ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >> >>] >>"
)
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="a" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/>'
    "</Relationships>"
)


def pdf(*pages: Sequence[str], locked: bool = False, stream: bytes | None = None) -> bytes:
    """A page for each list of lines; `locked` needs a password; `stream` is the deflated content of every page."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>"
        % (b" ".join(b"%d 0 R" % (5 + 2 * at) for at in range(len(pages))), len(pages)),
        _LATIN,
        _CHINESE,
    ]
    for at, lines in enumerate(pages):
        content = stream or zlib.compress(
            b"BT " + b" ".join(_line(780 - 14 * row, each) for row, each in enumerate(lines)) + b" ET"
        )
        fonts = b"<< /Font << /F1 3 0 R /F2 4 0 R >> >>"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources %s /Contents %d 0 R >>"
            % (fonts, 6 + 2 * at)
        )
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content))
    if locked:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>" % (b"41" * 32, b"42" * 32))
    return _file(objects, locked=locked)


def docx(*paragraphs: str, body: str = "", before: str = "") -> bytes:
    """A Word document of these paragraphs, with more XML in its body and before all of it."""
    said = "".join(f"<w:p><w:r><w:t>{escape(each)}</w:t></w:r></w:p>" for each in paragraphs)
    return archive(f'<?xml version="1.0"?>{before}<w:document {_WORD}><w:body>{said}{body}</w:body></w:document>')


def archive(document: str | bytes) -> bytes:
    """The archive that holds this as its text."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("_rels/.rels", _RELATIONS)
        parts.writestr("word/document.xml", document)
    return out.getvalue()


def _line(height: int, text: str) -> bytes:
    if text.isascii():
        shown = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        return b"/F1 11 Tf 1 0 0 1 72 %d Tm (%s) Tj" % (height, shown.encode())
    return b"/F2 11 Tf 1 0 0 1 72 %d Tm <%s> Tj" % (height, text.encode("utf-16-be").hex().encode())


def _file(objects: Sequence[bytes], *, locked: bool) -> bytes:
    out, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    lock = b"/Encrypt %d 0 R /ID [<00><00>] " % len(objects) if locked else b""
    trailer = b"trailer\n<< /Size %d /Root 1 0 R %s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, lock, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table) + trailer


def sheet(file: Path, *rows: Any) -> Path:
    """A workbook with these rows, and another sheet."""
    book = Workbook()
    for row in rows:
        book.active.append(list(row))
    book.create_sheet("other").append(["not", "read"])
    book.save(file)
    return file
