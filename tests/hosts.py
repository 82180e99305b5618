"""Computers for a test: each with a network, a name, processes and a home of its own, all plugged into one switch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from glmstudio.rundir.run import Run
from glmstudio.system.process import environment

ROOT = Path(__file__).parent.parent
_INIT = """
mount --make-rprivate /
hostname {name}
mount --bind {hosts} /etc/hosts
echo up
while :; do sleep 0.2 & wait; done
"""


def _namespace(*flags: str, script: str) -> tuple[subprocess.Popen[str], int]:
    """A process in new namespaces, and the number of the first one inside."""
    child = subprocess.Popen(
        ["unshare", *flags, "--fork", "--kill-child", "bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    (inner,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    return child, int(inner)


class Host:
    """One computer. Its processes end with it."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab, self.number = lab, number
        self.name, self.ip = f"node{number}", f"10.77.0.{number}"
        self.home = lab.folder / self.name
        self.home.mkdir(parents=True)
        self._process, self._pid = _namespace(
            "--net", "--uts", "--mount", "--pid", "--mount-proc", script=_INIT.format(name=self.name, hosts=lab.hosts)
        )
        lab.computers.append(self)
        cable = f"cable{number}"
        lab.at_switch("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid))
        lab.at_switch("ip", "link", "set", cable, "master", "switch", "up")
        for line in ("link set lo up", f"addr add {self.ip}/24 dev eth0", "link set eth0 up"):
            self.do("ip", *line.split())

    def do(self, *command: str) -> str:
        """Run a command on this computer to its end."""
        return subprocess.run([*self._inside(), *command], check=True, capture_output=True, text=True).stdout

    def cable(self, *, plugged: bool) -> None:
        """Pull its cable, or plug it in."""
        self.lab.at_switch("ip", "link", "set", f"cable{self.number}", "up" if plugged else "down")

    def studio(self, *arguments: str, program: Path = ROOT, **variables: str) -> subprocess.Popen[str]:
        """Start a command of the studio here."""
        return self.run(sys.executable, "-m", "glmstudio", *arguments, program=program, **variables)

    def run(self, *command: str, program: Path = ROOT, **variables: str) -> subprocess.Popen[str]:
        """Start a command here."""
        child = subprocess.Popen(
            [*self._inside(program), *command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "GLMSTUDIO_HOME": str(self.home), "LC_ALL": "C", "OMP_NUM_THREADS": "1", **variables},
        )  # fmt: skip
        self.lab.children.append(child)
        return child

    def call(self, *arguments: str, status: int = 0) -> str:
        """What a command of the studio prints until its end."""
        child = self.studio(*arguments)
        output = child.communicate(timeout=120)[0]
        assert child.returncode == status, output
        return output

    def python(self, code: str) -> Any:
        """What Python prints as JSON here."""
        return json.loads(self.do("env", f"GLMSTUDIO_HOME={self.home}", sys.executable, "-c", code).splitlines()[-1])

    def processes(self) -> list[tuple[int, str]]:
        """Number (as seen from outside) and command of every process here, but for what keeps the computer up."""
        mark, found = os.stat(f"/proc/{self._pid}/ns/pid").st_ino, []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                same = os.stat(folder / "ns/pid").st_ino == mark
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if same and "python" in command:
                found.append((int(folder.name), command))
        return found

    def kill(self, *words: str) -> int:
        """SIGKILL the one process whose command has all of these words; returns its number."""
        (pid,) = [pid for pid, command in self.processes() if all(word in command for word in words)]
        os.kill(pid, signal.SIGKILL)
        return pid

    def interfaces(self) -> set[str]:
        """The network interfaces at which the training processes here meet the others."""
        found = (
            environment(pid).get("GLOO_SOCKET_IFNAME", "")
            for pid, line in self.processes()
            if "glmstudio.train" in line
        )
        return {name for name in found if name}

    def _inside(self, folder: Path = ROOT) -> list[str]:
        return [
            "nsenter",
            "--target",
            str(self._pid),
            "--net",
            "--uts",
            "--mount",
            "--pid",
            f"--wdns={folder}",
            "--",
        ]

    def off(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()


class Lab:
    """A switch and the computers that are plugged into it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.children = folder, []
        self.hosts = folder / "hosts"
        lines = ["127.0.0.1 localhost", *(f"10.77.0.{number} node{number}" for number in range(1, count + 1))]
        folder.mkdir(parents=True, exist_ok=True)
        self.hosts.write_text("\n".join(lines) + "\n")
        self._process, self._pid = _namespace("--net", script="echo up; while :; do sleep 0.2 & wait; done")
        self.at_switch("ip", "link", "add", "switch", "type", "bridge")
        self.at_switch("ip", "link", "set", "switch", "up")
        self.computers: list[Host] = []
        try:
            for number in range(1, count + 1):
                Host(self, number)
        except BaseException:
            self.down()
            raise

    def at_switch(self, *command: str) -> None:
        """Run a command in the switch's network."""
        subprocess.run(["nsenter", "--target", str(self._pid), "--net", "--", *command], check=True)

    def down(self) -> None:
        """Switch everything off."""
        for each in self.computers:
            each.off()
        self._process.kill()
        self._process.wait()
        for child in self.children:
            child.wait(timeout=10)


def run_of(host: Host, name: str = "run") -> Run:
    """A run that a computer owns, read from outside."""
    return Run(name, host.home / "runs" / name)
