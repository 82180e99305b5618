"""A run's result to a hub: exported and checked as any export, then sent. A try that was interrupted goes on.

The export waits in `cache/publish` until the hub has it all.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from glmstudio.errors import StudioError
from glmstudio.models import ready_model
from glmstudio.models.exports.export_request import checked_type
from glmstudio.models.exports.model_export import base_card, native_base
from glmstudio.models.hub.upload import HUBS, Upload, check_repo, send
from glmstudio.paths import paths
from glmstudio.rundir.run import Run
from glmstudio.runs.export import export_run, forms_of, learned
from glmstudio.runs.publishing.published_files import FORMS, lay_out


@dataclass(frozen=True)
class Publication:
    """What is to be published where: the result of a run, or its checkpoint of `step`, in a form, with weights of a
    type ("": the usual one), at a hub, for its owner alone unless it is not `private`."""

    hub: str
    repo: str
    form: str
    private: bool = True
    kind: str = ""
    step: int | None = None


def publishable(run: Run) -> tuple[str, ...]:
    """The forms in which what this run learned can be published, those for the most programs first."""
    return tuple(form for form in forms_of(run) if form in FORMS)


def checked(run: Run, asked: Publication) -> Publication:
    """As it will be published: with the form and type that were left open. Raises StudioError."""
    forms = publishable(run)
    if asked.hub not in HUBS:
        raise StudioError("publish.no_hub", hub=asked.hub[:40])
    form = asked.form or forms[0]
    if form not in forms:
        raise StudioError("publish.no_such_form", name=run.name, form=form, forms=", ".join(forms))
    learned(run, asked.step)
    kind = checked_type(form, asked.kind)
    return Publication(asked.hub, check_repo(asked.repo), form, asked.private, kind, asked.step)


def publish_run(run: Run, asked: Publication) -> str:
    """Export, send, and return the address of the repository's page. Raises StudioError."""
    asked = checked(run, asked)
    model = ready_model(run.model)
    work = _work(run, asked)
    export, folder = work / asked.repo.rpartition("/")[2], work / "_sent"  # no repository is called so
    if not export.is_dir():
        export_run(run, asked.form, export, step=asked.step, kind=asked.kind)
    base = base_card(model)["repo"] or model.name
    lay_out(export, asked.form, folder, native_base(model), base)
    upload = Upload(asked.hub, asked.repo, str(folder), str(work / "_sent.json"), asked.private)
    send(upload)
    shutil.rmtree(work, ignore_errors=True)
    return upload.address


def _work(run: Run, asked: Publication) -> Path:
    """The folder of this publication: of another result of the same name it is another one."""
    source = learned(run, asked.step)
    newest = max((file.stat().st_mtime_ns for file in source.iterdir()), default=0)
    told = f"{source} {newest} {asked.form} {asked.kind} {asked.repo}"
    return paths().cache / "publish" / hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:20]
