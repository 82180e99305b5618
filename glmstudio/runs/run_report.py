"""A run as a report to share: Markdown or one HTML page, without paths and without names of people and machines."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glmstudio import __version__
from glmstudio.config.presets import find_preset
from glmstudio.config.settings import change, differences
from glmstudio.errors import StudioError
from glmstudio.files import read_table, write_text
from glmstudio.rundir.metric_table import by_step
from glmstudio.rundir.overfitting import overfitting
from glmstudio.rundir.record import RunFiles
from glmstudio.rundir.run import Run
from glmstudio.runs.curve_svg import curve_svg
from glmstudio.system.redact import redact
from glmstudio.units import duration, number
from glmstudio.words import has, say

REPORT_FORMS = {"markdown": "md", "html": "html"}
_OF_PLACE = ("data", "validation", "warm_start", "device")  # settings that tell where something lies
_COUNTS = ("trained", "validation", "mixed", "mended", "cut", "dropped", "with_tools")
_SAMPLES, _LONGEST, _POINTS = 6, 2000, 12
_STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:760px;margin:32px auto;padding:0 16px;color:#15201d;"
    "background:#fff}table{border-collapse:collapse;width:100%;margin:8px 0 16px}td,th{border:1px solid #dae2de;"
    "padding:5px 10px;text-align:left;overflow-wrap:anywhere;vertical-align:top}pre{white-space:pre-wrap;"
    "overflow-wrap:anywhere;background:#f4f7f5;padding:10px 12px;border-radius:8px}svg{width:100%;height:auto}"
)

# Whatever is inside, a browser runs and fetches nothing.
_POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A part of a report: a picture, a sentence, a table, and texts of the model, each with what it is."""

    title: str
    rows: Rows = ()
    heads: tuple[str, ...] = ()
    note: str = ""
    texts: Rows = ()
    svg: str = ""


def export_report(run: Run, form: str, target: Path, lang: str, scores: Rows = ()) -> Path:
    """Write the report to the new file `target`. Raises StudioError."""
    target = target.expanduser().absolute()
    if os.path.lexists(target):
        raise StudioError("runs.target_exists", folder=str(target))
    try:
        write_text(target, report_text(run, form, lang, scores))
    except OSError as error:
        raise StudioError("runs.no_folder", folder=str(target), reason=error.strerror or str(error)) from error
    return target


def report_text(run: Run, form: str, lang: str, scores: Rows = ()) -> str:
    """The report in a form; `scores`: what was asked afterwards, as rows of name, base, fine-tuned."""
    title, foot = say(lang, "report.title", name=_shared(run.name)), say(lang, "report.foot", version=__version__)
    base, tuned = say(lang, "report.base"), say(lang, "report.tuned")
    made = [
        Section(say(lang, "report.summary"), _summary(run, lang)),
        Section(say(lang, "report.data"), _data(run, lang)),
        _changed(run, lang),
        _curve(run, lang),
        Section(say(lang, "report.scores"), scores, ("", base, tuned)),
        _samples(run, lang),
    ]
    sections = [each for each in made if each.rows or each.texts]
    return (_html if form == "html" else _markdown)(lang, title, sections, foot)


def _summary(run: Run, lang: str) -> Rows:
    state, method = run.read_state(), str(run.settings.get("method", ""))
    seconds = next((row["seconds"] for row in reversed(run.metrics()[0]) if "seconds" in row), None)
    found = {
        "model": _shared(run.model),
        "method": say(lang, f"settings.choice.{method}") if has(f"settings.choice.{method}") else "",
        "preset": _shared(run.record.preset),
        "state": say(lang, f"runs.state.{state.state}"),
        "steps": f"{state.step:,} / {state.steps:,}" if state.steps else "",
        "loss": number(state.loss) if state.loss is not None else "",
        "validation_loss": number(state.validation_loss) if state.validation_loss is not None else "",
        "took": duration(lang, seconds) if seconds else "",
    }
    return [(say(lang, f"report.{name}"), value) for name, value in found.items() if value]


def _data(run: Run, lang: str) -> Rows:
    counts = read_table(run.path / RunFiles.RECORDS)
    name = _shared(re.split(r"[/\\]", run.data.rstrip("/\\"))[-1])
    rows = [
        (say(lang, f"report.count_{each}"), f"{count:,}")
        for each in _COUNTS
        if isinstance(count := counts.get(each), int) and count
    ]
    return [(say(lang, "report.data_name"), name), *rows] if name else rows


