"""streamrec: a streaming event-sequence processor that says what comes next, and when.

    >>> from streamrec import Event, Processor

The names below are the library; each is imported when it is first asked for, so that `import streamrec`
costs nothing. Everything else may change between versions.
"""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from streamrec.errors import StreamrecError
    from streamrec.event import Event
    from streamrec.forecast import Forecast
    from streamrec.library import Processor
    from streamrec.settings import ModelsSettings, Settings, load_settings

__version__ = "0.1.0"

__all__ = [
    "Event",
    "Forecast",
    "ModelsSettings",
    "Processor",
    "Settings",
    "StreamrecError",
    "load_settings",
]

_HOME = {
    "Event": "event",
    "Forecast": "forecast",
    "ModelsSettings": "settings",
    "Processor": "library",
    "Settings": "settings",
    "StreamrecError": "errors",
    "load_settings": "settings",
}

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

for _name in _ONE_THREAD:  # the order of sums, and so the bits, must not depend on the machine's load
    os.environ[_name] = "1"


_KERNEL_ROOMS = ("arrays", "batch", "errors", "event", "jit", "mixture", "models", "nn", "state", "waiting")
"""Where kernels are written, and all that they import."""


def _kernel_cache() -> Path:
    """Folder of the compiled kernels of exactly these sources: numba does not notice changed callees."""
    digest, here = 0, Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        if path.relative_to(here).parts[0].removesuffix(".py") in _KERNEL_ROOMS:
            digest = crc32(path.read_bytes(), digest)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "streamrec" / "kernels" / f"{digest:08x}"


if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(_kernel_cache())


def __getattr__(name: str) -> Any:
    """Import a public name from the file it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module 'streamrec' has no attribute {name!r}")
    return getattr(import_module(f"streamrec.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
