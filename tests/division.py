"""A torchrun worker of the tests: `-m tests.division FOLDER...` trains those runs one after another in the same processes."""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate.state import AcceleratorState

from glmstudio.files import read_table
from glmstudio.runs.settings import Settings, change
from glmstudio.train import session
from glmstudio.train.team import join


def main(folders: list[Path]) -> None:
    """Raises what the first run that fails raises."""
    team = join()
    for folder in folders:
        AcceleratorState._reset_state(reset_partial_state=True)
        about = read_table(folder / "run.json")
        session._train(change(Settings(), about["settings"], source=""), folder, about, team)


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
