"""The GPUs in the Doctor step: a card for each, with its memory by process."""

from __future__ import annotations

from collections import Counter

from glmstudio.doctor import Gpu, GpuProcess
from glmstudio.ui.framework.markup import Html, fold, tag
from glmstudio.ui.state.checkup import CHECKUP
from glmstudio.units import memory
from glmstudio.words import say


def render_gpus(lang: str, *, unfolded: bool) -> Html:
    """A card for each GPU, or what works without one; folded under what there is."""
    gpus = CHECKUP.gpus()
    if not gpus:
        text = tag('<p class="gs-muted">{text}</p>', text=say(lang, "ui.doctor.no_gpu_text"))
        return fold(say(lang, "ui.doctor.no_gpu"), text, key="gpus")
    names = [
        f"{number} × {name}" if number > 1 else name for name, number in Counter(each.name for each in gpus).items()
    ]
    cards = tag('<div class="gs-cards">{cards}</div>', cards=[_gpu(lang, gpu) for gpu in gpus])
    return fold(say(lang, "ui.doctor.gpus", names=" + ".join(names)), cards, key="gpus", unfolded=unfolded)


def _gpu(lang: str, gpu: Gpu) -> Html:
    used = gpu.total_mib - gpu.free_mib
    facts = [
        "" if gpu.temperature_c is None else f"{gpu.temperature_c} °C",
        "" if gpu.utilization is None else say(lang, "ui.doctor.utilization", percent=gpu.utilization),
        "" if gpu.power_w is None else f"{gpu.power_w} W",
        "" if gpu.capability == (0, 0) else say(lang, "ui.doctor.capability", number="{}.{}".format(*gpu.capability)),
    ]
    return tag(
        '<section class="gs-card gs-stack" data-key="gpu-{index}"><div class="gs-row gs-spread"><h3>{title}</h3>'
        '<span class="gs-small">{facts}</span></div>{bar}<p class="gs-small gs-number">{figures}</p>{table}</section>',
        index=gpu.index,
        title=f"GPU {gpu.index} · {gpu.name}",
        facts=" · ".join(filter(None, facts)),
        figures=say(lang, "ui.doctor.gpu_memory", used=memory(used), total=memory(gpu.total_mib)),
        bar=_memory_bar(lang, gpu),
        table=_processes(lang, gpu),
    )


def _memory_bar(lang: str, gpu: Gpu) -> Html:
    """One bar with a part for each process; memory of unknown processes comes last."""
    parts = [(_kind(process), process.used_mib) for process in gpu.processes if process.used_mib]
    rest = gpu.total_mib - gpu.free_mib - sum(used for _, used in parts)
    shown = [*parts, ("unnamed", rest)] if rest > 0 else parts
    return tag(
        '<div class="gs-bar gs-split" role="meter" aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{used}" '
        'aria-label="{label}">{parts}</div>',
        total=gpu.total_mib,
        used=gpu.total_mib - gpu.free_mib,
        label=say(lang, "ui.doctor.column_memory"),
        parts=[
            tag('<i class="gs-part-{kind}" style="width:{share}%"></i>', kind=kind, share=f"{_share(used, gpu):.2f}")
            for kind, used in shown
        ],
    )


def _share(used: int, gpu: Gpu) -> float:
    return max(0.0, min(100.0, 100 * used / max(1, gpu.total_mib)))


def _kind(process: GpuProcess) -> str:
    """Whose process it is: "ours", "stale" or "other"."""
    report = CHECKUP.state.report
    if report and process.pid in {each.identity.pid for each in report.stale}:
        return "stale"
    return "ours" if process.owner == "ours" else "other"


def _processes(lang: str, gpu: Gpu) -> Html:
    if not gpu.processes:
        return tag('<p class="gs-small">{text}</p>', text=say(lang, "ui.doctor.gpu_idle"))
    rows = [
        tag(
            '<tr><td><span class="gs-swatch gs-part-{kind}"></span>{whose}</td>'
            '<td>{name} <span class="gs-path">{pid}</span></td><td>{user}</td><td>{used}</td></tr>',
            kind=_kind(process),
            whose=say(lang, f"ui.doctor.owner_{_kind(process)}"),
            pid=process.pid,
            name=process.name,
            user=process.user,
            used="–" if process.used_mib is None else memory(process.used_mib),
        )
        for process in gpu.processes
    ]
    heads = [
        tag("<th>{name}</th>", name=say(lang, f"ui.doctor.column_{name}"))
        for name in ("owner", "name", "user", "memory")
    ]
    return tag(
        '<table class="gs-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>', heads=heads, rows=rows
    )
