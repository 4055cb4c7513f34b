"""Small state as canonical msgpack: equal values give equal bytes, and reading executes no code.

Whoever packs sorts what has no order of its own (dicts, sets) first.
"""

from typing import TypeVar

import msgspec

from streamrec.errors import CorruptStateError

_T = TypeVar("_T")


def pack(state: msgspec.Struct) -> bytes:
    """The bytes of a struct."""
    return msgspec.msgpack.encode(state)


def unpack(data: bytes, kind: type[_T], what: str) -> _T:
    """Read packed bytes back.

    Raises
    ------
    CorruptStateError
        If they are not those of a `kind`; `what` says in the message whose they should be.

    Examples
    --------
    >>> unpack(b"no state", tuple[int, int], "clock")
    Traceback (most recent call last):
    streamrec.errors.CorruptStateError: clock: wanted the bytes of a dump, got 8 others (Expected `array`, \
got `int`); go back to an older generation.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise CorruptStateError(
            f"{what}: wanted the bytes of a dump, got {len(data)} others ({error}); "
            "go back to an older generation."
        ) from error
