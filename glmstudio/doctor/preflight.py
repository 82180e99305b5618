"""The few checks before a training starts: they stop it for what would surely make it fail, and for nothing else."""

from __future__ import annotations

from glmstudio.doctor.diagnosis import diagnose
from glmstudio.doctor.engine.check import CHECKS
from glmstudio.doctor.engine.report import Report


def preflight() -> Report:
    """Make the checks marked `before_start`. Raises StudioError with the worst finding where a start must fail."""
    report = diagnose(only=[check.id for check in CHECKS if check.before_start])
    for finding in report.findings:
        if finding.status == "error":
            raise finding.to_error()
    return report
