"""Kubernetes' manifests and SkyPilot's tasks: each by its own schema, and by what their scripts do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from glmstudio.cli import main
from glmstudio.cluster.scripts.kubernetes_manifest import kubernetes_server, kubernetes_training
from glmstudio.cluster.scripts.script_request import ServeScript, TrainScript, cluster_name
from glmstudio.cluster.scripts.shell_scripts import slurm_server
from glmstudio.cluster.scripts.skypilot_task import skypilot_server, skypilot_training
from glmstudio.paths import ROOT

HOSTILE = 'it\'s $(touch pwned) `id` "x"\n*; rm -rf ~ {{y}} 中'
CODE = "c" * 24
KEY = "k" * 32
SCHEMAS = json.loads((Path(__file__).parent / "cases" / "kubernetes.json").read_text(encoding="utf-8"))["definitions"]


def train(nodes: int = 3, **more: Any) -> TrainScript:
    given = {"first": ["python", "launcher.py", "train", HOSTILE], "nodes": nodes, "processes": 2, "code": CODE}
    return TrainScript(**(given | more))


def serve(**more: Any) -> ServeScript:
    command = ["python", "launcher.py", "serve", "--model", "demo", "--adapter", HOSTILE]
    given = {"command": command, "cards": 1, "port": 8000, "key": KEY, "variable": "GLMSTUDIO_API_KEY"}
    return ServeScript(**(given | more))


def documents(text: str) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def run(script: str, folder: Path, **variables: str) -> list[str]:
    """What the script would have started; `getent`, `python` and `exec` are stand-ins."""
    stand_ins = 'getent() { true; }\npython() { printf \'%s\\0\' "$@"; exit; }\npython3() { python "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", stand_ins + script.replace("exec ", "")],
        cwd=folder,
        env={"PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "pwned").exists()
    return done.stdout.split("\0")[:-1]


# ---- Kubernetes


def wrong(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """What a published schema of Kubernetes says against a value: unknown fields, too."""
    import jsonschema

    validator = jsonschema.Draft202012Validator({"$ref": f"#/definitions/{schema['$ref']}", "definitions": SCHEMAS})
    return [f"{at}{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(value)]


def test_every_manifest_is_valid_by_the_published_schema() -> None:
    texts = [
        kubernetes_training(train()),
        kubernetes_training(train(1)),
        kubernetes_training(train(on_cpu=True, port=30_000, title="Ünï/code 1")),
        kubernetes_server(serve()),
        kubernetes_server(serve(cards=0, title="x" * 90)),
    ]
    found = [each for text in texts for each in yaml.safe_load_all(text)]
    assert [each["kind"] for each in found] == [
        *("Secret", "Service", "Job"),
        "Job",
        *("Secret", "Service", "Job"),
        *("Secret", "Deployment", "Service"),
        *("Secret", "Deployment", "Service"),
    ]
    assert [problem for each in found for problem in wrong(each, {"$ref": each["kind"]})] == []
    broken = yaml.safe_load(texts[1]) | {"spec": {"template": {"spec": {"containers": [{"nmae": "x"}]}}}}
    assert len(wrong(broken, {"$ref": "Job"})) == 2  # the schema is in use


def test_the_pods_of_a_training_meet(tmp_path: Path) -> None:
    parts = documents(kubernetes_training(train(title="My run")))
    job = parts["Job"]["spec"]
    pod = job["template"]["spec"]
    assert (job["completions"], job["parallelism"], pod["subdomain"]) == (3, 3, "glm-train-my-run")
    assert parts["Service"]["spec"]["clusterIP"] == "None"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    assert CODE not in json.dumps(parts["Job"])
    script = container["command"][2]
    hosts = [f"glm-train-my-run-{number}.glm-train-my-run" for number in range(3)]
    machines = ",".join(f"{host}*2" for host in hosts)
    assert run(script, tmp_path, JOB_COMPLETION_INDEX="0") == [
        "launcher.py", "train", HOSTILE, "--machines", machines, "--follow",
    ]  # fmt: skip
    assert run(script, tmp_path, JOB_COMPLETION_INDEX="2") == [
        "launcher.py", "join", f"{hosts[0]}:29401", "--machine", "3",
    ]  # fmt: skip


def test_a_training_of_one_pod_has_no_code_and_no_service(tmp_path: Path) -> None:
    parts = documents(kubernetes_training(train(1, on_cpu=True)))
    assert [*parts] == ["Job"]
    (container,) = parts["Job"]["spec"]["template"]["spec"]["containers"]
    assert "resources" not in container
    assert run(container["command"][2], tmp_path) == ["launcher.py", "train", HOSTILE, "--follow"]


def test_a_server_is_reached_under_the_name_of_its_service(tmp_path: Path) -> None:
    parts = documents(kubernetes_server(serve(title="demo")))
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    assert pod["hostname"] == parts["Service"]["metadata"]["name"] == "glm-serve-demo"
    assert KEY not in json.dumps([parts["Deployment"], parts["Service"]])
    assert parts["Secret"]["stringData"] == {"key": KEY}
    assert run(pod["containers"][0]["command"][2], tmp_path) == [
        "launcher.py", "serve", "--model", "demo", "--adapter", HOSTILE, "--host", "0.0.0.0", "--port", "8000",
    ]  # fmt: skip


# ---- SkyPilot, Slurm


def test_a_task_of_skypilot(tmp_path: Path) -> None:
    data = tmp_path / "my data.jsonl"
    first = ["python", "launcher.py", "train", "lora-4090", "--data", str(data)]
    task = yaml.safe_load(skypilot_training(train(first=first)))
    assert {name: task[name] for name in ("name", "workdir", "num_nodes", "resources", "file_mounts", "secrets")} == {
        "name": "glm-train",
        "workdir": str(ROOT),
        "num_nodes": 3,
        "resources": {"accelerators": "H100:2"},
        "file_mounts": {"/tmp/glm-studio-data/my data.jsonl": str(data)},
        "secrets": {"GLMSTUDIO_JOIN_CODE": CODE},
    }
    there = ["launcher.py", "train", "lora-4090", "--data", "/tmp/glm-studio-data/my data.jsonl"]
    ips = "10.0.0.1\n10.0.0.2\n10.0.0.3"
    assert run(task["run"], tmp_path, SKYPILOT_NODE_IPS=ips, SKYPILOT_NODE_RANK="0") == [
        *there, "--machines", "10.0.0.1*2,10.0.0.2*2,10.0.0.3*2", "--follow",
    ]  # fmt: skip
    assert run(task["run"], tmp_path, SKYPILOT_NODE_IPS=ips, SKYPILOT_NODE_RANK="1") == [
        "launcher.py", "join", "10.0.0.1:29401", "--machine", "2",
    ]  # fmt: skip
    alone = yaml.safe_load(skypilot_training(train(1, on_cpu=True)))
    assert (alone["resources"], "num_nodes" in alone, "secrets" in alone) == ({"cpus": "4+"}, False, False)
    assert run(alone["run"], tmp_path) == ["launcher.py", "train", HOSTILE, "--follow"]


def test_a_server_of_skypilot_and_slurm(tmp_path: Path) -> None:
    task = yaml.safe_load(skypilot_server(serve()))
    assert (task["resources"], task["secrets"]) == (
        {"accelerators": "H100:1", "ports": 8000},
        {"GLMSTUDIO_API_KEY": KEY},
    )
    served = ["launcher.py", "serve", "--model", "demo", "--adapter", HOSTILE, "--host", "0.0.0.0", "--port", "8000"]
    assert run(task["run"], tmp_path) == served
    text = slurm_server(serve())
    assert "#SBATCH --gpus-per-node=1\n" in text
    script = text.replace(f"cd -- {ROOT}", "true").replace('echo "http', ': "http')
    assert run(script, tmp_path) == served


@given(st.text(max_size=80))
def test_a_name_is_one_that_clusters_take(title: str) -> None:
    import re

    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", cluster_name("train", title))
    assert len(cluster_name("train", title)) + len("-99") <= 63


# ---- the commands


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    status = main([*argv])
    out = capsys.readouterr()
    return status, out.out or out.err


def test_the_commands_print_them(home: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("train", "demo/lora", "--set", "processes=2", "--script")
    status, text = printed(capsys, *words, "kubernetes", "--nodes", "2")
    assert (status, documents(text)["Job"]["spec"]["completions"]) == (0, 2)
    assert run(documents(text)["Job"]["spec"]["template"]["spec"]["containers"][0]["command"][2], tmp_path,
               JOB_COMPLETION_INDEX="0")[:5] == ["launcher.py", "train", "demo/lora", "--set", "processes=2"]  # fmt: skip
    status, text = printed(capsys, *words, "skypilot")
    assert (status, yaml.safe_load(text)["resources"]) == (0, {"accelerators": "H100:2"})
    status, text = printed(capsys, "serve", "--model", "demo", "--engine", "vllm", "--script", "kubernetes")
    pod = documents(text)["Deployment"]["spec"]["template"]["spec"]
    assert run(pod["containers"][0]["command"][2], tmp_path) == [
        "launcher.py", "serve", "--model", "demo", "--engine", "vllm", "--host", "0.0.0.0", "--port", "8000",
    ]  # fmt: skip
    status, text = printed(capsys, *words, "kubernetes", "--machines", "127.0.0.1,127.0.0.2")
    assert (status, text) == (
        1,
        "error: The cluster chooses the machines of a script for kubernetes.\n\n"
        "hint: Leave out `--machines` and say how many with `--nodes`.\n",
    )


# ---- SkyPilot's own reading


@pytest.mark.slow
@pytest.mark.rare
def test_skypilot_reads_them(tmp_path: Path) -> None:
    """Name the Python that has skypilot in `GLMSTUDIO_SKYPILOT`."""
    python = os.environ.get("GLMSTUDIO_SKYPILOT")
    if not python:
        pytest.skip("GLMSTUDIO_SKYPILOT names no Python")
    data = tmp_path / "data.jsonl"
    data.touch()
    code = "import sys, sky; t = sky.Task.from_yaml(sys.argv[1]); print(t.name, t.num_nodes, sorted(t.secrets or {}))"
    with_data = train(first=["python", "launcher.py", "train", "lora-4090", "--data", str(data)])
    for text, said in (
        (skypilot_training(with_data), "glm-train 3 ['GLMSTUDIO_JOIN_CODE']"),
        (skypilot_training(train(1, on_cpu=True)), "glm-train 1 []"),
        (skypilot_server(serve()), "glm-serve 1 ['GLMSTUDIO_API_KEY']"),
    ):
        file = tmp_path / "task.yaml"
        file.write_text(text)
        done = subprocess.run(
            [python, "-c", code, str(file)],
            capture_output=True,
            text=True,
            env=os.environ | {"HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.splitlines()[-1] == said
