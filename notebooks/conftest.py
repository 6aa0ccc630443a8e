"""Makes the notebooks short under pytest --nbmake; they then say so in their output."""

from __future__ import annotations

import os

os.environ.setdefault("NOTEBOOK_QUICK", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several run at a time
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else each kernel warns
