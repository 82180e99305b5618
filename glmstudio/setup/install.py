"""The set-up, step by step. Each step goes on where an interrupted one stopped."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from glmstudio.setup import packages, torch_build
from glmstudio.setup.messages import Stop, say
from glmstudio.setup.state import LOG, PYTHON, ROOT, STAMP, VENV, is_ready, read_stamp, requirement_files, write_stamp
from glmstudio.setup.steps import clock, step
from glmstudio.system.portable.file_access import DISK_FULL
from glmstudio.system.portable.locks import try_lock

_LOCK = VENV / "setup.lock"
_TORCH_PIN = VENV / "torch.txt"


def set_up(build: str | None, testing: bool) -> None:
    """Make the environment and fill it: torch first, then the rest without ever moving torch. Raises Stop."""
    try:
        VENV.mkdir(exist_ok=True)
        with _only_launcher():
            if not is_ready(build, testing):  # another launcher may have done it while this one waited
                _set_up(build, testing)
    except OSError as error:
        raise Stop(_explain(error)) from error


def add(requirements: Path) -> None:
    """Install what is optional into the environment that is there; torch stays as it is. Raises Stop."""
    try:
        with _only_launcher():
            LOG.unlink(missing_ok=True)
            _pin_torch()
            packages.install("1/1", _named(requirements), ["-r", str(requirements), "-c", str(_TORCH_PIN)])
    except OSError as error:
        raise Stop(_explain(error)) from error


def _set_up(build: str | None, testing: bool) -> None:
    begun = time.monotonic()
    asked = build or read_stamp().get("build", "")
    torch, reason = torch_build.choose(asked)
    _check_disk(torch)
    STAMP.unlink(missing_ok=True)
    LOG.unlink(missing_ok=True)
    _write(say("start", folder=VENV))
    total = 3 + testing
    _make_environment(f"1/{total}")
    _install_torch(f"2/{total}", torch, reason)
    for number, file in enumerate(requirement_files(testing), 3):
        packages.install(f"{number}/{total}", _named(file), ["-r", str(file), "-c", str(_TORCH_PIN)])
    write_stamp("" if asked == "auto" else asked, testing)
    shutil.rmtree(VENV / "tmp", ignore_errors=True)
    _write(say("ready", time=clock(time.monotonic() - begun)))


def _make_environment(position: str) -> None:
    if _works():
        packages.forget_half_unpacked()
    else:
        _create_environment(position)
    packages.renew_pip(position)


def _create_environment(position: str) -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Stop(say("no_venv", module=module, version="{}.{}".format(*sys.version_info)))
    if PYTHON.parent.exists():
        _write(say("repair", folder=VENV))
    for left in VENV.iterdir():
        if left != _LOCK:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    with step(position, say("step_venv")):
        try:
            venv.EnvBuilder(symlinks=os.name != "nt", with_pip=True).create(VENV)
        except subprocess.CalledProcessError as error:
            output = error.output.decode(errors="replace") if isinstance(error.output, bytes) else str(error.output)
            LOG.write_text(output, encoding="utf-8")
            raise Stop(packages.explain(output)) from error


def _works() -> bool:
    try:
        return subprocess.run([str(PYTHON), "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _install_torch(position: str, build: str, reason: str) -> None:
    arguments = torch_build.requirement(build)
    if packages.installed_version("torch").endswith("+cpu") and "+" not in build and torch_build.nvidia():
        arguments.append("--force-reinstall")  # the same version counts as installed, though it cannot use the card
    title = say("step_torch", version=build.lstrip("+"), reason=reason)
    packages.install(position, title, arguments)
    _pin_torch()


def _pin_torch() -> None:
    _TORCH_PIN.write_text(f"torch=={packages.installed_version('torch')}\n", encoding="utf-8")


def _named(file: Path) -> str:
    names = [name for name in re.findall(r"^[\w-]+", file.read_text(encoding="utf-8"), re.MULTILINE) if name != "torch"]
    return say("packages", names=", ".join(names[:5]), more=len(names) - 5) if len(names) > 6 else ", ".join(names)


def _check_disk(build: str) -> None:
    need = 8 if "+cu" in build else 3
    free = shutil.disk_usage(VENV).free / 1e9
    if free < need and not packages.installed_version("torch"):
        raise Stop(say("disk_low", need=need, free=free, folder=ROOT))


@contextlib.contextmanager
def _only_launcher() -> Iterator[None]:
    """Hold a lock that the system releases when this process ends, however it ends."""
    with _LOCK.open("a+", encoding="ascii") as file:
        os.set_inheritable(file.fileno(), os.name != "nt")  # a pip at work keeps it even if its launcher is killed
        if not try_lock(file):
            file.seek(0)
            _write(say("waiting", pid=file.read().strip() or "?"))
            while not try_lock(file):
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _explain(error: OSError) -> str:
    if error.errno in DISK_FULL:
        return say("disk_full", folder=VENV)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return say("not_writable", folder=ROOT, hint=error.strerror)
    return say("pip_failed", hint=str(error), folder=VENV)


def _write(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
