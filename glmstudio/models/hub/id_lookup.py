"""Whether a hub has the model of an id that a person typed, before it is offered for download.

A child process asks: the page's own imported Hugging Face's client in its offline form, together with gradio.
"""

from __future__ import annotations

import json
import re
import sys

from glmstudio.errors import StudioError
from glmstudio.jobs.json_child import ask
from glmstudio.models.catalogue import SOURCES, Entry, add_id, catalogue
from glmstudio.models.family import refuse_id
from glmstudio.models.hub.hubs import list_files

_PAGE = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf-mirror\.com|modelscope\.(?:cn|ai)/models)/([\w.-]+/[\w.-]+)(?:[/?#].*)?",
    re.ASCII,
)
_ABSENT = ("models.hub_no_model", "models.hub_refused")  # Hugging Face denies access to what does not exist


def id_in(text: str) -> str:
    """The id in the address of a model's page at a hub; any other text as it is."""
    page = _PAGE.fullmatch(text)
    return page[1] if page else text


def is_known(repo: str) -> bool:
    """Whether the id is in the catalogue already, so that nobody needs to be asked."""
    return any(repo in (each.modelscope, each.huggingface) for each in catalogue().values())


def add_from_hub(repo: str) -> Entry:
    """Put an id into the catalogue that a hub has a whole model for. Raises StudioError where none has or answers, and
    before anybody is asked where it names another family."""
    if not is_known(repo):
        refuse_id(repo)
        ask(__name__, repo, broke="models.lookup_broke")
    return add_id(repo)


def main(repo: str) -> None:
    """Print whether a hub has it, or why not, as `glmstudio.jobs.json_child.ask` wants to be told."""
    try:
        ask_hubs(repo)
    except StudioError as problem:
        told = {"problem": problem.to_json()}
    else:
        told = {}
    sys.stdout.write(json.dumps(told))


def ask_hubs(repo: str) -> None:
    """Raise StudioError unless a hub has a whole model under this id."""
    problems: dict[str, StudioError] = {}
    for source in SOURCES:
        try:
            list_files(Entry(repo, repo, repo, repo), source)
        except StudioError as problem:
            problems[source] = problem
        else:
            return
    if part := next((each for each in problems.values() if each.key == "models.hub_incomplete"), None):
        raise part
    absent = {source for source, problem in problems.items() if problem.key in _ABSENT}
    # The mirror has what Hugging Face has: either of them speaks for both.
    if "modelscope" in absent and len(absent) > 1:
        raise StudioError("models.hub_none", id=repo)
    raise next(problem for source, problem in problems.items() if source not in absent)


if __name__ == "__main__":
    main(sys.argv[1])
