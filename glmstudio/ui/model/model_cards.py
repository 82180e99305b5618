"""A card for each model: description, state and actions. Pure functions of what is on disk."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import psutil

from glmstudio.families.recognition import family_of
from glmstudio.models.family import OTHER_KIND
from glmstudio.models.folder import weight_files
from glmstudio.models.hub.hubs import TITLES
from glmstudio.models.hub.partial_file import unfinished
from glmstudio.models.inventory import InventoryItem
from glmstudio.models.jobs import ModelJob
from glmstudio.models.library import owned
from glmstudio.models.manifest import origin
from glmstudio.models.repair import layout_of
from glmstudio.models.verification import is_verified
from glmstudio.ui.framework.markup import Html, bar, busy, button, chip, fold, good, join, problem, tag
from glmstudio.ui.model.adding import use_buttons
from glmstudio.ui.model.model_form import download_form, download_options
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.ui.state.page_state import ModelState
from glmstudio.units import duration, memory_bytes, size
from glmstudio.words import has, say

LOOKS = {
    "ready": "good",
    "absent": "waiting",
    "unverified": "attention",
    "broken": "bad",
    "paused": "note",
    "stopped": "attention",
}


def card(lang: str, item: InventoryItem, state: ModelState, *, used: bool) -> Html:
    """The card of one model."""
    parts = [
        tag('<p class="gs-muted">{about}</p>', about=_about(lang, item)),
        _abilities(lang, item),
        _fits(lang, item),
        _facts(lang, item),
        _progress(lang, item),
        _trouble(lang, item, state),
        _buttons(lang, item, used=used),
        _more(lang, item),
    ]
    return tag(
        '<article class="gs-card gs-model{used}" data-key="model-{name}" data-scope>'
        '<div class="gs-row gs-spread"><h3>{title} {label}</h3>{state}</div>{parts}</article>',
        used=" gs-used" if used else "",
        name=item.name,
        title=item.title,
        label=_label(lang, item),
        state=chip(LOOKS.get(item.state, "running"), state_words(lang, item)),
        parts=[part for part in parts if part],
    )


def state_words(lang: str, item: InventoryItem) -> str:
    """The state of a model, with its percentage where it has one."""
    if _of_another_kind(item):
        return say(lang, "ui.model.unfit")
    return say(lang, f"ui.model.{item.state}", percent=percent(item.job))


def _of_another_kind(item: InventoryItem) -> bool:
    """Whether nothing is broken, but the folder holds another family's model, or quantized weights."""
    return item.state == "broken" and item.problem is not None and item.problem.key in OTHER_KIND


def percent(job: ModelJob | None) -> int:
    """How far a job is; 100 only once it is done."""
    return min(99, int(100 * job.done / job.total)) if job and job.total else 0


def _label(lang: str, item: InventoryItem) -> Html:
    if item.model and item.model.kind == "demo":
        return tag('<span class="gs-label">{text}</span>', text=say(lang, "ui.model.demo"))
    return Html("")


def is_offered(item: InventoryItem) -> bool:
    """Whether it is one of those that are shown to whoever asks for more: not here, and nothing is done about it."""
    return item.entry is not None and item.entry.more and item.state == "absent"


def _fits(lang: str, item: InventoryItem) -> Html:
    """Whether the weights of a model that is offered fit into this machine's largest GPU in 16 bits; where there is
    none, into its main memory in the 32 that a CPU computes with."""
    if not is_offered(item) or item.entry is None or not item.entry.memory_bytes:
        return Html("")
    gpus = CHECKUP.gpus()
    room = max(gpu.total_mib for gpu in gpus) << 20 if gpus else psutil.virtual_memory().total
    fits = item.entry.memory_bytes * (1 if gpus else 2) <= room
    key, kind = ("fits", "good") if fits else ("too_large", "attention")
    key += "_gpu" if gpus else "_cpu"
    return tag("<p>{chip}</p>", chip=chip(kind, say(lang, f"ui.model.{key}", size=memory_bytes(room))))


def _about(lang: str, item: InventoryItem) -> str:
    if has(f"catalogue.{item.name}.about"):
        return say(lang, f"catalogue.{item.name}.about")
    if item.entry:
        return say(lang, "ui.model.about_id", id=item.entry.modelscope)
    if _of_another_kind(item):
        return say(lang, "ui.model.about_other")
    if item.model and item.model.kind == "demo":
        return say(lang, "ui.model.about_demo")
    return say(lang, "ui.model.about_folder", family=family_of(item.folder).title)


def _abilities(lang: str, item: InventoryItem) -> Html:
    can = item.entry.can if item.entry else ("chat", "tools", "finetune") if _label(lang, item) else ()
    words = [tag("<span>{word}</span>", word=say(lang, f"ui.model.can_{ability}")) for ability in can]
    return tag('<p class="gs-abilities">{words}</p>', words=words) if words else Html("")


