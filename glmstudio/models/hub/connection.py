"""The way to a hub as this machine's settings have it: addresses, proxies, offline mode; and why it leads nowhere.

The settings are environment variables, written by people: what can be meant is put right, the rest is named.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from glmstudio.errors import StudioError
from glmstudio.files import short

_ADDRESSES = {
    "modelscope": ("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn"),
    "huggingface": ("HF_ENDPOINT", "https://huggingface.co"),
    "mirror": ("GLMSTUDIO_MIRROR", "https://hf-mirror.com"),
}
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # Hugging Face's client obeys them, and refuses every request
_YES = {"1", "ON", "YES", "TRUE"}
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_ONLY_MODELSCOPE = ("socks4", "socks4a")  # what Hugging Face's client cannot use
_ONE_SLASH = re.compile(r"\w:/(?!/)")  # "https:/host"
_PLAIN = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def endpoint(source: str) -> str:
    """The address of a hub, moved by the variable that its own client obeys. Raises StudioError where that is none."""
    variable, usual = _ADDRESSES[source]
    given = os.environ.get(variable, "").strip(" \t\r\n'\"")
    if not given:
        return usual
    address = given if _PLAIN.match(given) else f"{_scheme_for(given)}://{given}"
    parts = _split(address)
    if parts is None or parts.scheme not in ("http", "https"):
        raise StudioError("models.bad_endpoint", name=variable, value=_shown(given), example=usual)
    return address.rstrip("/")


def refuse_offline(source: str) -> None:
    """Raise StudioError where the client of this hub was told to ask nobody."""
    name = told_offline()
    if name and source != "modelscope":
        raise StudioError("models.offline_mode", name=name)


def told_offline() -> str:
    """The variable that switches Hugging Face's client off; empty where none does."""
    return next((name for name in _OFFLINE if os.environ.get(name, "").strip().upper() in _YES), "")


def use_proxies(source: str = "modelscope") -> None:
    """Make the proxies of this process's environment such that every client understands them: with a scheme, without
    quotes. Raises StudioError for those that cannot be used to reach `source`."""
    for name in (spelled for each in _PROXIES for spelled in (each, each.upper())):
        given = os.environ.get(name, "")
        if not given.strip(" '\""):
            continue
        address = given.strip(" \t\r\n'\"")
        address = address if _PLAIN.match(address) else f"http://{address}"
        if address.lower().startswith("socks://"):  # as desktops write it
            address = f"socks5h{address[5:]}"
        parts = _split(address)
        usable = _SCHEMES + (_ONLY_MODELSCOPE if source == "modelscope" else ())
        if parts is None or parts.scheme not in usable:
            raise StudioError("models.bad_proxy", name=name, value=_shown(given))
        if address != given:
            os.environ[name] = address


def proxy_for(address: str) -> str:
    """The proxy that requests to this address go through, without its password; empty for none."""
    parts = _split(address)
    if parts is None or proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    return _shown(proxies.get(parts.scheme) or proxies.get("all") or "")


def failure(error: BaseException, host: str, address: str) -> StudioError | None:
    """Why a request to `address` at `host` did not reach it, in words; None where it was reached."""
    import requests  # here: whoever only asks for a name of a hub need not wait for it

    chain = list(_chain(error))
    told = " ".join(f"{type(each).__name__} {each}" for each in chain)
    proxy = proxy_for(address)
    if "OfflineMode" in told:
        return StudioError("models.offline_mode", name=told_offline() or _OFFLINE[0])
    if "SOCKS support" in told or "'socksio'" in told or "'socks'" in told:
        return StudioError("models.no_socks", proxy=proxy)
    if "SSLError" in told or "CERTIFICATE_VERIFY_FAILED" in told or "SSLCertVerification" in told:
        return StudioError("models.tls", host=host)
    unreached = any(isinstance(each, (OSError, requests.exceptions.ConnectionError)) for each in chain)
    if "ProxyError" in told or "SOCKS" in told or (proxy and (unreached or "Connect" in told)):
        return StudioError("models.proxy", host=host, proxy=proxy)
    if unreached or "Connect" in told or "Timeout" in told:
        return StudioError("models.hub_unreachable", host=host)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    seen: set[int] = set()
    left = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *getattr(each, "args", ())]
        left += [one for one in inner if isinstance(one, BaseException)]


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None where it names no host, or no possible port."""
    try:
        parts = urlsplit(address)
        if _ONE_SLASH.search(address):
            return None
        return parts if parts.hostname and (parts.port is None or parts.port > 0) and " " not in address else None
    except ValueError:
        return None


def _scheme_for(given: str) -> str:
    host = (_split(f"//{given}") or urlsplit("")).hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return "http" if local else "https"


def _shown(address: str) -> str:
    """An address for a sentence, without the name and the password that may stand in it."""
    return short(re.sub(r"[^/@\s]*@", "", address), 80)
