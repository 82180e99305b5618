"""Where the reference data stands: beside the clone, or where GLMSTUDIO_REFERENCE says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REFERENCE = Path(os.environ.get("GLMSTUDIO_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"the reference data is not at {REFERENCE}")
