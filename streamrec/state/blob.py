"""Named arrays as one blob of bytes that describes itself; reading it runs no code.

    "SRB1" | length of the header, uint32 | header, JSON | bytes of every array in turn, C order

The header names each array with its dtype and shape. A column of dtype object holds text or None and
is written as the size of its UTF-8 in bytes, int32 lengths in characters (-1 for None), and the UTF-8 of
all texts together; no other objects are accepted.
"""

import json
from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array
from streamrec.errors import CorruptStateError, InvariantError
from streamrec.state.names import raw

MAGIC = b"SRB1"
TEXT = "text"


def pack(arrays: Mapping[str, Array]) -> bytes:
    """One blob for named arrays.

    Raises
    ------
    InvariantError
        If a dtype is neither a number, a bool nor text.

    Examples
    --------
    >>> blob = pack({"h": np.zeros((2, 3), np.float32), "id": np.array(["u1", None], object)})
    >>> {name: array.tolist() for name, array in unpack(blob).items()}["id"]
    ['u1', None]
    """
    header, body = [], []
    for name, array in arrays.items():
        header.append([name, dtype_name(name, array.dtype), list(array.shape)])
        body.extend(_pack_text(array) if array.dtype == object else [array.tobytes()])
    head = json.dumps(header, separators=(",", ":")).encode()
    return b"".join([MAGIC, len(head).to_bytes(4, "little"), head, *body])


def unpack(blob: bytes) -> dict[str, Array]:
    """The arrays of `pack`, in order; numeric ones are read-only views into the blob.

    Raises
    ------
    CorruptStateError
        If the bytes are not a blob, or shorter than their header says.
    """
    try:
        return _unpack(memoryview(blob))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise CorruptStateError(f"blob of {len(blob)} bytes: cannot be read ({error})") from error


def dtype_name(name: str, dtype: np.dtype[np.generic]) -> str:
    """Name of a dtype in a header; refuses what cannot be read back without running code."""
    if dtype.kind == "O":
        return TEXT
    if dtype.kind not in "biufc":
        raise InvariantError(f"column {name}: dtype {dtype} cannot be stored; use numbers, bools or text")
    return dtype.str


def _pack_text(texts: Array) -> list[bytes]:
    values = texts.tolist()
    lengths = np.array([-1 if text is None else len(text) for text in values], "<i4")
    body = raw("".join([text for text in values if text is not None]))
    return [len(body).to_bytes(8, "little"), lengths.tobytes(), body]


def _unpack(view: memoryview) -> dict[str, Array]:
    if bytes(view[:4]) != MAGIC:
        raise ValueError(f"expected {MAGIC!r} at the start, got {bytes(view[:4])!r}")
    at = 8 + int.from_bytes(view[4:8], "little")
    arrays: dict[str, Array] = {}
    for name, dtype, shape in json.loads(bytes(view[8:at])):
        if dtype == TEXT:
            arrays[name], at = _unpack_text(view, at, shape[0])
        else:
            arrays[name], at = _unpack_numbers(view, at, np.dtype(dtype), tuple(shape))
    if at != len(view):
        raise ValueError(f"expected {at} bytes")
    return arrays


def _unpack_numbers(
    view: memoryview, at: int, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> tuple[Array, int]:
    n = int(np.prod(shape, dtype=np.int64))
    if n == 0:
        return np.empty(shape, dtype), at
    return np.frombuffer(view, dtype, n, at).reshape(shape), at + n * dtype.itemsize


def _unpack_text(view: memoryview, at: int, n: int) -> tuple[Array, int]:
    end = at + 8 + 4 * n + int.from_bytes(view[at : at + 8], "little")
    lengths, at = _unpack_numbers(view, at + 8, np.dtype("<i4"), (n,))
    joined = str(view[at:end], "utf-8", "surrogatepass")
    ends = np.cumsum(np.maximum(lengths, 0)).tolist()
    starts = [0, *ends[:-1]]
    if end > len(view) or (ends and ends[-1] != len(joined)):
        raise ValueError(f"expected {end} bytes")
    texts = np.empty(n, object)
    texts[:] = [joined[a:b] for a, b in zip(starts, ends, strict=True)] if n else []
    texts[lengths < 0] = None
    return texts, end
