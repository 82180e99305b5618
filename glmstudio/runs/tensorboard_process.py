"""The child process that writes TensorBoard's event file: `python -m glmstudio.runs.tensorboard_process RUN OUT`.

A process of its own, because tensorboardX loads torch where it finds it, which the studio and its commands never do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from glmstudio.rundir.metric_table import scalars
from glmstudio.rundir.run import Run

_FILE = "events.out.tfevents.{created}.run"  # the usual name would tell the machine's


def main(folder: Path, out: Path) -> int:
    """Write the figures of the run in `folder` to an event file in `out`."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # scalars need none of it, and loading takes seconds
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import RecordWriter

    run = Run(folder.name, folder)
    began, now = run.record.created, run.record.created
    writer = RecordWriter(str(out / _FILE.format(created=int(began))))
    writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
    for row in run.metrics()[0]:
        now = began + row["seconds"] if "seconds" in row else now  # a validation comes right after its step
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row).items()]
        event = Event(wall_time=now, step=row["step"], summary=Summary(value=values))
        writer.write(event.SerializeToString())
    writer.close()
    sys.stdout.write(json.dumps({}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
