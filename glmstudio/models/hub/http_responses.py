"""What a hub's answer to one request for bytes means: the bytes that were asked for, try again, or give up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3

from glmstudio.errors import StudioError
from glmstudio.models.hub.connection import failure
from glmstudio.models.hub.hubs import RemoteFile

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-fA-F]{64})"?')
_GONE = (401, 403, 404, 410)


class Changed(Exception):
    """The hub's files are not those that it listed: its list must be asked for again."""


class Failure(Exception):
    """One request failed, and trying again may help. `pause` is what the server asks for, in seconds."""

    def __init__(self, problem: StudioError, *, pause: float = 0.0) -> None:
        self.problem, self.pause = problem, pause
        super().__init__(problem.key)


class RateLimited(Failure):
    """The server wants fewer requests."""


class Expired(Failure):
    """A signed address does not hold any more; the hub gives a new one."""


class NoRanges(Failure):
    """The server gives whole files only. It may also be a refusal that passes, unless it is `certain`."""

    def __init__(self, problem: StudioError, *, certain: bool) -> None:
        super().__init__(problem)
        self.certain = certain


class Missing(Failure):
    """A file that is on the hub's list seems not to be there: for once, or because the list is old."""


class OddLength(Failure):
    """The server announces another length than it listed: for once, or because the file is another one now."""


def classify(
    response: requests.Response, file: RemoteFile, start: int, *, host: str, signed: bool, tagged: bool = True
) -> None:
    """Return if the body is `file` from byte `start` on (or the whole file, where all of it was asked for).

    Raises Failure where trying again may help, Changed where the list is old, StudioError where nothing helps. `signed`
    says that the address came from an earlier redirect, `tagged` whether a tag that is another sum counts.
    """
    status, ranged = response.status_code, response.request.headers.get("Range", "")
    if status in (200, 206):
        _same_file(response, file, start, host, tagged=tagged and not signed)
        if status == 200 and ranged and ranged != f"bytes=0-{file.size - 1}":
            raise NoRanges(StudioError("models.hub_no_ranges", host=host), certain=True)
    elif status in _GONE and signed:
        raise Expired(StudioError("models.hub_refused", host=host, id=file.name))
    elif status == 416 and (length := _UNSATISFIED.fullmatch(response.headers.get("Content-Range", ""))):
        if int(length[1]) != file.size:
            raise Changed
        raise Failure(StudioError("models.hub_busy", host=host, status=status))
    elif status in (404, 410, 416):
        raise Missing(StudioError("models.hub_lost", host=host, file=file.name, status=status))
    elif status == 403 and ranged:
        raise NoRanges(StudioError("models.hub_no_ranges", host=host), certain=False)
    elif status in (401, 403):
        raise StudioError("models.hub_refused", host=host, id=file.name)
    elif status in (429, 503):
        problem = StudioError("models.hub_busy", host=host, status=status)
        raise RateLimited(problem, pause=_seconds(response.headers.get("Retry-After")))
    elif status >= 500 or status == 408:
        raise Failure(StudioError("models.hub_busy", host=host, status=status))
    else:
        raise StudioError("models.hub_nonsense", host=host)


# An answer that leads to no address, or round in a circle: asking again leads there again.
_ASTRAY = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)


@contextmanager
def named(host: str, address: str) -> Iterator[None]:
    """Whatever the network throws, as a Failure in words; StudioError where trying again cannot help."""
    try:
        yield
    except _ASTRAY as error:
        known = failure(error, host, address)
        raise known or StudioError("models.hub_nonsense", host=host) from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        raise Failure(failure(error, host, address) or StudioError("models.hub_cut", host=host)) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise Failure(StudioError("models.hub_stalled", host=host)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise Failure(StudioError("models.hub_cut", host=host)) from error


def _same_file(response: requests.Response, file: RemoteFile, start: int, host: str, *, tagged: bool) -> None:
    """Whether the answer is of the file that was listed, and begins where it was asked to."""
    headers = response.headers
    if headers.get("Content-Type", "").startswith("text/html"):  # the login page of a network, or of a proxy
        raise Failure(StudioError("models.hub_nonsense", host=host))
    # Behind a redirect is the store of the hub, whose own tags are of another kind.
    first = (*response.history, response)[0].headers
    tag = _SHA256.fullmatch(first.get("X-Linked-ETag", first.get("ETag", "")))
    if tag and file.sha256 and tag[1].lower() != file.sha256 and tagged:
        raise Changed
    if response.status_code == 206:
        announced = _RANGE.fullmatch(headers.get("Content-Range", ""))
        fits = announced is not None and (int(announced[1]), int(announced[3])) == (start, file.size)
    else:
        length = headers.get("Content-Length", "")
        fits = not length.isdigit() or int(length) == file.size
    if not fits or headers.get("Content-Encoding", "identity") != "identity":
        raise OddLength(StudioError("models.hub_wrong_length", host=host, file=file.name))


def _seconds(retry_after: str | None) -> float:
    """What a Retry-After header asks for; a date there is answered with our own pace."""
    return float(retry_after) if retry_after and retry_after.isdigit() and len(retry_after) < 6 else 0.0
