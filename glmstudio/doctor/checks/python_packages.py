"""Python and the packages in it, by what they say of themselves; none of them is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from glmstudio.doctor.engine.check import Probes, check, found
from glmstudio.doctor.engine.report import Finding
from glmstudio.paths import ROOT

_SHOWN = 8


@check("py.version", family="pytorch")
def python(_: Probes) -> Finding:
    """The Python that runs the studio."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 10) <= sys.version_info[:2] <= (3, 13):
        return found("ok", "ok", version=version, folder=sys.prefix)
    return found("error", "unfit", version=version)


@check("py.deps", family="pytorch")
def packages(_: Probes) -> Finding:
    """Whether what requirements.txt names is there in its range, and whether what those need is, too."""
    wanted = requirements()
    wrong = [text for requirement in wanted if (text := _unmet(requirement))]
    if wrong:
        return found("error", "unmet", packages="; ".join(wrong[:_SHOWN]))
    clashes = _clashes(wanted)
    if clashes:
        return found("warning", "clash", packages="; ".join(clashes[:_SHOWN]))
    return found("ok", "ok", count=len(wanted))


@check("py.transformers", family="pytorch")
def native_model(_: Probes) -> Finding | None:
    """Whether transformers brings the model that ChatGLM3 is run as; looked for as a file, as loading takes seconds."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return None  # py.deps tells it
    version = importlib.metadata.version("transformers")
    there = (Path(spec.origin).parent / "models" / "glm" / "modeling_glm.py").is_file()
    return found("ok" if there else "error", "ok" if there else "no_glm", version=version)


@check("py.nvml_pkg", family="pytorch")
def nvml_package(_: Probes) -> Finding:
    """An old package named pynvml overwrites the file of NVIDIA's own, and knows no newer drivers."""
    try:
        old = importlib.metadata.version("pynvml")
    except importlib.metadata.PackageNotFoundError:
        return found("ok", "ok")
    if Version(old) < Version("12"):
        return found("warning", "old", version=old)
    return found("ok", "ok")


def requirements(file: Path = ROOT / "requirements.txt") -> list[Requirement]:
    """The lines of a requirements file that count on this Python."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [requirement for line in lines if line and (requirement := _parsed(line))]


def _parsed(line: str, extras: frozenset[str] = frozenset()) -> Requirement | None:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return None
    marker = requirement.marker
    counts = marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""}))
    return requirement if counts else None


def _unmet(requirement: Requirement) -> str:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return requirement.name
    try:
        fits = requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return ""
    return "" if fits else f"{requirement.name} {version} ({requirement.specifier})"


def _clashes(wanted: list[Requirement]) -> list[str]:
    """What the packages that we need say they need, and do not have: what `pip check` would find among them."""
    found_clashes: list[str] = []
    waiting, known = list(wanted), set[str]()
    while waiting:
        requirement = waiting.pop()
        name = _plain(requirement.name)
        if name in known:
            continue
        known.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for needed in (parsed for line in lines if (parsed := _parsed(line, frozenset(requirement.extras)))):
            if text := _unmet(needed):
                found_clashes.append(f"{name}: {text}")
            waiting.append(needed)
    return sorted(set(found_clashes))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
