"""`main`: the studio as a process. Everything that costs time or needs gradio is imported inside it."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glmstudio.access.connection_limits import limited
from glmstudio.access.door import Door, address, ticket
from glmstudio.access.peer import noting
from glmstudio.errors import StudioError
from glmstudio.ui.framework import tunnel
from glmstudio.ui.shell.instance import Claim, Running, answers, claim, health
from glmstudio.ui.shell.quiet_import import quiet_import
from glmstudio.ui.state import uploads
from glmstudio.words import say, terminal_language

PORT = 7860
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge", "chrome")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the studio of this home until it is interrupted, or open the one that already runs. Raises StudioError."""
    options = parser().parse_args(argv)
    mine = claim()
    if isinstance(mine, Running):
        _greet("ui.terminal.already", mine, options)
        return 0
    try:
        return _serve(options, mine)
    finally:
        mine.release()


def parser() -> argparse.ArgumentParser:
    """The options of the studio itself."""
    lang = terminal_language()
    made = argparse.ArgumentParser(prog="launcher.py", description=say(lang, "ui.terminal.about"))
    made.add_argument("--port", type=int, help=say(lang, "ui.terminal.port"))
    made.add_argument("--no-browser", action="store_true", help=say(lang, "ui.terminal.no_browser"))
    made.add_argument("--window", action="store_true", help=say(lang, "ui.terminal.window"))
    return made


def _serve(options: argparse.Namespace, mine: Claim) -> int:
    listener = _bind(options.port)
    here = Running(listener.getsockname()[1], secrets.token_urlsafe(24))
    uploads.prepare()
    with quiet_import():
        server = _server(build(here.port, here.key))
    mine.announce(here.port, here.key)
    signal.signal(signal.SIGTERM, _leave)  # uvicorn hands the signal on when it has closed its connections
    threading.Thread(target=_welcome, args=(here, options), daemon=True).start()
    threading.Thread(target=_sweep, daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
        _unload()
    return 0


def _sweep() -> None:
    """Clean up after tool calls of a studio that was killed."""
    from glmstudio.tools.workdir import sweep

    sweep()


def _server(application: Any) -> Any:
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=limited(noting(AutoHTTPProtocol)),
            ws="none",  # nothing here speaks it
            proxy_headers=False,  # who is at the other end is what the socket says, not what a request says
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
        )
    )


def _leave(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)


def _unload() -> None:
    """Unload the model: whoever closes the studio expects the GPU to be free. Trainings go on."""
    from glmstudio.chat.model_server import ModelServer

    ModelServer.stop()


def build(port: int, key: str) -> Any:
    """The ASGI application: `/health`, files, and the page, behind the guard and the door."""
    import gradio as gr
    from fastapi import FastAPI

    from glmstudio.access.guard import Guard
    from glmstudio.ui.chat.answers_file import answers_file
    from glmstudio.ui.chat.chat_file import chat_file
    from glmstudio.ui.framework.page_clock import PageClock
    from glmstudio.ui.framework.theme import theme
    from glmstudio.ui.runs.downloads.export_file import export_file
    from glmstudio.ui.runs.downloads.run_file import run_file
    from glmstudio.ui.runs.downloads.score_file import score_file
    from glmstudio.ui.shell.head_injection import HeadInjection
    from glmstudio.ui.shell.page import build_page
    from glmstudio.ui.shell.refusal import refusal, stranger

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks, page = build_page()
    outer.add_api_route("/health", health, methods=["GET"])
    outer.add_route("/changed", PageClock(page).changed, methods=["GET"])
    outer.add_route("/chats/{file}", chat_file, methods=["GET"])
    outer.add_route("/answers/{file}", answers_file, methods=["GET"])
    outer.add_route("/scores/{file}", score_file, methods=["GET"])
    outer.add_route("/runs/{name}/{file}", run_file, methods=["GET"])
    outer.add_route("/exports/{file}", export_file, methods=["GET"])
    gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        theme=theme(),
        favicon_path=str(Path(__file__).parent / "icon.svg"),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size="2gb",
    )
    return Guard(Door(uploads.Uploads(HeadInjection(outer)), key, stranger()), port, refusal=refusal(port))


def _bind(wanted: int | None) -> socket.socket:
    """A socket that listens on 127.0.0.1: on the given port, or the first free one from 7860 on."""
    for port in (wanted,) if wanted is not None else (*range(PORT, PORT + 40), 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
        except (OSError, OverflowError):
            listener.close()
        else:
            return listener
    raise StudioError("ui.port_taken", port=wanted)


def _welcome(here: Running, options: argparse.Namespace) -> None:
    for _ in range(200):
        if answers(here.port, here.key):
            _greet("ui.terminal.ready", here, options)
            return


def _greet(said: str, there: Running, options: argparse.Namespace) -> None:
    """Print the address and open it in a browser, or print how to reach it over ssh."""
    _tell(said, url=address(there.port, there.key))
    if tunnel.over_ssh():
        _tell("ui.terminal.tunnel", line=tunnel.line_from_here(there.port), port=there.port)
    _open(address(there.port, ticket(there.key)), options)


def _open(url: str, options: argparse.Namespace) -> None:
    if options.window and _has_screen() and (browser := next(filter(None, map(shutil.which, _BROWSERS)), None)):
        subprocess.Popen(
            [browser, f"--app={url}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    elif not options.no_browser and not tunnel.over_ssh() and _has_screen():
        webbrowser.open(url)


def _has_screen() -> bool:
    """Whether a browser could show anything: without a display, `webbrowser` starts one inside the terminal."""
    return sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
    )


def _tell(key: str, **values: object) -> None:
    sys.stdout.write(f"{say(terminal_language(), key, **values)}\n")
    sys.stdout.flush()
