"""A web page as text. Only public addresses: neither this machine nor what stands beside it in the local network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from glmstudio.tools.tool_error import ToolError

PERMISSION = "never"
NEEDS = ["network"]

_MOST_REDIRECTS = 5
_LARGEST = 1_000_000  # bytes
_SECONDS = 10
_PORTS = (80, 443, 8080, 8443)
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
_SILENT = {"script", "style", "noscript", "template", "svg", "head"}
_BREAKS = {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre", "table"}


def fetch_page(url: str) -> str:
    """Fetches a web page and gives its text.

    Args:
        url: The address, beginning with http:// or https://.
    """
    return _fetch(url, _is_public)


def _fetch(url: str, allowed: Callable[[str, int], bool]) -> str:
    """The text of the page. `allowed(address, port)` is asked before every connection, redirects too."""
    for _ in range(_MOST_REDIRECTS + 1):
        answer = _get(url, allowed)
        if isinstance(answer, str):
            return answer
        try:
            url = urljoin(url, answer[0])
        except ValueError as error:
            raise ToolError("The page leads to something that is not an address.") from error
    raise ToolError("The page leads from one address to the next without an end.")


def _get(url: str, allowed: Callable[[str, int], bool]) -> str | tuple[str]:
    """The text of one page, or where it leads to."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ToolError("This is not an address of a web page.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ToolError("Only addresses that begin with http:// or https:// can be fetched.")
    address = _address(parts.hostname, port, allowed)
    connection = _Pinned(parts.hostname, port, address, secure=parts.scheme == "https")
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", path.encode("ascii", "ignore").decode(), headers={"user-agent": "GLM Studio"})
        reply = connection.getresponse()
        if reply.status in (301, 302, 303, 307, 308) and reply.headers.get("location"):
            return (str(reply.headers["location"]),)
        if reply.status != 200:
            raise ToolError(f"The page answered with status {reply.status}.")
        kind = reply.headers.get_content_type()
        if not kind.startswith("text/") and kind not in ("application/xhtml+xml", "application/json"):
            raise ToolError(f"The page is no text but {kind}.")
        text = reply.read(_LARGEST).decode(reply.headers.get_content_charset() or "utf-8", "replace")
    except (OSError, http.client.HTTPException, LookupError, UnicodeError) as error:
        raise ToolError(f"The page could not be fetched: {type(error).__name__}.") from error
    finally:
        connection.close()
    return _text_of(text) if "html" in kind else text


def _address(host: str, port: int, allowed: Callable[[str, int], bool]) -> str:
    """An address of the host; every one that it has must be allowed, so that no second look finds another one."""
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise ToolError(f"There is no host {host[:100]}.") from error
    if not found or not all(allowed(address, port) for address in found):
        raise ToolError("Only public web pages can be fetched, not this machine or its network.")
    return min(found)


def _is_public(address: str, port: int) -> bool:
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    # The rest of IPv6 holds old and translated spellings of IPv4, private ones among them.
    if found.version == 6 and found not in _PUBLIC_6:
        return False
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return port in _PORTS and found.is_global and not found.is_multicast and (inner is None or inner.is_global)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was looked at, whatever the name leads to by now."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool) -> None:
        super().__init__(host, port, timeout=_SECONDS)
        self._address, self._secure = address, secure

    def connect(self) -> None:
        """To the address; with the host's name for the certificate."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self.host) if self._secure else plain
        )


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A head need not be closed.
        self._silent = 0 if tag == "body" else self._silent + (tag in _SILENT)
        if tag in _BREAKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def _text_of(html: str) -> str:
    reader = _Text()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).splitlines())
    return "\n".join(line for line in lines if line)
