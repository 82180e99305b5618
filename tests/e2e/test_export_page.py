"""Export on the page: a click, then the folder is read by a program of others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glmstudio.config.presets import load_preset
from glmstudio.rundir.run import wait_for_end
from glmstudio.runs.start import start_run
from tests.e2e.browser import CHROMIUM, visit
from tests.e2e.studio import ROOT, Studio

pytest.importorskip("playwright")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")]
SAMPLE = ROOT / "glmstudio/demo/sample.jsonl"
READ = "import sys, transformers as t; print(type(t.AutoModelForCausalLM.from_pretrained(sys.argv[1])).__name__)"


@pytest.fixture
def finished(home: Path) -> Path:
    """A home with a short run of LoRA and one of P-Tuning v2."""
    home.mkdir()
    data = home / "data.jsonl"
    data.write_text("\n".join(SAMPLE.read_text(encoding="utf-8").splitlines()[:12]), encoding="utf-8")
    for name, preset in (("lora", "demo/lora"), ("prefix", "demo/ptuning_v2")):
        changes = {"steps": 1, "save_every": 1, "batch_size": 4}
        run = start_run(load_preset(preset), data=data, name=name, changes=changes)
        assert wait_for_end(run, seconds=120).state == "finished", run.log()[0][-2000:]
    return home


def test_what_a_run_learned_is_exported_by_a_click_and_loads_in_transformers(
    finished: Path, running: Studio, chromium: object
) -> None:
    said = {
        "en-US": ("For transformers, vLLM and SGLang", "vLLM, SGLang and llama.cpp have no place for a prefix"),
        "zh-CN": ("用于 transformers、vLLM、SGLang", "没有放前缀（P-Tuning v2）的地方"),
    }
    for locale, (form, no_place) in said.items():
        with visit(chromium, locale=locale) as visitor:
            page = visitor.open(running.url + "#finetune")
            for run in ("prefix", "lora"):
                page.wait_for_selector("#panel-run [data-key^=run-]")
                if not page.locator(f"#panel-run [data-key=run-{run}]").count():  # a click would close it
                    page.click(f"[data-act=open][data-run={run}]", timeout=30_000)
                page.wait_for_selector(
                    f"#panel-run [data-act=export][data-run={run}]", state="attached", timeout=30_000
                )
                unfolded = page.locator("#panel-run details[data-key=export][open]")
                if not unfolded.count():
                    page.click("#panel-run details[data-key=export] > summary")
                assert no_place in page.inner_text("#panel-run details[data-key=export]") or run == "lora"
            button = page.locator("#panel-run [data-act=export][data-form=native]")
            assert button.inner_text() == form
            if locale == "en-US":
                button.click()
            page.wait_for_selector("#panel-run [data-key=exported-lora-native]", timeout=180_000)
            text = page.inner_text("#panel-run [data-key=exported-lora-native]")
            assert f"vllm serve {finished / 'exports/lora-native'} --enable-auto-tool-choice" in text.replace("\n", "")
            assert visitor.complaints == []
    command = [sys.executable, "-I", "-c", READ, str(finished / "exports/lora-native")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout == "GlmForCausalLM\n", done.stderr
