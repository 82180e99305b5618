"""The doctor: what stands between this machine and a fine-tuned model, and the processes that may be ended.

`diagnose()` looks and changes nothing; `end_stale()` ends what a report listed, `end_numbers()` what a terminal names;
`fixes` fixes what a person confirms; `preflight()` is what a training's start asks. To add a check, write a function
with `@check(...)` in the file of its subject, import that file in `diagnosis`, and write its words in `text/*/doctor/`.
"""

from glmstudio.doctor.diagnosis import diagnose
from glmstudio.doctor.engine.end_result import EndResult
from glmstudio.doctor.engine.report import Finding, OtherTraining, Report, StaleProcess
from glmstudio.doctor.stale.by_number import end_again, end_numbers
from glmstudio.doctor.stale.ending import end_stale
from glmstudio.system.nvml import Gpu, GpuProcess

__all__ = [
    "EndResult",
    "Finding",
    "Gpu",
    "GpuProcess",
    "OtherTraining",
    "Report",
    "StaleProcess",
    "diagnose",
    "end_again",
    "end_numbers",
    "end_stale",
]
