"""A bundle: everything another person needs to repeat a run, and to see what came of it. The data stay at home."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from glmstudio.config.presets import render
from glmstudio.config.settings import Settings, change
from glmstudio.files import read_table, write_json, write_text
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.runs.curve_svg import curve_svg
from glmstudio.words import say

_COPIED = (RunFiles.METRICS, RunFiles.SAMPLES, RunFiles.RECORDS, RunFiles.ENVIRONMENT, RunFiles.NOTES)


def write_bundle(run: Run, learned: Path, folder: Path) -> None:
    """Write the bundle of `run`, whose result or checkpoint lies in `learned`, to the new `folder`."""
    settings = change(Settings(), run.settings, source=str(run.path / RunFiles.RECORD))
    shutil.copytree(learned, folder / RunFiles.RESULT)
    for name in _COPIED:
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)
    here = Path(settings.data).name
    portable = dataclasses.replace(
        settings, data="", validation="", warm_start="", device="auto", validation_auto=False
    )
    write_text(folder / "preset.toml", render(portable, header=f"{run.name}\nThe data were {here}."))
    records = read_table(run.path / RunFiles.RECORDS)
    write_json(folder / "data.json", {"name": here, "sha256": records.get("sha256"), "records": records.get("used")})
    points = [(row["step"], row["loss"]) for row in run.metrics()[0] if "loss" in row]
    write_text(folder / "loss.svg", curve_svg([("loss", points)], x_label="step"))
    state = run.read_state()
    values: dict[str, Any] = {
        "name": run.name,
        "model": settings.model,
        "method": settings.method,
        "data": here,
        "sha256": records.get("sha256") or "–",
        "step": state.step,
        "steps": state.steps,
        "loss": "–" if state.loss is None else f"{state.loss:.4f}",
    }
    text = "\n\n".join(say(lang, "runs.bundle_readme", **values).strip() for lang in ("en", "zh"))
    write_text(folder / "README.md", f"{text}\n")