def _changed(run: Run, lang: str) -> Section:
    """The settings that differ from the preset's."""
    title, heads = say(lang, "report.changed"), ("setting", "of_preset", "of_run")
    try:
        base = find_preset(run.record.preset).settings
        told = {name: value for name, value in run.settings.items() if name not in _OF_PLACE}
        mine = change(base, told, source=RunFiles.RECORD)
    except StudioError:  # its preset is gone
        return Section(title)
    rows = [(label, _shared(before), _shared(after)) for label, before, after in differences(base, mine, lang)]
    return Section(title, rows, tuple(say(lang, f"report.{name}") for name in heads))


def _curve(run: Run, lang: str) -> Section:
    names = ("loss", "validation_loss")
    rows, title = by_step(run.metrics()[0]), say(lang, "report.curve")
    lines = [(name, [(float(row["step"]), float(row[name])) for row in rows if name in row]) for name in names]
    drawn = [(say(lang, f"report.{name}"), points) for name, points in lines if points]
    if not drawn:
        return Section(title)
    shown = [row for row in rows if "validation_loss" in row] or rows
    stride = -(-len(shown) // _POINTS)
    chosen = shown[::-1][::stride][::-1]  # the last one stays
    step = say(lang, "report.step")
    return Section(
        title,
        [(str(row["step"]), *(number(row[name]) if name in row else "–" for name in names)) for row in chosen],
        (step, *(say(lang, f"report.{name}") for name in names)),
        note=overfitting_words(lang, lines[1][1]),
        svg=curve_svg(drawn, x_label=step),
    )


def overfitting_words(lang: str, validation: Sequence[tuple[float, float]]) -> str:
    """From which step on a run overfits, with the figures that prove it; nothing where they do not."""
    found = overfitting(validation)
    if found is None:
        return ""
    lowest, last = number(found.lowest), number(found.last)
    values = {"step": found.step, "last_step": found.last_step, "rise": f"{found.rise:.0f}"}
    return say(lang, "report.overfits", lowest=lowest, last=last, **values)


def _samples(run: Run, lang: str) -> Section:
    rows = [row for row in run.samples()[0] if row.get("answer")][-_SAMPLES:]
    if not rows:
        return Section(say(lang, "report.samples"))
    texts = [(say(lang, "report.question"), _shared(str(rows[-1].get("question", "")))[:_LONGEST])]
    texts += [(f"{say(lang, 'report.step')} {row['step']}", _shared(str(row["answer"]))[:_LONGEST]) for row in rows]
    return Section(say(lang, "report.samples"), texts=texts)


def _shared(text: str) -> str:
    """A text without paths and names."""
    return redact(text)


def _markdown(_lang: str, title: str, sections: Sequence[Section], foot: str) -> str:
    parts = [f"# {_plain(title)}"]
    for each in sections:
        parts.append(f"## {each.title}")
        if each.note:
            parts.append(each.note)
        if each.rows:
            heads = each.heads or ("",) * len(each.rows[0])
            lines = [_line(heads), "|" + "---|" * len(heads), *map(_line, each.rows)]
            parts.append("\n".join(lines))
        for name, text in each.texts:  # indented, so that nothing in them is Markdown or HTML
            parts += [f"{name}:", "\n".join(f"    {line}" for line in text.splitlines() or [""])]
    return "\n\n".join([*parts, foot]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    line = " ".join(text.split())[:_LONGEST]
    return "".join(f"\\{sign}" if sign in "\\|`*_[]<>#!" else sign for sign in line)


def _html(lang: str, title: str, sections: Sequence[Section], foot: str) -> str:
    safe = html.escape
    tongue = "zh-CN" if lang == "zh" else "en"
    head = (
        f'<!doctype html><html lang="{tongue}"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">{_POLICY}'
        f"<title>{safe(title)}</title><style>{_STYLE}</style></head><body><h1>{safe(title)}</h1>"
    )
    parts = [head]
    for each in sections:
        parts.append(f"<h2>{safe(each.title)}</h2>{each.svg}")
        parts.append(f"<p>{safe(each.note)}</p>" if each.note else "")
        if each.rows:
            head = "".join(f"<th>{safe(cell)}</th>" for cell in each.heads)
            rows = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in each.rows)
            parts.append(f"<table><tr>{head}</tr>{rows}</table>" if head else f"<table>{rows}</table>")
        parts += [f"<h3>{safe(name)}</h3><pre>{safe(text)}</pre>" for name, text in each.texts]
    return "\n".join([*parts, f"<p>{safe(foot)}</p></body></html>"]) + "\n"
