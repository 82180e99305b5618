"""A model from a hub into a folder: listed, fetched, verified file by file; whole at the end, or stopped with a reason.

<folder>/.download/     files on their way, and the lock that keeps a second studio off
<folder>/glmstudio.json what arrived: sizes and sums
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.models import manifest, verification
from glmstudio.models.catalogue import SOURCES, Entry
from glmstudio.models.contents.weight_file import check_weights, present
from glmstudio.models.family import refuse_other_sum
from glmstudio.models.folder import check_folder, read_config
from glmstudio.models.hub.http_responses import Changed, Failure
from glmstudio.models.hub.hubs import CONNECTIONS, TITLES, Listing, RemoteFile, list_files
from glmstudio.models.hub.partial_file import PIECE, WORK, Checksum, PartialFile, on_disk, sum_of, take_over, unfinished
from glmstudio.models.hub.transfer import Patience, Transfer, disk_problem
from glmstudio.models.verify import content_problems, verify
from glmstudio.system.portable.locks import taken
from glmstudio.units import size

_LOCK = "lock"
_LEFT = (".part", ".pieces", ".pieces~")
_RESERVE = 64 << 20  # bytes of the disk that are left alone
_CHANGES = 3  # of a model at the hub, while it is downloaded
_OUR_SIDE = (  # problems that no other source has an answer to
    "models.disk_full",
    "models.disk_filled",
    "models.disk_lies",
    "models.foreign",
    "models.not_published",
    "models.unwritable",
)


@dataclass(frozen=True)
class Options:
    """How to download. `sources` are tried in their order."""

    sources: tuple[str, ...] = SOURCES
    connections: int = CONNECTIONS
    layout: str = ""  # "bin" or "safetensors"; what the folder has already, or what the hub has; "none": no weights
    replace: bool = False  # sound files that are not the hub's may be replaced, though we did not bring them
    broken: tuple[str, ...] = ()  # files that a full check found wrong, so that they may be replaced in any case
    piece: int = PIECE
    tagged: bool = True  # whether a tag that differs from the list counts, before the list was asked for again
    patience: Patience = field(default_factory=Patience)


@dataclass
class DownloadProgress:
    """How far a download is; `tell` is called with it several times a second. Sizes in bytes."""

    phase: str = "listing"  # listing, checking, fetching, done
    source: str = ""
    total: int = 0
    done: int = 0
    files: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> (done, size)
    received: int = 0
    connections: int = 0
    problem: StudioError | None = None


Tell = Callable[[DownloadProgress], None]


def download(model: Entry, folder: Path, options: Options, tell: Tell) -> Listing:
    """Make `folder` hold the whole model, from the first source that can give it. What is there already is kept.

    Raises StudioError with the reason; what arrived stays, and the next call goes on from there. `tell` may raise to
    stop.
    """
    with lock(folder):
        try:
            listing = _from_any(model, folder, options, tell)
            _stamp(folder, listing)
        except OSError as error:
            raise disk_problem(folder, error) from error
        tell(DownloadProgress("done", listing.source, listing.size, listing.size))
        for left in (folder / WORK).iterdir():
            if left.suffix in _LEFT:
                left.unlink()
    return listing


def _stamp(folder: Path, listing: Listing) -> None:
    """Give the stamp to files that were proven one by one. One that somebody changed while the others arrived makes a
    full check due. Raises StudioError, also where other weights than those of the list are in use."""
    check_folder(folder)
    state = verification.look(folder)
    known = {file.name for file in listing.files} | set(manifest.converted(folder))
    if others := sorted(name for name in state if name not in known):
        raise StudioError("models.other_weights", file=str(folder / others[0]))
    if all(verification.noted(folder, name) for name in state):
        for problem in content_problems(folder):
            raise problem
        verification.record(folder, state)
        return
    for problem in verify(folder, full=True):
        raise problem


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """The right to write into a model's folder; StudioError where another process has it."""
    if (folder / WORK).is_symlink():  # it leads to something that is not ours
        (folder / WORK).unlink()
    work = folder / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        held = taken(work / _LOCK)
    except OSError as error:
        raise StudioError("models.unwritable", folder=str(folder), reason=error.strerror or str(error)) from error
    if held is None:
        raise StudioError("models.locked", folder=str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if [entry.name for entry in work.iterdir()] == [_LOCK]:
                (work / _LOCK).unlink()  # under the lock, so that nobody has it open and takes it for the folder's
        held.release()  # Windows lets no open file be deleted, and deletes this one now
        with contextlib.suppress(OSError):
            work.rmdir()


def discard(folder: Path) -> int:
    """Throw away what an unfinished download left in `folder`, and the files that it had fetched, if the model never
    was whole. Returns the bytes that became free. Files that were there before stay."""
    with lock(folder):
        freed = unfinished(folder)
        for left in (folder / WORK).iterdir():
            if left.suffix in _LEFT:
                left.unlink()
        if not manifest.read(folder).get("once_whole"):
            freed += _discard_fetched(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()
    return freed


def _discard_fetched(folder: Path) -> int:
    freed = 0
    for name, about in manifest.files(folder).items():
        file = folder / name
        if about.get("fetched") is True and file.is_file() and file.stat().st_size == about.get("size"):
            freed += file.stat().st_size
            file.unlink()
    (folder / manifest.NAME).unlink(missing_ok=True)
    return freed


def _from_any(model: Entry, folder: Path, options: Options, tell: Tell) -> Listing:
    problems = []
    for source in options.sources:
        if not model.repo(source):
            continue
        try:
            return _from(model, source, folder, options, tell)
        except StudioError as problem:
            if problem.key in _OUR_SIDE or len(options.sources) == 1:
                raise
            problems.append(problem)
    raise StudioError("models.no_source", title=model.title, problems=tuple(problems))


def _from(model: Entry, source: str, folder: Path, options: Options, tell: Tell) -> Listing:
    reason: BaseException | None = None
    if manifest.origin(folder)[1] in (model.modelscope, model.huggingface):  # we brought what is there
        options = replace(options, replace=True)
    before: Listing | None = None
    for _ in range(_CHANGES):
        tell(DownloadProgress("listing", source))
        listing = list_files(model, source, layout=options.layout)
        # The hub said that a file is another, and lists the same: its list counts, and the sums prove what arrives.
        options = replace(options, tagged=before is None or before.files != listing.files)
        before = listing
        for file in listing.files:
            refuse_other_sum(folder, file.sha256)
        try:
            _fetch(listing, folder, options, tell)
        except Changed as changed:  # its files are others now: those that stayed the same are kept
            reason = changed.__cause__
            time.sleep(0.2)
            continue
        return listing
    if isinstance(reason, Failure):
        raise reason.problem
    raise StudioError("models.hub_changing", source=TITLES[source], id=model.repo(source))


def _fetch(listing: Listing, folder: Path, options: Options, tell: Tell) -> None:
    progress = DownloadProgress("checking", listing.source, listing.size)
    progress.files = {file.name: (0, file.size) for file in listing.files}
    head = {"source": listing.source, "repo": listing.repo, "revision": listing.revision}
    missing = []
    for file in listing.files:
        tell(progress)
        if not _is_there(folder, file, progress, tell):
            _count(progress, file.name, 0)
            missing.append(file)
    if not options.replace:
        missing = [file for file in missing if not _is_users_own(folder, file, listing, options)]
    manifest.note(folder, **head, whole=not missing)
    parts = [PartialFile(folder, file, piece=options.piece) for file in missing]
    try:
        _check_room(folder, parts)
        if parts:
            _transfer(listing, parts, folder, progress, options, tell)
    finally:
        for part in parts:
            part.close()
    manifest.note(folder, whole=True, once_whole=True)


def _transfer(
    listing: Listing, parts: list[PartialFile], folder: Path, progress: DownloadProgress, options: Options, tell: Tell
) -> None:
    placed: set[str] = set()

    def tick() -> None:
        if shutil.disk_usage(folder).free < _RESERVE // 2:  # the last room is for what must be written down
            raise StudioError("models.disk_filled", folder=str(folder))
        for part in parts:
            if part.file.name not in placed:
                _count(progress, part.file.name, part.done)
        progress.received, progress.problem = transfer.received, transfer.problem
        progress.connections = transfer.active
        tell(progress)

    def proven(part: PartialFile, found: Checksum) -> None:
        sha256 = found.sha256.hexdigest()
        about = {"size": part.file.size, "sha256": sha256, "fetched": True, "pieces": part.sums()}
        part.place(folder / part.file.name)
        manifest.add(folder, part.file.name, about)
        verification.note(folder, part.file.name, sha256)
        placed.add(part.file.name)
        _count(progress, part.file.name, part.file.size)
        if part.file.name == "config.json":
            read_config(folder)  # another kind of model is refused before its weights arrive
        tick()

    progress.phase = "fetching"
    transfer = Transfer(listing, parts, tick, proven, options.connections, options.tagged, options.patience)
    transfer.run()


def _is_there(folder: Path, file: RemoteFile, progress: DownloadProgress, tell: Tell) -> bool:
    """Whether the folder has this very file. One that this studio proved and nobody changed since is not read again;
    any other is read whole, and written down if it is right. A damaged one is kept for its good pieces."""
    path = folder / file.name

    def reading(done: int) -> None:
        _count(progress, file.name, done)
        tell(progress)

    try:
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        known = manifest.files(folder).get(file.name, {})
        if not file.sha256 or verification.noted(folder, file.name) != file.sha256:
            found = sum_of(path, file, reading)
            if not found.fits(file):
                if file.sha256 and known.get("sha256") == file.sha256:
                    take_over(folder, file, known.get("pieces"))
                return False
            sha256 = found.sha256.hexdigest()
            verification.note(folder, file.name, sha256)
            manifest.add(folder, file.name, known | {"size": file.size, "sha256": sha256})
    except OSError:
        return False
    _count(progress, file.name, file.size)
    return True


def _is_users_own(folder: Path, file: RemoteFile, listing: Listing, options: Options) -> bool:
    """Whether a file that differs from the hub's is to be left alone: it is small and sound. Raises StudioError for
    weights and vocabularies that are sound, but others: a tuned model is not thrown away for the published one."""
    path = folder / file.name
    if file.name in options.broken or not path.exists():
        return False
    try:
        check_weights(path) if path.suffix in (".bin", ".safetensors") else present(path)
    except StudioError:
        return False
    if path.suffix in (".bin", ".safetensors", ".model"):
        raise StudioError("models.not_published", file=str(path), id=listing.repo)
    return True


def _check_room(folder: Path, parts: list[PartialFile]) -> None:
    """Raise StudioError where the disk cannot hold what is missing; what lies there already is counted."""
    needed = sum(max(0, part.file.size - on_disk(part.path)) for part in parts)
    free = shutil.disk_usage(folder).free
    if needed and needed + _RESERVE > free:
        raise StudioError("models.disk_full", folder=str(folder), need=size(needed + _RESERVE), free=size(free))


def _count(progress: DownloadProgress, name: str, done: int) -> None:
    progress.files[name] = (done, progress.files[name][1])
    progress.done = sum(have for have, _ in progress.files.values())
