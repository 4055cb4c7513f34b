"""How kernels that only read and write arrays they were given are compiled.

`kernel` is numba's `njit` with a cache and without its runtime (`_nrt=False`): such a kernel allocates
nothing, so the reference counts of array views and of named tuples of arrays, which are atomic instructions,
are left out. That made the walk of the mark mixture three times as fast. A kernel that does allocate fails to
compile.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

R = TypeVar("R")

_OPTIONS: dict[str, Any] = {"cache": True, "_nrt": False}


def kernel(function: Callable[..., R]) -> Callable[..., R]:
    """Compile a function that allocates nothing."""
    compiled: Callable[..., R] = njit(**_OPTIONS)(function)
    return compiled