def _facts(lang: str, item: InventoryItem) -> Html:
    rows: list[tuple[str, str, str]] = []
    weight = item.model.size_bytes if item.model and item.state == "ready" else 0
    weight = weight or (item.job.total if item.job and item.job.kind == "download" else 0)
    weight = weight or (item.entry.size_bytes if item.entry else 0) or (item.model.size_bytes if item.model else 0)
    if weight:
        rows.append(("size", size(weight), ""))
    if item.entry and item.entry.memory_bytes:
        rows.append(("memory", say(lang, "ui.model.memory_text", size=memory_bytes(item.entry.memory_bytes)), ""))
    if item.entry and item.entry.context:
        rows.append(("context", say(lang, "ui.model.context_text", n=f"{item.entry.context:,}"), ""))
    source, repo = origin(item.folder) if item.model else ("", "")
    if source in TITLES:
        rows.append(("source", say(lang, "ui.model.source_text", source=TITLES[source], id=repo), ""))
    if item.model and (form := _form(lang, item.folder)):
        rows.append(("format", form, ""))
    if item.model and (when := is_verified(item.folder)):
        stamped = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
        rows.append(("verified", say(lang, "ui.model.verified_text", when=stamped), ""))
    if item.model or item.job:
        rows.append(("path", str(item.folder), "gs-path"))
    cells = [
        tag('<dt>{name}</dt><dd class="{look}">{value}</dd>', name=say(lang, f"ui.model.{key}"), value=value, look=look)
        for key, value, look in rows
    ]
    return tag('<dl class="gs-facts">{cells}</dl>', cells=cells)


def _form(lang: str, folder: Path) -> str:
    kinds = {file.suffix for file in folder.glob("*model*") if file.suffix in (".bin", ".safetensors")}
    key = "both" if len(kinds) == 2 else next(iter(kinds), "").lstrip(".")
    return say(lang, f"ui.model.format_{key}") if key else ""


def _progress(lang: str, item: InventoryItem) -> Html:
    job = item.job
    if job is None or not (job.live or item.state in ("paused", "stopped")):
        return Html("")
    label = say(lang, "ui.run.progress")
    moving = job.live and not job.total
    figures = [say(lang, "ui.model.progress", done=size(job.done), total=size(job.total))] if job.total else []
    if job.live and job.bytes_per_second:
        figures.append(say(lang, "ui.model.speed", speed=size(job.bytes_per_second)))
    left = say(lang, "ui.model.left", time=duration(lang, job.seconds_left)) if job.live and job.seconds_left else ""
    return tag(
        '<div class="gs-run-progress" data-key="progress"><div class="gs-row gs-spread"><span>{phase}</span>'
        '<span class="gs-small gs-number">{left}</span></div>{bar}'
        '<div class="gs-row gs-spread gs-small gs-number"><span>{figures}</span></div>{waiting}{close}{files}</div>',
        phase=_phase(lang, job) if job.live else "",
        left=left,
        bar=busy(label) if moving else bar(job.done / job.total if job.total else 0, label=label),
        figures=" · ".join(figures),
        waiting=_waiting(lang, job),
        close=tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.model.close")) if job.live else "",
        files=_files(lang, job),
    )


def _phase(lang: str, job: ModelJob) -> str:
    if job.kind in ("verify", "convert"):
        return say(lang, f"ui.model.phase_{job.kind}")
    source = TITLES.get(job.source, "")
    return say(lang, f"ui.model.phase_{job.phase or 'checking'}", source=source, n=job.connections)


def _waiting(lang: str, job: ModelJob) -> Html:
    """The error that is being retried."""
    if not job.live or job.problem is None:
        return Html("")
    return tag(
        '<p class="gs-small">{chip} {what}</p>',
        chip=chip("attention", say(lang, "ui.model.waiting")),
        what=job.problem.what(lang),
    )


def _files(lang: str, job: ModelJob) -> Html:
    if not job.files:
        return Html("")
    rows = [
        tag(
            '<tr><td class="gs-path">{name}</td><td class="gs-filebar">{bar}</td>'
            '<td class="gs-number">{text}</td></tr>',
            name=name,
            bar=bar(done / whole if whole else 1, label=name, kind="good" if done >= whole else "running"),
            text=size(whole) if done >= whole else f"{size(done)} / {size(whole)}",
        )
        for name, done, whole in job.files
    ]
    table = tag('<table class="gs-table gs-files">{rows}</table>', rows=rows)
    return fold(say(lang, "ui.model.files"), table, key=f"files-{job.model}")


def _trouble(lang: str, item: InventoryItem, state: ModelState) -> Html:
    parts = []
    if state.folder_answer and state.named == item.name:
        key, values = state.folder_answer
        parts.append(good(say(lang, key, **values)))
    if state.problem and state.named == item.name:
        parts.append(problem(lang, state.problem))
    elif item.problem:
        parts.append(problem(lang, item.problem, kind="bad" if item.state == "broken" else "attention"))
    elif item.job and item.job.state == "failed" and item.job.problem:
        parts.append(problem(lang, item.job.problem))
    return join(parts)


