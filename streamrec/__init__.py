"""streamrec: a streaming event-sequence processor that says what comes next, and when."""

import os
from pathlib import Path

__version__ = "0.1.0"

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

for _name in _ONE_THREAD:  # the order of sums, and so the bits, must not depend on the machine's load
    os.environ.setdefault(_name, "1")
os.environ.setdefault(
    "NUMBA_CACHE_DIR",
    str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamrec" / "kernels"),
)
