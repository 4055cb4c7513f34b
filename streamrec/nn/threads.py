"""One place that pins torch to one thread.

Two intra-op threads on a busy machine make small products slower, not faster, and a thread count
would become part of the bits: so one process uses one thread, and speed comes from more processes.
"""

from contextlib import suppress

import torch


def pin_threads() -> None:
    """Let torch use one thread inside and one between operators; calling it again changes nothing.

    Examples
    --------
    >>> pin_threads()
    >>> torch.get_num_threads(), torch.get_num_interop_threads()
    (1, 1)
    """
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        with suppress(RuntimeError):  # refused once another part of the process has started that pool;
            torch.set_num_interop_threads(1)  # no operator here runs on it, so no bit depends on it
