"""Whether a hub has the model of an id that a person typed, before it is offered for download."""

from __future__ import annotations

import re

from glmstudio.errors import StudioError
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
        _ask_hubs(repo)
    return add_id(repo)


def _ask_hubs(repo: str) -> None:
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
