"""What next, once a run has a result: test it, compare it with the base model, export it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote

from glmstudio.models.exports.export_request import GGUF, GGUF_LORA, NATIVE, TOOL_PARSER
from glmstudio.runs.export import forms_of
from glmstudio.ui.chat import score_view
from glmstudio.ui.chat.versus_view import render_versus
from glmstudio.ui.framework import tunnel
from glmstudio.ui.framework.markup import Html, button, copyable, fold, problem, prose, tag
from glmstudio.ui.runs.checkpoints_view import better_checkpoint, chat_button
from glmstudio.ui.runs.downloads.export_file import ExportFolder, exports_of
from glmstudio.ui.runs.downloads.run_link import download
from glmstudio.ui.state.background import TASKS
from glmstudio.ui.state.runwatch import RunSnapshot
from glmstudio.units import size
from glmstudio.words import say


def render_next(lang: str, known: RunSnapshot) -> Html:
    """The three things to do with a result, in one row; nothing before there is one."""
    if not known.has_result or known.state.live:
        return Html("")
    return tag(
        '<div class="gs-next"><h3>{title}</h3><div class="gs-row">{chat}{compare}{export}</div></div>',
        title=say(lang, "ui.next.title"),
        chat=chat_button(lang, known),
        compare=_opener("versus", say(lang, "ui.run.versus")),
        export=_opener("export", say(lang, "ui.run.export")),
    )


def _opener(name: str, label: str) -> Html:
    return tag('<button type="button" class="gs-button" data-unfold="{name}">{label}</button>', name=name, label=label)


def render_after(lang: str, known: RunSnapshot) -> Html:
    """Score, compare with the base, export; each in the background."""
    if not known.has_result:
        return Html("")
    return tag(
        "{score}{versus}{export}",
        score=score_view.render(lang, known.name, about=known.name, run=known.run),
        versus=render_versus(lang, known),
        export=_export(lang, known),
    )


def _export(lang: str, known: RunSnapshot) -> Html:
    task = TASKS.get(known.name, "export")
    good = better_checkpoint(known)
    parts: list[Html] = [
        tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.run.export_text")),
        _forms(lang, known, None),
    ]
    if known.run.settings.get("method") == "ptuning_v2":
        parts.append(tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.next.prefix")))
    if good is not None:
        text = say(lang, "ui.next.export_best", step=good.step)
        parts += [tag('<p class="gs-small">{text}</p>', text=text), _forms(lang, known, good.step)]
    if task is not None and task.running:
        parts.append(tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.run.exporting")))
    if task is not None and task.problem:
        parts.append(problem(lang, task.problem))
    parts += [_exported(lang, known, each) for each in exports_of(known.name)]
    return fold(say(lang, "ui.run.export"), parts, key="export", unfolded=task is not None)


def _forms(lang: str, known: RunSnapshot, step: int | None) -> Html:
    made: dict[str, Any] = {} if step is None else {"step": step}
    buttons = [
        button("export", say(lang, f"ui.run.export_{form}"), run=known.name, form=form, **made)
        for form in forms_of(known.run)
    ]
    return tag('<div class="gs-row">{buttons}</div>', buttons=buttons)


def _exported(lang: str, known: RunSnapshot, each: ExportFolder) -> Html:
    """An export: its folder, how to get it onto another machine, and how to use it."""
    name, folder = each.path.name, str(each.path)
    if each.too_large:
        away = [
            tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.next.too_large", size=size(each.size))),
            copyable(lang, tunnel.copy_line(each.path), key=f"rsync-{name}"),
        ]
    else:
        away = [download(f"/exports/{quote(name, safe='')}.zip", say(lang, "ui.next.download", size=size(each.size)))]
    return tag(
        '<div class="gs-export gs-stack" data-key="exported-{name}"><div class="gs-row gs-spread"><b>{name}</b>{away}'
        '</div>{folder}<p class="gs-small">{use}</p>{lines}</div>',
        name=name,
        away=away,
        folder=copyable(lang, folder, key=f"folder-{name}"),
        use=prose(say(lang, f"ui.next.use_{each.form}")),
        lines=[copyable(lang, line, key=f"use-{name}-{at}") for at, line in enumerate(_lines(known, each))],
    )


def _engine_lines(each: ExportFolder, folder: str) -> list[str]:
    """How programs of others serve it."""
    if each.form == NATIVE:
        plugin = f" --enable-auto-tool-choice --tool-parser-plugin {folder}/{TOOL_PARSER} --tool-call-parser chatglm3"
        tools = plugin if (each.path / TOOL_PARSER).is_file() else ""  # beside the families whose calls it reads
        return [f"vllm serve {folder}{tools}", f"python launcher.py chat --model {folder}"]
    file = next((shlex.quote(str(file)) for file in sorted(each.path.glob("*.gguf"))), f"{folder}/*.gguf")
    if each.form == GGUF_LORA:
        return [f"llama-server --jinja -m BASE.gguf --lora {file}"]
    name = shlex.quote(each.path.name.lower())
    return [f"llama-server --jinja -m {file}", f"cd {folder} && ollama create {name} -f Modelfile"]


def _lines(known: RunSnapshot, each: ExportFolder) -> list[str]:
    """How to use an export: in the studio, and where the field has a line for it, without."""
    folder, model = shlex.quote(str(each.path)), shlex.quote(known.model)
    if each.form in (NATIVE, GGUF, GGUF_LORA):
        return _engine_lines(each, folder)
    if each.form == "bundle":
        data = shlex.quote(Path(known.data).name or "DATA")
        return [f"python launcher.py train {shlex.quote(str(each.path / 'preset.toml'))} --data {data}"]
    what = f"--model {folder}" if each.form == "merged" else f"--model {model} --adapter {folder}"
    return [f"python launcher.py {command} {what}" for command in ("chat", "serve")]
