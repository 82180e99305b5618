"""Links to the downloads of a run."""

from __future__ import annotations

from urllib.parse import quote

from glmstudio.ui.framework.markup import Html, tag
from glmstudio.words import say


def run_link(lang: str, name: str, file: str, label: str) -> Html:
    """A link that downloads a file of the run, and looks like a quiet button."""
    return download(f"/runs/{quote(name, safe='')}/{file}?lang={lang}", label)


def download(address: str, label: str) -> Html:
    """A link that downloads what lies at the address."""
    return tag('<a class="gs-button gs-look-quiet" href="{address}" download>{label}</a>', address=address, label=label)


def run_downloads(lang: str, name: str) -> Html:
    """Figures and report of a run."""
    files = ("metrics.csv", "tensorboard.zip", "report.html", "report.md")
    return tag(
        '<div class="gs-row gs-downloads"><span class="gs-small">{title}</span>{links}</div>',
        title=say(lang, "ui.download.title"),
        links=[run_link(lang, name, file, say(lang, f"ui.download.{file.replace('.', '_')}")) for file in files],
    )
