"""Join a run of several machines that another one has started."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from glmstudio.cli.terminal import command, json_flag, language, t
from glmstudio.errors import LazyText, StudioError


def add(commands: Any) -> None:
    """`join`."""
    join = command(commands, "join", _join)
    join.add_argument("address", metavar="ADDRESS[:PORT]", help=t("cli.join_address"))
    join.add_argument("--code", metavar="CODE", help=t("cli.join_code"))
    join.add_argument("--code-file", metavar="FILE", help=t("cli.join_code_file"))
    join.add_argument("--machine", type=int, metavar="NUMBER", help=t("cli.join_machine"))
    join.add_argument("--data", default="", metavar="FILE", help=t("cli.join_data"))
    join.add_argument("--validation", default="", metavar="FILE", help=t("cli.join_validation"))
    join.add_argument("--model", default="", metavar="NAME_OR_FOLDER", help=t("cli.join_model"))
    join.add_argument("--device", default="auto", help=t("cli.join_device"))
    json_flag(join)


def _join(options: argparse.Namespace) -> int:
    from glmstudio.cluster.join_code import VARIABLE
    from glmstudio.cluster.joiner import Joiner, JoinRequest
    from glmstudio.config import support
    from glmstudio.rundir.machines import PORT
    from glmstudio.rundir.occupancy import refuse_held

    support.refuse("machines")
    address, colon, port = options.address.partition(":")
    if not address or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise StudioError("cluster.bad_target", target=options.address)

    def tell(stage: LazyText) -> None:
        if options.json:
            print(json.dumps({"stage": stage.key, **stage.values}, ensure_ascii=False), flush=True)  # a line each
        else:
            print(stage.text(language()), flush=True)

    wish = JoinRequest(
        address=address,
        port=int(port) if colon else PORT + 1,
        code=options.code or _read(options.code_file) or os.environ.get(VARIABLE, ""),
        machine=options.machine,
        data=options.data,
        model=options.model,
        validation=options.validation,
        device=options.device,
    )
    tell(LazyText("cluster.stage.waiting", {"address": address}))
    outcome = Joiner(wish, tell, refuse_held).run()
    tell(LazyText("cluster.stage.ended", {"outcome": t(f"cluster.outcome.{outcome}")}))
    return 0 if outcome in ("finished", "stopped") else 1


def _read(file: str | None) -> str:
    if file is None:
        return ""
    return (sys.stdin.readline() if file == "-" else Path(file).read_text(encoding="utf-8", errors="replace")).strip()
