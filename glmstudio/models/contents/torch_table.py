"""The names, types and shapes of the tensors in a file that `torch.save` wrote, without torch and without running it.

Such a file is a pickle beside the tensors' bytes. Here its instructions are read one by one: texts, numbers, tuples and
tables are put together, and whatever would be called is only written down with what it would be called with.
"""

from __future__ import annotations

import errno
import io
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from glmstudio.files import opened

OLD_FORM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how torch.save began its files before they were zip archives
_LARGEST_TABLE = 1 << 24
_DEEPEST = 3  # tables within tables that are looked through for tensors
_BYTES = {
    "Half": 2, "BFloat16": 2, "Float": 4, "Double": 8, "Char": 1, "Byte": 1, "Bool": 1, "Short": 2, "Int": 4, "Long": 8,
    "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip
_MARK = object()


@dataclass(frozen=True)
class TensorHeader:
    """What a file says of one tensor. `bits` is the width of a number, 0 where nobody knows the type."""

    shape: tuple[int, ...]
    bits: int
    whole_numbers: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has no numbers."""
        return 0 in self.shape


@dataclass(frozen=True)
class _Call:
    what: str
    given: Any


@dataclass(frozen=True)
class _Stored:
    """The bytes that a tensor lies in: torch's name for their type, their key, how many numbers."""

    kind: str
    key: str
    numbers: int


def read_table(file: Path) -> dict[str, TensorHeader]:
    """The tensors by their names, those of tables within the table by theirs alone. Raises OSError, ValueError."""
    if is_old_form(file):
        top, _ = _old_form(_start_of(file))
    else:
        top = _run(io.BytesIO(_table_of(file)))
    return dict(_tensors(top, _DEEPEST))


def is_old_form(file: Path) -> bool:
    """Whether it is one of torch.save's files from before they were zip archives."""
    with opened(file) as stream:
        return stream.read(len(OLD_FORM)) == OLD_FORM


def old_form_length(file: Path) -> int:
    """How many bytes a file of the old form must have by what it says of itself. Raises OSError, ValueError."""
    stream = _start_of(file)
    top, stored = _old_form(stream)
    keys = _run(stream)
    end = stream.tell()
    if not isinstance(top, dict) or not isinstance(keys, list):
        raise ValueError("no table of tensors")
    for key in keys:
        of = stored[str(key)]
        end += 8 + of.numbers * _BYTES[of.kind]
    return end


def mentions(file: Path, text: str) -> bool:
    """Whether the table of a file has this text in it; False where it cannot be read."""
    try:
        if is_old_form(file):
            return any(text in name for name in read_table(file))
        return text.encode() in _table_of(file)
    except (OSError, ValueError):
        return False


def _table_of(file: Path) -> bytes:
    try:
        with zipfile.ZipFile(file) as archive:
            for each in archive.infolist():
                if each.filename.endswith("data.pkl") and each.file_size <= _LARGEST_TABLE:
                    return archive.read(each)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # its table sends the reader to before the file
            raise
        raise ValueError(str(error)) from error
    raise ValueError("no table")


def _start_of(file: Path) -> IO[bytes]:
    """The part of a file of the old form that can hold its table, in memory: a number in it may ask for any amount."""
    with opened(file) as stream:
        return io.BytesIO(stream.read(_LARGEST_TABLE))


def _old_form(stream: IO[bytes]) -> tuple[Any, dict[str, _Stored]]:
    for _ in range(3):  # a mark, a version, and what machine it was
        _run(stream)
    seen: dict[str, _Stored] = {}
    return _run(stream, seen), seen


def _run(stream: IO[bytes], seen: dict[str, _Stored] | None = None) -> Any:
    """What one pickle puts together. Raises ValueError for instructions that no file of tensors has."""
    machine = _Machine({} if seen is None else seen)
    try:
        for code, given, _ in pickletools.genops(stream):
            if code.name == "STOP":
                return machine.stack.pop()
            machine.do(code.name, given)
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("no end")


class _Machine:
    """The stack of one pickle."""

    def __init__(self, seen: dict[str, _Stored]) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._seen = seen

    def do(self, name: str, given: Any) -> None:
        """One instruction."""
        if name in _PLAIN:
            self.stack.append(given)
        elif name in _FIXED:
            self.stack.append(_FIXED[name]())
        elif name in _TUPLES:
            self.stack[len(self.stack) - _TUPLES[name] :] = [tuple(self.stack[len(self.stack) - _TUPLES[name] :])]
        elif name.endswith("GET"):
            self.stack.append(self._memo[int(given)])
        elif name.endswith("PUT"):
            self._memo[int(given)] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name not in ("PROTO", "FRAME"):
            self._build(name)

    def _build(self, name: str) -> None:
        if name in ("TUPLE", "LIST", "SETITEMS", "APPENDS", "POP_MARK"):
            self._gather(name)
            return
        last = self.stack.pop()
        if name == "SETITEM":
            key = self.stack.pop()
            _put(self.stack[-1], [key, last])
        elif name == "APPEND":
            self.stack[-1].append(last)
        elif name in ("REDUCE", "NEWOBJ"):
            self.stack[-1] = {} if self.stack[-1] == "collections OrderedDict" else _Call(str(self.stack[-1]), last)
        elif name == "STACK_GLOBAL":
            self.stack[-1] = f"{self.stack[-1]} {last}"
        elif name == "BINPERSID":
            self.stack.append(self._stored(last))
        elif name not in ("BUILD", "POP"):
            raise ValueError(name)

    def _gather(self, name: str) -> None:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        held = self.stack[at + 1 :]
        del self.stack[at:]
        if name == "SETITEMS":
            _put(self.stack[-1], held)
        elif name == "APPENDS":
            self.stack[-1].extend(held)
        elif name != "POP_MARK":
            self.stack.append(tuple(held) if name == "TUPLE" else held)

    def _stored(self, given: Any) -> _Stored:
        _, kind, key, _, numbers, *_ = given
        found = _Stored(str(kind).removeprefix("torch ").removesuffix("Storage"), str(key), int(numbers))
        if found.numbers < 0:
            raise ValueError(numbers)
        self._seen[found.key] = found
        return found


_PLAIN = {
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "GLOBAL",
}  # fmt: skip
_FIXED: dict[str, Any] = {
    "MARK": lambda: _MARK, "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_DICT": dict,
    "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _put(table: Any, held: list[Any]) -> None:
    if isinstance(table, dict):
        table.update((key, value) for key, value in zip(held[::2], held[1::2], strict=True) if isinstance(key, str))


def _tensors(value: Any, deep: int) -> list[tuple[str, TensorHeader]]:
    found: list[tuple[str, TensorHeader]] = []
    for name, each in value.items() if isinstance(value, dict) else ():
        if header := _header(each):
            found.append((name, header))
        elif isinstance(each, dict) and deep > 1:
            found += _tensors(each, deep - 1)
    return found


def _header(value: Any) -> TensorHeader | None:
    """The tensor that a call would make; None where it would make something else."""
    given = value.given if isinstance(value, _Call) and isinstance(value.given, tuple) else ()
    if isinstance(value, _Call) and value.what == "torch._utils _rebuild_parameter" and given:
        return _header(given[0])
    if len(given) < 3 or not isinstance(given[0], _Stored) or not isinstance(given[2], tuple):
        return None
    shape = tuple(each for each in given[2] if isinstance(each, int) and each >= 0)
    kind = given[0].kind
    whole = kind in ("Char", "Byte", "Short", "Int", "Long")
    return TensorHeader(shape, 8 * _BYTES.get(kind, 0), whole) if len(shape) == len(given[2]) else None
