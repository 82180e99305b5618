"""The doctor: what stands between this machine and a fine-tuned model, and the processes that may be ended.

`diagnose()` looks and changes nothing; `end_stale()` ends what a report listed. To add a check, write a function with
`@check(...)` in the file of its family (`card`, `pytorch`, `network`, `machine`, `leftovers`) and its words in
`text/*/doctor.toml`.
"""

from glmstudio.doctor.diagnosis import diagnose
from glmstudio.doctor.ending import end_stale
from glmstudio.doctor.report import EndResult, Gpu, GpuProcess, Report, Result, StaleProcess

__all__ = ["EndResult", "Gpu", "GpuProcess", "Report", "Result", "StaleProcess", "diagnose", "end_stale"]
