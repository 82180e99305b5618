"""What one browser page looks at, step by step: all that is neither on disk nor shared with other pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from glmstudio.errors import StudioError
from glmstudio.rundir.machines import Cluster
from glmstudio.runs.publishing.publish_run import Publication

Sentence = tuple[str, dict[str, Any]]  # its key and values


@dataclass(frozen=True)
class ModelState:
    """The Model step."""

    named: str = ""  # the model whose card was acted on last
    problem: StudioError | None = None
    folder_problem: StudioError | None = None
    folder_answer: Sentence | None = None
    asked: str = ""  # the id that a hub is asked for


@dataclass(frozen=True)
class FactsState:
    """The table of facts."""

    first: int = 0  # the first row that is shown
    find: str = ""  # what the rows that are shown have to hold
    unfolded: tuple[int, ...] = ()  # rows that show all their columns
    problem: StudioError | None = None
    told: Sentence | None = None


@dataclass(frozen=True)
class OwnDataState:
    """The list of own datasets, and the rows of one."""

    rows: str = ""  # the file whose rows are shown
    mark: str = ""  # the state of that file when they were shown first
    first: int = 0  # the first row that is shown
    saves: int = 0  # how many times this page has saved rows
    uploads: int = 0  # how many times this page has sent files
    problem: StudioError | None = None
    told: Sentence | None = None


@dataclass(frozen=True)
class FinetuneState:
    """The form of the Fine-tune step."""

    source: str = ""  # the kind of data; "": nobody chose
    data: str = ""
    picked: bool = False  # the data were chosen from a list: the box for the path has to follow
    preset: str = ""
    name: str = ""
    changes: tuple[tuple[str, str], ...] = ()  # settings that differ from the preset's
    machines: tuple[tuple[str, str], ...] = ()  # as typed: address and processes of each
    meeting: tuple[tuple[str, str], ...] = ()  # as typed: port, least number, time to wait
    cluster: Cluster | None = None  # the machines, once they are right
    machines_problem: StudioError | None = None
    record: int = 0  # the record that is shown as the model sees it
    settings_problem: StudioError | None = None
    form_problem: StudioError | None = None
    started: str = ""  # the run that this page started last
    gone: tuple[Sentence, ...] = ()  # what the browser had kept of the form and is no more
    facts: FactsState = field(default_factory=FactsState)
    own: OwnDataState = field(default_factory=OwnDataState)


@dataclass(frozen=True)
class RunsState:
    """The runs beside the form."""

    run: str | None = None  # None: the one in progress or the newest; "": none, somebody closed it
    compared: tuple[str, ...] = ()  # runs laid over each other
    log_find: str = ""  # what the lines of the log that are shown have to hold
    all_runs: bool = False  # whether the list shows older ones, too
    publishing: str = ""  # the run that is about to be published, once somebody says yes
    publication: Publication | None = None  # and how


@dataclass(frozen=True)
class ChatState:
    """The Chat step."""

    model: str = ""
    adapter: str = ""
    rival: str = "-"  # what is asked beside it; "" is the base, "-" nothing
    bits: int = 16
    engine: str = ""  # who computes: "studio", "vllm", "vllm:all" (on all GPUs); "": nobody chose
    conversation: str = ""  # the one that is shown; "" is the one changed last
    edited: str = ""  # the turn whose question is being changed
    taught: str = ""  # the turn that is being kept for training, and which of its answers
    side: int = 0
    find: str = ""  # what the conversations that are listed have to hold
    tool_file: str = ""  # a file of tools that was sent and is shown before it is added
    returned: str = ""  # the mark of a question that could not be asked: its text goes back into the box
    told: Sentence | None = None
    problem: StudioError | None = None


@dataclass(frozen=True)
class PageState:
    """The whole page. `problem` is what went wrong in the last action, where no step of its own shows it."""

    problem: StudioError | None = None
    model: ModelState = field(default_factory=ModelState)
    finetune: FinetuneState = field(default_factory=FinetuneState)
    runs: RunsState = field(default_factory=RunsState)
    chat: ChatState = field(default_factory=ChatState)
