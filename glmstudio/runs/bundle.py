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
    rows = [row for row in run.metrics()[0] if isinstance(row.get("loss"), (int, float))]
    write_text(folder / "loss.svg", _curve([(row["step"], row["loss"]) for row in rows]))
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


def _curve(points: list[tuple[float, float]]) -> str:
    """The loss as a plain picture that any program shows."""
    if not points:
        return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240"/>\n'
    last, top = max(x for x, _ in points) or 1, max(y for _, y in points) or 1
    line = " ".join(f"{40 + 580 * x / last:.1f},{210 - 190 * y / top:.1f}" for x, y in points)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 240" font-family="sans-serif" font-size="12">'
        '<rect width="640" height="240" fill="white"/><path d="M40 20V210H620" fill="none" stroke="gray"/>'
        f'<polyline points="{line}" fill="none" stroke="teal" stroke-width="1.5"/>'
        f'<text x="36" y="24" text-anchor="end">{top:.3g}</text><text x="36" y="214" text-anchor="end">0</text>'
        f'<text x="620" y="228" text-anchor="end">{last:g}</text></svg>\n'
    )