def _buttons(lang: str, item: InventoryItem, *, used: bool) -> Html:
    """The buttons for a state, the most common one first."""
    word = {key: say(lang, f"ui.model.{key}") for key in ("pause", "resume", "stop", "verify", "repair", "use")}
    made: list[Html] = []
    if item.state == "absent":
        return download_form(lang, item)
    if item.state in ("downloading", "repairing"):
        made = [button("pause", word["pause"], model=item.name)]
    elif item.state in ("verifying", "converting"):
        made = [button("pause", word["stop"], model=item.name)]
    elif item.state in ("paused", "stopped"):
        made = [button("resume", word["resume"], look="primary", model=item.name)]
    elif item.state == "unverified":
        made = [button("verify", word["verify"], look="primary", model=item.name)]
    elif item.state == "broken":
        again = button("verify", say(lang, "ui.model.verify_again"), model=item.name)
        made = [again]
        if not _of_another_kind(item):  # to bring the same files again would not help
            made.insert(0, button("repair", word["repair"], look="primary", model=item.name))
    elif used:
        made = [tag("<strong>{text}</strong>", text=say(lang, "ui.model.in_use")), *use_buttons(lang, item.name)]
    elif item.job and (item.job.kind, item.job.state) == ("download", "done"):
        return good(
            say(lang, "ui.model.whats_next"),
            [*use_buttons(lang, item.name), button("use", word["use"], look="quiet", model=item.name)],
        )
    else:
        made = [button("use", word["use"], model=item.name), *use_buttons(lang, item.name)]
    if item.state in ("downloading", "paused", "stopped"):
        made.append(_cancel(lang, item))
    waits = item.state in ("paused", "stopped") and item.job is not None and item.job.kind == "download"
    return tag(
        '<div class="gs-row">{made}</div>{options}',
        made=made,
        options=download_options(lang, item, beginning=False) if waits else "",
    )


def _cancel(lang: str, item: InventoryItem) -> Html:
    arrived = size(max(unfinished(item.folder), item.job.done if item.job else 0))
    return button(
        "cancel",
        say(lang, "ui.model.cancel"),
        look="quiet",
        model=item.name,
        confirm=say(lang, "ui.model.cancel_confirm", name=item.title, size=arrived),
        yes=say(lang, "ui.model.cancel"),
        no=say(lang, "ui.model.keep"),
    )


def _more(lang: str, item: InventoryItem) -> Html:
    """Rare actions: verify again, convert, delete, remove from the list."""
    if item.model is None or item.model.kind == "demo" or item.state not in ("ready", "unverified", "broken"):
        return Html("")
    quiet: list[Html] = []
    if item.state == "ready":
        quiet.append(button("verify", say(lang, "ui.model.verify_again"), look="quiet", model=item.name))
    if owned(item.folder):
        weight = size(item.model.size_bytes)
        quiet.append(
            button(
                "delete",
                say(lang, "ui.model.delete"),
                look="quiet",
                model=item.name,
                confirm=say(lang, "ui.model.delete_confirm", name=item.title, size=weight),
                yes=say(lang, "ui.model.delete"),
                no=say(lang, "ui.model.keep"),
            )
        )
    else:
        quiet.append(button("forget", say(lang, "ui.model.forget"), look="quiet", model=item.name))
    convert = _convert(lang, item) if item.state == "ready" else Html("")
    return tag('{convert}<div class="gs-row gs-quietrow">{quiet}</div>', convert=convert, quiet=quiet)


def _convert(lang: str, item: InventoryItem) -> Html:
    """The offer to convert `.bin` weights to safetensors, with the disk space it needs."""
    if layout_of(item.folder) != "bin" or not all(file.suffix == ".bin" for file in weight_files(item.folder)):
        return Html("")
    need = sum(file.stat().st_size for file in weight_files(item.folder))
    told = say(lang, "ui.model.convert_text", need=size(need), free=size(shutil.disk_usage(item.folder).free))
    buttons = [
        button("convert", say(lang, "ui.model.convert_keep"), model=item.name),
        button(
            "convert-replace",
            say(lang, "ui.model.convert_replace"),
            model=item.name,
            confirm=say(lang, "ui.model.convert_replace_confirm", name=item.title, size=size(need)),
            yes=say(lang, "ui.model.convert"),
            no=say(lang, "ui.model.keep"),
        ),
    ]
    body = tag('<p class="gs-muted">{told}</p><div class="gs-row">{buttons}</div>', told=told, buttons=buttons)
    return fold(say(lang, "ui.model.convert_title"), body, key=f"convert-{item.name}")
