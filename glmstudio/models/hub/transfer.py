"""Bytes from a hub to the disk, over a network that breaks.

Several connections fetch spans of pieces; one that has nothing left takes the second half of the longest span that
another is at. The caller's thread reads the pieces in order as they arrive and proves the sum of each file, so a file
is whole and right at the moment its last piece is read.
"""

from __future__ import annotations

import errno
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from glmstudio.errors import StudioError
from glmstudio.models.hub.http_responses import (
    Changed,
    Expired,
    Failure,
    Missing,
    NoRanges,
    OddLength,
    RateLimited,
    classify,
    named,
)
from glmstudio.models.hub.hubs import Listing
from glmstudio.models.hub.partial_file import Checksum, PartialFile
from glmstudio.system.portable.file_access import DISK_FULL

_BLOCK = 1 << 20
_SPAN = 16  # pieces that one request asks for, at most
_SLOWEST = 512  # bytes a second; a connection that brings less for as long as a stall lasts is given up
_CONNECT_S = 10.0
_LONGEST_PAUSE_S = 15.0
_LONGEST_WISH_S = 120.0  # of a server that asks to be left alone for a while
_CALM_S = 30.0  # without an objection of the server, until one more connection is tried again
_WRONG_MOST = 2  # times that a whole file may arrive with the wrong sum
_ODD_MOST = 2  # times that a file may be announced with another length
_DISK = (*DISK_FULL, errno.EFBIG)


@dataclass
class _Span:
    """Pieces that one connection is at: from `at` to before `end`, which another connection may bring closer."""

    part: PartialFile
    at: int
    end: int
    whole: bool = False  # the file is asked for as a whole, because the server gives no ranges


@dataclass(frozen=True)
class Patience:
    """How long the network may fail. All in seconds."""

    total_s: float = 300.0  # without a single piece, until the download stops with the reason
    stall_s: float = 30.0  # without a byte on one connection, until it is opened anew


