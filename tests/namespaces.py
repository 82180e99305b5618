"""A machine of its own for a test: name, mounts and network in namespaces, with the doctor run inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_START = """
set -e
mount --make-rprivate /
ip link set lo up
{scene}
exec {python} -m glmstudio doctor --json
"""


def doctor_in(scene: str, home: Path, **variables: str) -> dict[str, Any]:
    """What `doctor --json` prints on the machine that the shell lines of `scene` make."""
    done = subprocess.run(
        ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
         _START.format(scene=scene, python=sys.executable)],
        cwd=ROOT, env={**os.environ, "GLMSTUDIO_HOME": str(home), "LC_ALL": "C", **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == any(finding["severity"] == "error" for finding in data["findings"])
    return data


def case(data: dict[str, Any], check: str) -> str:
    """The case of a check's (first) result."""
    return str(next(fact["case"] for fact in data["facts"]["checks"] if fact["id"] == check))


def finding(data: dict[str, Any], check: str) -> dict[str, str]:
    """The only finding of a check."""
    (found,) = [found for found in data["findings"] if found["id"] == check]
    return dict(found)


def python_on_small_disk(code: str, home: Path, *, size: str) -> Any:
    """What `code` prints as JSON on its last line; `home` is a disk of its own of that size, which vanishes after it."""
    start = 'mount --make-rprivate /; mount -t tmpfs -o "size=$SIZE" tmpfs "$GLMSTUDIO_HOME"; exec "$0" -c "$1"'
    home.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-ec", start, sys.executable, code],
        cwd=ROOT, env={**os.environ, "GLMSTUDIO_HOME": str(home), "SIZE": size}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])
