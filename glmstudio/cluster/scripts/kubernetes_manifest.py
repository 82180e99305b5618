"""A training or a model server as manifests for Kubernetes: `kubectl apply -f FILE`.

There is no image of the studio: the pods have a plain Python, and its folder (a clone, with models and data in its
`workspace/`) lies in a volume that all of them share.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from glmstudio.cluster.join_code import VARIABLE as JOIN_CODE
from glmstudio.cluster.scripts.script_request import ServeScript, TrainScript
from glmstudio.cluster.scripts.yaml_text import yaml_text

_IMAGE = "python:3.11"
_CLAIM = "glm-studio"
_FOLDER, _SHARED = "/glm-studio", "/dev/shm"  # noqa: S108  a mount of the pod
_JOIN = ("python", "launcher.py", "join")
_COMMENTS = [
    "kubectl apply -f THIS_FILE; it holds a key, so keep it to yourself.",
    f"Before: a volume claim {_CLAIM} (ReadWriteMany for several pods) with a clone of GLM Studio at its top.",
    "Set it up there once (python launcher.py models list); models and data have to lie in it.",
    "Change image, claim and GPUs as you need.",
]


def kubernetes_training(asked: TrainScript) -> str:
    """A Job with a pod for each machine; the first one starts the run, the others join it."""
    name = asked.name
    many = asked.nodes > 1
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        # Pods find each other by name from their start: none is ready before all have met.
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"job-name": name}},
    }
    job: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completions": asked.nodes,
            "parallelism": asked.nodes,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": _pod("train", _training(asked), asked.cards, key=(JOIN_CODE, name) if many else None)
                | ({"subdomain": name} if many else {})
                | {"restartPolicy": "Never"},
            },
        },
    }
    return yaml_text(_COMMENTS, *([_secret(name, asked.code), service] if many else []), job)


def kubernetes_server(asked: ServeScript) -> str:
    """A Deployment of the model server, and a Service; other pods ask http://NAME:PORT/v1 with the key."""
    name, port = asked.name, asked.port
    command = [*asked.command, "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104  in a pod of its own
    pod = _pod("serve", _script([f"exec {shlex.join(command)}"]), asked.cards, key=(asked.variable, name))
    container = pod["containers"][0]
    container["ports"] = [{"containerPort": port}]
    container["readinessProbe"] = {"httpGet": {"path": "/health", "port": port}, "periodSeconds": 5}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two at once would need the GPUs twice
            "selector": {"matchLabels": {"app": name}},
            # The server answers to its own host name alone, so that is the Service's.
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod | {"hostname": name}},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": port}]},
    }
    return yaml_text(_COMMENTS, _secret(name, asked.key), deployment, service)


def _training(asked: TrainScript) -> str:
    first = shlex.join([*asked.first, *asked.flags])
    if asked.nodes == 1:
        return _script([f"exec {first} --follow"])
    hosts = [f"{asked.name}-{number}.{asked.name}" for number in range(asked.nodes)]
    machines = ",".join(f"{host}*{asked.processes}" for host in hosts)
    join = shlex.join([*_JOIN, f"{hosts[0]}:{asked.control}", "--machine"])
    return _script(
        [
            f'for host in {" ".join(hosts)}; do until getent hosts "$host" >/dev/null; do sleep 1; done; done',
            'if [ "$JOB_COMPLETION_INDEX" = 0 ]; then',
            f"  exec {first} --machines {shlex.quote(machines)} --follow",
            "fi",
            f'exec {join} "$((JOB_COMPLETION_INDEX + 1))"',
        ]
    )


def _script(lines: Sequence[str]) -> str:
    return "\n".join(["set -euo pipefail", *lines]) + "\n"


def _secret(name: str, value: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "stringData": {"key": value},
    }


def _pod(what: str, script: str, cards: int, *, key: tuple[str, str] | None) -> dict[str, Any]:
    """A pod with one container that runs the script in the studio's folder. `key`: a variable, and the secret it is
    from."""
    container: dict[str, Any] = {
        "name": what,
        "image": _IMAGE,
        "workingDir": _FOLDER,
        "command": ["bash", "-c", script],
    }
    if key is not None:
        container["env"] = [{"name": key[0], "valueFrom": {"secretKeyRef": {"name": key[1], "key": "key"}}}]
    if cards:
        container["resources"] = {"limits": {"nvidia.com/gpu": cards}}
    container["securityContext"] = {"allowPrivilegeEscalation": False}
    container["volumeMounts"] = [{"name": "studio", "mountPath": _FOLDER}, {"name": "shm", "mountPath": _SHARED}]
    return {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "studio", "persistentVolumeClaim": {"claimName": _CLAIM}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},  # NCCL and data loaders share memory
        ],
    }