@dataclass
class Transfer:
    """Everything under way between one hub and the parts of one model. `run` once.

    `tick` is called several times a second and raises Stopped to end it; `proven` is called with each part whose bytes
    are those that the hub published.
    """

    listing: Listing
    parts: Sequence[PartialFile]
    tick: Callable[[], None]
    proven: Callable[[PartialFile, Checksum], None]
    connections: int = 4
    tagged: bool = True  # whether an answer whose tag is another sum means that the file is another
    patience: Patience = field(default_factory=Patience)

    received: int = 0  # bytes from the network, those that were thrown away included
    limit: int = 0  # connections that the server seems to bear
    active: int = 0
    problem: StudioError | None = None  # what went wrong last, while it is tried again

    def run(self) -> None:
        """Fetch and prove every part. Raises StudioError, Changed or Stopped; what arrived is kept."""
        self.limit = self.connections
        self._lock = threading.Condition()
        self._spans: list[_Span] = []
        self._fatal: Exception | None = None
        self._over = False
        self._whole = False  # the server gives whole files only
        self._refused = 0
        self._odd: dict[str, int] = {}
        self._moved: dict[str, str] = {}
        self._told = {part.file.name: self.listing.url(part.file.name) for part in self.parts}
        self._host = urlsplit(next(iter(self._told.values()))).hostname or self.listing.source
        self._progress = self._objected = time.monotonic()
        workers = [
            threading.Thread(target=self._work, args=(index,), daemon=True, name=f"fetch-{index}")
            for index in range(self.connections)
        ]
        for worker in workers:
            worker.start()
        try:
            for part in self.parts:
                self._prove(part)
        finally:
            with self._lock:
                self._over = True
                self._lock.notify_all()
        for worker in workers:
            worker.join(0.5)

    # ---- the caller's thread: prove what arrives

    def _prove(self, part: PartialFile) -> None:
        for attempt in range(_WRONG_MOST + 1):
            found = Checksum(part.file.size)
            for number in range(part.count):
                found.add(self._read(part, number), part.file)
            if found.fits(part.file):
                self.proven(part, found)
                return
            if damaged := part.damaged():  # the disk lost them
                part.drop(damaged)
            elif attempt + 1 < _WRONG_MOST:
                part.drop()
            else:
                part.drop()
                raise StudioError("models.wrong_from_hub", file=part.file.name, host=self._host)
        raise StudioError("models.disk_lies", file=str(part.path))

    def _read(self, part: PartialFile, number: int) -> memoryview:
        while True:
            while not part.wait(number, 0.1):
                self._check()
            self.tick()
            data = part.read(number)
            if data is not None:
                return data

    def _check(self) -> None:
        self.tick()
        with self._lock:
            if self._fatal:
                raise self._fatal
            if self.limit < self.connections and time.monotonic() - self._objected > _CALM_S:
                self.limit, self._objected = self.limit + 1, time.monotonic()
            self._lock.notify_all()

    # ---- the connections

    def _work(self, index: int) -> None:
        session, failures = requests.Session(), 0
        while span := self._next(index):
            pause, begun = 0.0, span.at
            try:
                self._fetch(session, span)
                failures = 0
            except Expired:  # no fault of anybody: the next request asks the hub for a new address
                pass
            except Failure as failure:
                failures = 1 if span.at > begun else failures + 1
                pause = self._failed(failure, failures)
            except (StudioError, Changed) as error:
                self._end(error)
            except Exception as error:  # noqa: BLE001  whatever broke, nobody must wait for this connection for ever
                self._end(StudioError("models.broken", reason=f"{type(error).__name__}: {error}"))
            finally:
                with self._lock:
                    self._spans.remove(span)
                    self.active -= 1
            if pause:
                session.close()
                self._sleep(pause)
        session.close()

    def _next(self, index: int) -> _Span | None:
        """The next span for this connection, once there is one; None at the end."""
        with self._lock:
            while not self._over and not self._fatal:
                most = 1 if self._whole else self.limit
                if index < most and (span := self._claim() or self._steal()):
                    self._spans.append(span)
                    self.active += 1
                    return span
                self._lock.wait(0.2)
        return None

    def _claim(self) -> _Span | None:
        for part in self.parts:
            taken = [span for span in self._spans if span.part is part]
            if self._whole:
                if not taken and any(not part.has(number) for number in range(part.count)):
                    return _Span(part, 0, part.count, whole=True)
                continue
            free = [
                number
                for number in range(part.count)
                if not part.has(number) and not any(span.at <= number < span.end for span in taken)
            ]
            if free:
                most = max(1, min(_SPAN, -(-len(free) // (2 * self.limit))))
                length = next((n for n in range(1, most) if n == len(free) or free[n] != free[0] + n), most)
                return _Span(part, free[0], free[0] + min(length, len(free)))
        return None

    def _steal(self) -> _Span | None:
        longest = max(self._spans, key=lambda span: span.end - span.at, default=None)
        if self._whole or longest is None or longest.end - longest.at < 2:
            return None
        middle = longest.at + (longest.end - longest.at + 1) // 2
        taken = _Span(longest.part, middle, longest.end)
        longest.end = middle
        return taken

    def _fetch(self, session: requests.Session, span: _Span) -> None:
        part = span.part
        start = 0 if span.whole else span.at * part.piece
        last = min(span.end * part.piece, part.file.size) - 1
        address = self._moved.get(part.file.name) or self._told[part.file.name]
        with named(self._host, address), self._open(session, span, start, last) as response:
            self._stream(response.raw, span, start)

    def _open(self, session: requests.Session, span: _Span, start: int, last: int) -> requests.Response:
        """An answer whose body is the file from `start` to `last`, or the whole file where ranges are refused."""
        name = span.part.file.name
        address = self._moved.get(name)
        # A signed address needs no token, and another host must not see it.
        headers = {"Accept-Encoding": "identity", **({} if address else self.listing.headers())}
        if not span.whole:
            headers["Range"] = f"bytes={start}-{last}"
        connect_s = min(_CONNECT_S, self.patience.stall_s)
        timeout = (connect_s, self.patience.stall_s)
        response = session.get(address or self._told[name], headers=headers, stream=True, timeout=timeout)
        try:
            classify(response, span.part.file, start, host=self._host, signed=bool(address), tagged=self.tagged)
        except BaseException as error:
            response.close()
            self._learn(error, name)
            raise
        if response.history:
            self._moved[name] = response.url
        return response

    def _learn(self, error: BaseException, name: str) -> None:
        """What a refused request teaches about the hub, for those that follow."""
        if isinstance(error, Expired):
            self._moved.pop(name, None)
        elif isinstance(error, NoRanges):
            self._refused += 1
            self._whole = self._whole or error.certain or self._refused > 1
        elif isinstance(error, OddLength):
            self._odd[name] = self._odd.get(name, 0) + 1
            if self._odd[name] > _ODD_MOST:
                raise Changed from error

    def _stream(self, raw: Any, span: _Span, offset: int) -> None:
        part, crc = span.part, 0
        number = offset // part.piece
        since, brought = time.monotonic(), 0
        while number < span.end and not self._over:
            end = number * part.piece + part.length(number)
            block = raw.read1(min(_BLOCK, end - offset), decode_content=False)
            if not block:
                raise Failure(StudioError("models.hub_cut", host=self._host))
            if not part.has(number):
                _write(part, block, offset)
                crc = zlib.crc32(block, crc)
            offset += len(block)
            with self._lock:
                self.received += len(block)
            brought += len(block)
            if offset == end:
                self._arrived(span, number, crc)
                number, crc = number + 1, 0
            if time.monotonic() - since > self.patience.stall_s:
                if brought < _SLOWEST * self.patience.stall_s:
                    raise Failure(StudioError("models.hub_stalled", host=self._host))
                since, brought = time.monotonic(), 0

    def _arrived(self, span: _Span, number: int, crc: int) -> None:
        if not span.part.has(number):
            span.part.finish(number, crc)
        with self._lock:
            span.at = number + 1
            self._progress, self.problem, self._refused = time.monotonic(), None, 0

    def _failed(self, failure: Failure, times: int) -> float:
        """Take note; returns how long this connection should rest, in seconds."""
        with self._lock:
            self.problem = failure.problem
            if isinstance(failure, RateLimited):
                self.limit, self._objected = max(1, min(self.limit, self.active) // 2), time.monotonic()
            waited = time.monotonic() - self._progress
            if waited > self.patience.total_s and times > 2:
                self._fatal = self._fatal or _last(failure)
        ours = min(0.1 * 2 ** min(times, 10), _LONGEST_PAUSE_S, self.patience.total_s / 4 + 0.1)
        return max(ours, min(failure.pause, _LONGEST_WISH_S))

    def _end(self, error: Exception) -> None:
        with self._lock:
            self._fatal = self._fatal or error
            self._lock.notify_all()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._lock:
            while not self._over and not self._fatal and time.monotonic() < end:
                self._lock.wait(end - time.monotonic())


def _last(failure: Failure) -> Exception:
    """What a failure that does not pass comes to: what is missing for so long may have another name by now."""
    if not isinstance(failure, Missing):
        return failure.problem
    changed = Changed()
    changed.__cause__ = failure
    return changed


def _write(part: PartialFile, block: bytes, offset: int) -> None:
    try:
        part.write(block, offset)
    except OSError as error:
        raise disk_problem(part.path.parent.parent, error) from error


def disk_problem(folder: Path, error: OSError) -> StudioError:
    """Why nothing could be written into `folder`, in words."""
    if error.errno in _DISK:
        return StudioError("models.disk_filled", folder=str(folder))
    return StudioError("models.unwritable", folder=str(folder), reason=error.strerror or str(error))
