#!/usr/bin/env python3
"""Set GLM Studio up and start it.

    python launcher.py                 start the studio in the browser
    python launcher.py COMMAND ...     doctor, bench, models, data, train, runs, chat, serve; each has its own --help
    python launcher.py test ...        run the tests; what follows goes to pytest
    python launcher.py --install-shortcut    put the studio into the desktop's menu; --remove-shortcut takes it out
    python launcher.py --torch BUILD   choose the PyTorch build first: 2.7.1+cu118, cu126, cpu, or auto again

The first start makes `.venv` beside this file and installs what `requirements.txt` names; every later one hands over to
`.venv` at once. This file and `glmstudio/setup/` need nothing but Python 3.10 to 3.13.
"""

from __future__ import annotations

import os
import shutil
import sys

from glmstudio.setup.messages import Stop, say
from glmstudio.setup.state import PYTHON, ROOT, is_ready


def main(argv: list[str]) -> int:
    """Set up if anything changed, then become the studio (or pytest)."""
    try:
        check_python()
        if argv in (["--install-shortcut"], ["--remove-shortcut"]):
            return change_menu(argv[0])
        build, argv = take_build(argv)
        testing = argv[:1] == ["test"]
        ready = is_ready(build, testing)
        if argv == ["test", "--help"] or (argv in (["-h"], ["--help"]) and not ready):
            print(__doc__)
            return 0
        if not ready:
            from glmstudio.setup.install import set_up

            set_up(build, testing)
    except KeyboardInterrupt:
        return complain(say("interrupted"), 130)
    except Stop as problem:
        return complain(str(problem), 1)
    return hand_over(["-m", "pytest", *argv[1:]] if testing else ["-m", "glmstudio", *argv], testing)


def check_python() -> None:
    """Stop on a Python that the packages do not support, naming a fitting one if this machine has it."""
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return
    fitting = [name for name in ("python3.11", "python3.12", "python3.13", "python3.10") if shutil.which(name)]
    remedy = say("python_other", command=fitting[0] + " launcher.py") if fitting else say("python_none")
    raise Stop(say("python", version="{}.{}".format(*sys.version_info)) + " " + remedy)


def change_menu(wish: str) -> int:
    """Put the studio into the desktop's menu, or take it out; neither needs an environment."""
    from glmstudio.setup import shortcut

    print(shortcut.install() if wish == "--install-shortcut" else shortcut.remove())
    return 0


def take_build(argv: list[str]) -> tuple[str | None, list[str]]:
    """Split a leading `--torch BUILD` off the arguments."""
    if argv[:1] == ["--torch"]:
        return check_build("".join(argv[1:2])), argv[2:]
    if argv and argv[0].startswith("--torch="):
        return check_build(argv[0][len("--torch=") :]), argv[1:]
    return None, argv


def check_build(build: str) -> str:
    """Stop on what cannot name a PyTorch build."""
    import re

    if re.fullmatch(r"auto|\d+(\.\d+)+(\+[a-z]+[\d.]*)?|cpu|(cu|rocm|xpu)[\d.]*", build):
        return build
    raise Stop(say("build", build=build))


def hand_over(arguments: list[str], testing: bool) -> int:
    """Become the environment's Python, with this folder (and no other program's PYTHONPATH) in its search path."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if testing:
        os.chdir(ROOT)
    if os.name != "nt":
        os.execve(PYTHON, [str(PYTHON), *arguments], environment)
    import subprocess

    try:
        return subprocess.call([str(PYTHON), *arguments], env=environment)
    except KeyboardInterrupt:
        return 130


def complain(text: str, code: int) -> int:
    """Say on the error stream what is wrong."""
    print(text, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
