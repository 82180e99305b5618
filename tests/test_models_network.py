"""Downloads on other people's networks: proxies, offline mode, addresses, and hubs that write checksums in their own way."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.doctor import diagnose
from glmstudio.errors import StudioError
from glmstudio.models import verification
from glmstudio.models.hub.connection import endpoint, proxy_for, use_proxies
from glmstudio.models.hub.http_responses import Changed, Expired, Failure, classify
from glmstudio.models.hub.hubs import RemoteFile
from tests.fakes.hub import Faults, Hub
from tests.fakes.published import make_model
from tests.fakes.socks import Socks
from tests.models import REPO, fetch, weights

SOURCES = ("modelscope", "huggingface")
ENDPOINTS = ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT", "GLMSTUDIO_MIRROR")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is set, and what a test or the program sets goes away again."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.setenv(each, "")
            monkeypatch.delenv(each)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return make_model(tmp_path / "hub", REPO, shard_bytes=150_000)


@pytest.fixture
def hub(tmp_path: Path, published: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as running:
        for name in ENDPOINTS:
            monkeypatch.setenv(name, running.url)
        yield running


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "models" / "chatglm3-6b"


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def stopped(folder: Path, source: str) -> StudioError:
    with pytest.raises(StudioError) as error:
        fetch(folder, source)
    return error.value


# ---- proxies


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_download_goes_through_a_socks_proxy(
    source: str, scheme: str, hub: Hub, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Socks() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{proxy.address}")
        fetch(folder, source)
        assert len(proxy.asked) > 1
        (result,) = diagnose(only=["proxy.localhost"]).results
        assert (result.status, result.case) == ("info", "socks")
    assert weights(folder) == weights(published)


@pytest.mark.parametrize("proxy", ["socks5://{}", "http://me:secret@{}", "{}", "'{}'"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_proxy_that_is_not_there_is_named(
    source: str, proxy: str, closed: str, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY" if "socks" not in proxy else "ALL_PROXY", proxy.format(closed))
    scheme = "socks5" if "socks" in proxy else "http"
    assert stopped(folder, source).what() == f"127.0.0.1 cannot be reached through the proxy {scheme}://{closed}."


@pytest.mark.parametrize("source", SOURCES)
def test_a_hub_that_a_proxy_cannot_reach_is_not_called_a_dead_proxy(
    source: str, closed: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Socks() as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5://{proxy.address}")
        for name in ENDPOINTS:
            monkeypatch.setenv(name, f"http://{closed}")
        assert (
            stopped(folder, source).what() == f"127.0.0.1 cannot be reached through the proxy socks5://{proxy.address}."
        )


@pytest.mark.parametrize(
    "value", ["htp://h:1", "http://", "http://h:port", "http://h:99999", "ftp://h:1", "http:// h:1"]
)
def test_a_proxy_that_is_none_is_named_by_its_variable(
    value: str, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    problem = stopped(folder, "modelscope")
    assert (problem.key, problem.values["name"]) == ("models.bad_proxy", "HTTPS_PROXY")
    (result,) = diagnose(only=["proxy.localhost"]).results
    assert (result.status, result.what("en")) == ("warning", problem.what())


def test_what_one_client_cannot_use_is_said_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks4://127.0.0.1:9")
    use_proxies("modelscope")
    with pytest.raises(StudioError):
        use_proxies("huggingface")


@given(
    host=st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z]{2,5})?", fullmatch=True),
    port=st.integers(1, 65535),
    quoted=st.booleans(),
)
def test_a_proxy_without_a_scheme_is_an_http_proxy(host: str, port: int, quoted: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", f"'{host}:{port}' " if quoted else f"{host}:{port}")
        use_proxies("huggingface")
        assert os.environ["HTTPS_PROXY"] == f"http://{host}:{port}"
        assert proxy_for("https://example.org/x") == f"http://{host}:{port}"


# ---- addresses and offline mode


@pytest.mark.parametrize("source", SOURCES)
def test_an_address_without_a_scheme_is_understood(
    source: str, hub: Hub, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ENDPOINTS:
        monkeypatch.setenv(name, f" {hub.url.removeprefix('http://')}/ ")
    fetch(folder, source)
    assert weights(folder) == weights(published)


@pytest.mark.parametrize(
    ("given_", "used"),
    [("hf-mirror.com", "https://hf-mirror.com"), ("hf-mirror.com/", "https://hf-mirror.com"), ("localhost:80", "http://localhost:80"), ("", "https://huggingface.co")],
)  # fmt: skip
def test_where_an_address_leads(given_: str, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", given_)
    assert endpoint("huggingface") == used


@pytest.mark.parametrize(
    "value", ["https:/hf-mirror.com", "htps://hf-mirror.com", "https://", "file:///etc", "http://a b", "x:port"]
)
def test_an_address_that_is_none_is_named_by_its_variable(
    value: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    problem = stopped(folder, "huggingface")
    assert (problem.key, problem.values["name"]) == ("models.bad_endpoint", "HF_ENDPOINT")
    assert "begins with https://" in problem.fix()


@pytest.mark.parametrize(
    ("name", "value"), [("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "true"), ("TRANSFORMERS_OFFLINE", "YES")]
)
def test_offline_mode_is_named(name: str, value: str, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    for source in ("huggingface", "mirror"):
        assert stopped(folder, source).what() == f"Offline mode is switched on by {name}, so Hugging Face is not asked."
    assert not hub.requests
    fetch(folder, "modelscope")


# ---- answers


def answer(status: int, size: int, **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made.request = (
        status,
        requests.Request("GET", "http://h", {"Range": f"bytes=0-{size - 1}"}).prepare(),
    )
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


@given(
    status=st.sampled_from([404, 410, 416, 500, 502, 503, 429, 408]),
    size=st.integers(1, 10**12),
    said=st.integers(0, 10**12),
)
def test_only_another_length_says_that_a_file_changed(status: int, size: int, said: int) -> None:
    file = RemoteFile("a.bin", size, sha256="0" * 64)
    for headers in ({}, {"Content_Range": f"bytes */{said}"}, {"Content_Range": "bytes */*"}):
        another = status == 416 and headers == {"Content_Range": f"bytes */{said}"} and said != size
        with pytest.raises(Changed if another else Failure):
            classify(answer(status, size, **headers), file, 0, host="h", signed=False)
    with pytest.raises((Expired, Failure, Changed)):
        classify(answer(status, size), file, 0, host="h", signed=True)


@pytest.mark.parametrize("source", SOURCES)
def test_files_that_are_missing_for_once_arrive_from_the_same_list(
    source: str, hub: Hub, folder: Path, published: Path
) -> None:
    hub.faults = Faults(errors=(404, 416, 410, 404))
    fetch(folder, source)
    assert weights(folder) == weights(published)
    assert sum(request.kind == "list" for request in hub.requests) == 1


@pytest.mark.slow
def test_a_file_that_stays_missing_is_named(hub: Hub, folder: Path) -> None:
    hub.faults = Faults(errors=(404,) * 2000)
    assert stopped(folder, "modelscope").key == "models.hub_lost"


@pytest.mark.parametrize(
    ("sums", "tags"),
    [
        ("upper", ""), ("prefix", ""), ("quoted", ""), ("base64", ""), ("short", ""), ("none", "upper"),
        ("", "upper"), ("", "weak"), ("", "short"), ("", "none"), ("", "other"), ("base64", "other"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", SOURCES)
def test_strange_checksums_never_end_a_download_that_the_published_one_proves(
    source: str, sums: str, tags: str, hub: Hub, folder: Path, published: Path
) -> None:
    hub.faults = Faults(sums=sums, tags=tags)
    fetch(folder, source)
    assert weights(folder) == weights(published)
    assert verification.is_verified(folder) is not None


@pytest.mark.parametrize("sums", ["upper", "short"])
def test_strange_checksums_do_not_let_wrong_bytes_pass(sums: str, hub: Hub, folder: Path) -> None:
    hub.faults = Faults(sums=sums, tags="upper", wrong_bytes={"pytorch_model-00001-of-00002.bin": -1})
    for source in SOURCES:
        assert stopped(folder, source).key == "models.wrong_from_hub"
