"""Whether a model folder is what was published: quickly by names, sizes and headers, fully by every byte.

A full check compares sha256 sums where they are known: those that our own download or conversion wrote down, or those
that Hugging Face's client keeps beside the files. Without a sum, a zipped `.bin` file still carries one of its own for
each tensor. Either way the vocabulary is read and compared with the weights. A folder in which nothing is wrong gets
the stamp that fine-tuning and chat ask for.
"""

from __future__ import annotations

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.models import manifest, verification
from glmstudio.models.contents.vocabulary import compare_vocabulary, vocabulary_file
from glmstudio.models.contents.weight_file import tensor_headers
from glmstudio.models.family import OTHER_KIND, SECOND_FIRST_SHARD, refuse_other_sum
from glmstudio.models.folder import folder_problems, model_files, read_config, weight_files

_BLOCK = 1 << 20
# The last three are for members that are encrypted or packed in a way that weights never are.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, lzma.LZMAError)

Tell = Callable[[int, int], None]


def verify(folder: Path, *, full: bool = False, tell: Tell = lambda _done, _total: None) -> list[StudioError]:
    """What is wrong with the model in `folder`; empty where nothing is found.

    Quick takes a moment. Full reads every byte and tells (bytes done, bytes in all); it gives or takes the stamp.
    """
    problems = list(folder_problems(folder))
    if not full or any(problem.key in OTHER_KIND for problem in problems):  # another model's bytes tell nothing more
        return problems + content_problems(folder, problems)
    before, files = verification.look(folder), _to_read(folder, problems)
    sums = manifest.known_sums(folder)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        for amount in _check(file, sums.get(file.name), problems):
            done += amount
            tell(done, total)
    problems += content_problems(folder, problems)
    if problems:
        verification.forget(folder, [Path(str(problem.values.get("file", ""))).name for problem in problems])
    else:
        verification.record(folder, before)
    return problems


def content_problems(folder: Path, known: Sequence[StudioError] = ()) -> list[StudioError]:
    """What the headers of the weights and the vocabulary say against each other, where `known` leaves them whole."""
    problems: list[StudioError] = []
    try:
        config, files = read_config(folder), weight_files(folder)
    except StudioError:
        return problems
    wrong = {str(problem.values.get("file", "")) for problem in known}
    whole = [file for file in files if str(file) not in wrong and file.is_file()]
    vocabulary = vocabulary_file(folder)
    checks: list[Callable[[], None]] = [partial(_refuse_empty, file) for file in whole]
    if str(vocabulary) not in wrong and not any(problem.key in OTHER_KIND for problem in known):
        checks.append(partial(compare_vocabulary, vocabulary, config, whole))
    for check in checks:
        try:
            check()
        except StudioError as problem:
            problems.append(problem)
    return problems


def _refuse_empty(file: Path) -> None:
    """Raise StudioError where tensors have no numbers: so they are saved under ZeRO-3 when nobody gathers them."""
    if any(header.empty for header in tensor_headers(file).values()):
        raise StudioError("models.empty_tensors", file=str(file))


def _to_read(folder: Path, problems: list[StudioError]) -> list[Path]:
    """The files that are worth reading: those of the model that are there, and not known to be wrong already."""
    wrong = {str(problem.values.get("file", "")) for problem in problems}
    try:
        files = model_files(folder)
    except StudioError:
        files = [folder / name for name in manifest.files(folder)]
    return [file for file in files if file.is_file() and str(file) not in wrong]


def _check(file: Path, wanted: str | None, problems: list[StudioError]) -> Iterator[int]:
    """Read one file, adding to `problems`; yields the bytes read since the last time."""
    try:
        if wanted is None and zipfile.is_zipfile(file):
            yield from _check_zip(file)
            if file.stat().st_size != SECOND_FIRST_SHARD:
                return
        found = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
                yield len(block)
        refuse_other_sum(file.parent, found.hexdigest())
        if wanted is not None and found.hexdigest() != wanted:
            problems.append(StudioError("models.wrong_bytes", file=str(file)))
        elif wanted is not None:
            verification.note(file.parent, file.name, wanted)
    except StudioError as problem:
        problems.append(problem)
    except _BROKEN_ZIP:
        problems.append(StudioError("models.wrong_bytes", file=str(file)))
    except OSError as error:
        problems.append(StudioError("models.unreadable_file", file=str(file), reason=error.strerror or str(error)))


def _check_zip(file: Path) -> Iterator[int]:
    """Every member against its own sum. Nothing is unpacked or run; raises BadZipFile at the first wrong one."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                while block := stream.read(_BLOCK):
                    yield len(block)
