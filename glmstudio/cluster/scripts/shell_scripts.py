"""A run of several machines as commands and scripts: what is typed on each, or what a cluster's own starter runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from glmstudio.cluster.join_code import VARIABLE
from glmstudio.cluster.scripts.script_request import ServeScript
from glmstudio.paths import ROOT
from glmstudio.rundir.machines import Cluster

_HEAD = "#!/usr/bin/env bash"
_STRICT = "set -euo pipefail"


def join_parts(cluster: Cluster, number: int) -> list[str]:
    """The command of machine `number`, 2 or more. The code is in its environment: commands are for everybody's eyes."""
    where = f"{cluster.machines[0].address}:{cluster.control}"
    return ["python", "launcher.py", "join", where, "--machine", str(number)]


def join_line(cluster: Cluster, number: int, code: str) -> str:
    """The same as one types it."""
    return f"{VARIABLE}={shlex.quote(code)} {shlex.join(join_parts(cluster, number))}"


def shell_script(cluster: Cluster, first: Sequence[str], code: str, more: Sequence[str] = ()) -> str:
    """One script for all machines: it is started on each with the machine's number.

    `first` is the command of the first machine, `more` what the others' commands say besides.
    """
    cases = [f"  1) exec {shlex.join([*first, '--follow'])} ;;"]
    cases += [
        f"  {number}) exec {shlex.join([*join_parts(cluster, number), *more])} ;;"
        for number in range(2, len(cluster.machines) + 1)
    ]
    lines = [
        _HEAD, "# bash SCRIPT 1 on the first machine, bash SCRIPT 2 on the second one, and so on.", _STRICT,
        f"cd -- {shlex.quote(str(ROOT))}", f"export {VARIABLE}={shlex.quote(code)}",
        'case "${1:?the number of this machine}" in', *cases,
        '  *) echo "There is no machine $1." >&2; exit 2 ;;', "esac",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def slurm_script(cluster: Cluster, first: Sequence[str], code: str, more: Sequence[str] = ()) -> str:
    """A script for `sbatch`: Slurm chooses the machines, so their names are put in when it runs.

    Every machine gets as many processes as the first one. `first` and `more` as for `shell_script`; `first` without
    `--machines`.
    """
    processes, count = cluster.machines[0].processes, len(cluster.machines)
    plain = cluster.flags[2:]
    begin = f'{shlex.join([*first, *plain])} --machines "$MACHINES" --follow'
    join = f'{shlex.join(["python", "launcher.py", "join"])} "$FIRST:{cluster.control}" --machine "$NUMBER"'
    lines = [
        _HEAD, f"#SBATCH --nodes={count}", "#SBATCH --ntasks-per-node=1", f"#SBATCH --cpus-per-task={4 * processes}",
        f"# On machines with cards also: #SBATCH --gpus-per-node={processes}", _STRICT,
        f"cd -- {shlex.quote(str(ROOT))}", f"export {VARIABLE}={shlex.quote(code)}",
        'NAMES=$(scontrol show hostnames "$SLURM_JOB_NODELIST")', 'export FIRST=${NAMES%%$\'\\n\'*}',
        f"export MACHINES=$(sed 's/$/*{processes}/' <<<\"$NAMES\" | paste -sd, -)",
        "srun --kill-on-bad-exit=0 bash -c " + shlex.quote(
            f'NUMBER=$((SLURM_NODEID + 1)); if [ "$NUMBER" = 1 ]; then exec {begin}; fi; '
            f"exec {join}{''.join(' ' + shlex.quote(each) for each in more)}"
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def slurm_server(asked: ServeScript) -> str:
    """A script for `sbatch` that serves a model on one machine; its output says which."""
    command = shlex.join([*asked.command, "--host", "0.0.0.0", "--port", str(asked.port)])  # noqa: S104  behind a key
    lines = [
        _HEAD, f"#SBATCH --job-name={asked.name}", "#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=1",
        *([f"#SBATCH --gpus-per-node={asked.cards}"] if asked.cards else []), _STRICT,
        f"cd -- {shlex.quote(str(ROOT))}", f"export {asked.variable}={shlex.quote(asked.key)}",
        f'echo "http://$(hostname -f):{asked.port}/v1"', f"exec {command}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
