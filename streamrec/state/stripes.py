"""Tables in a lane's file: fixed stripes of rows, each a base chunk and the deltas since.

    rows        |---- stripe 0 ----|---- stripe 1 ----|---- stripe 2 ...
    base        written whole: all rows of the stripe that were ever touched
    deltas      per save the rows touched in that stripe; later ones win

A chunk holds the numbers of its rows, their columns side by side as one matrix of bytes (the columns'
order and types stand in the table's layout) and the names, if the rows have some.

A stripe is due for folding (base := base + deltas, deltas deleted) when its deltas weigh as much as its base
or are 64 in number. Every save folds due stripes, those with the oldest delta first, up to
four times the bytes it adds (at least 8 MiB); so the file stays below about twice the state, and no save
writes much more than it brings.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from streamrec.arrays import Array
from streamrec.state.blob import dtype_name, pack, unpack
from streamrec.state.columns import Column
from streamrec.state.lanefile import Key, LaneFile
from streamrec.state.snapshot import Part, Table, conform, fresh, merge_parts

STRIPE_BYTES = 1 << 20
FOLD_BYTES = 8 << 20
MOST_DELTAS = 64
ROWS = "rows"
RECORDS = "records"
JOINED_BYTES = 64 << 20


class Layout(NamedTuple):
    """How a table is stored: capacity, rows per stripe, columns."""

    capacity: int
    stripe_rows: int
    spec: dict[str, Column]


def write_table(file: LaneFile, name: str, table: Table, save: int) -> int:
    """Write what a snapshot brings of one table; bytes written, foldings included.

    Parameters
    ----------
    file : the lane's file, in a transaction
    name : name of the table in the file
    table : the snapshot's table
    save : number of this save, larger than all before
    """
    written = 0
    layout = _layout_for(table)
    if Key("spec", name) in file.manifest:
        stored = _read_layout(file.get(Key("spec", name)))
        if _columns_json(stored.spec) == _columns_json(table.spec):
            layout = stored._replace(capacity=table.capacity)
        else:
            written += _rewrite(file, name, stored, layout)
    written += file.put(Key("spec", name), _layout_json(layout))
    part = merge_parts([conform(part, layout.spec) for part in table.parts])
    for stripe, piece in _split(_encode(part), layout.stripe_rows):
        key = Key("base", name, stripe)
        key = Key("delta", name, stripe, save) if key in file.manifest else key
        written += file.put(key, _pack_part(piece))
    return written


def fold(file: LaneFile, added: int) -> int:
    """Fold due stripes after a save that added so many bytes; bytes written."""
    budget = max(FOLD_BYTES, 4 * added)
    written = 0
    for deltas in sorted(_due(file), key=lambda keys: keys[0].serial):
        if written >= budget:
            break
        written += _fold_stripe(file, deltas)
    return written


def drop_table(file: LaneFile, name: str) -> None:
    """Delete a table and all its chunks."""
    file.delete([key for key in file.manifest if key.kind in ("spec", "base", "delta") and key.name == name])


def assemble(layout_blob: bytes, bases: list[bytes], deltas: list[bytes]) -> Table:
    """The table of a spec chunk, its bases, and its deltas, those of a stripe oldest first."""
    layout = _read_layout(layout_blob)
    joined = [_joined([_unpack_part(data) for data in some]) for some in _batches(bases)]
    parts = [*joined, *(_unpack_part(data) for data in deltas)]
    return Table(layout.capacity, layout.spec, [_decode(part, layout.spec) for part in parts])


def _due(file: LaneFile) -> list[list[Key]]:
    """Deltas of every stripe that has too many, oldest first."""
    deltas: dict[tuple[str, int], list[Key]] = {}
    for key in file.manifest:
        if key.kind == "delta":
            deltas.setdefault((key.name, key.part), []).append(key)
    return [sorted(keys) for place, keys in deltas.items() if _are_too_many(file, Key("base", *place), keys)]


def _are_too_many(file: LaneFile, base: Key, deltas: list[Key]) -> bool:
    weight = sum(file.manifest[key].size for key in deltas)
    return len(deltas) >= MOST_DELTAS or weight >= file.manifest[base].size


def _fold_stripe(file: LaneFile, deltas: list[Key]) -> int:
    base = Key("base", deltas[0].name, deltas[0].part)
    whole = merge_parts([_unpack_part(file.get(key)) for key in (base, *deltas)])
    file.delete(deltas)
    return file.put(base, _pack_part(whole))


def _rewrite(file: LaneFile, name: str, stored: Layout, wanted: Layout) -> int:
    """Give a stored table other columns: absent ones hold fill values, others go."""
    keys = sorted(key for key in file.manifest if key.kind in ("base", "delta") and key.name == name)
    parts = [conform(_decode(_unpack_part(file.get(key)), stored.spec), wanted.spec) for key in keys]
    file.delete(keys)
    if not parts:
        return 0
    pieces = _split(_encode(merge_parts(parts)), wanted.stripe_rows)
    return sum(file.put(Key("base", name, stripe), _pack_part(piece)) for stripe, piece in pieces)


def _split(part: Part, stripe_rows: int) -> list[tuple[int, Part]]:
    """The part cut at the stripes' edges."""
    stripes, first = np.unique(part.rows // stripe_rows, return_index=True)
    edges = [*first.tolist(), len(part.rows)]
    pieces = zip(stripes.tolist(), edges, edges[1:], strict=False)
    return [(s, Part(part.rows[a:b], {k: v[a:b] for k, v in part.columns.items()})) for s, a, b in pieces]


def _batches(chunks: list[bytes]) -> list[list[bytes]]:
    """The chunks in order, some at a time, about 64 MiB each: splitting columns costs per piece."""
    batches: list[list[bytes]] = []
    room = 0
    for chunk in chunks:
        if room < len(chunk):
            batches.append([])
            room = JOINED_BYTES
        batches[-1].append(chunk)
        room -= len(chunk)
    return batches


def _joined(parts: list[Part]) -> Part:
    """Bases of different stripes as one part; no row is in two of them."""
    rows = np.concatenate([part.rows for part in parts])
    return Part(rows, {k: np.concatenate([p.columns[k] for p in parts]) for k in parts[0].columns})


def _encode(part: Part) -> Part:
    """Columns of numbers side by side as one matrix of bytes (n, width); text as it is."""
    n = len(part.rows)
    numbers = [np.ascontiguousarray(a) for a in part.columns.values() if a.dtype.kind != "O"]
    cells = [a.reshape(n, -1).view(np.uint8) for a in numbers] if n else []
    matrix = np.concatenate(cells, axis=1) if cells else np.empty((n, 0), np.uint8)
    return Part(
        part.rows, {RECORDS: matrix, **{k: a for k, a in part.columns.items() if a.dtype.kind == "O"}}
    )


def _decode(part: Part, spec: Mapping[str, Column]) -> Part:
    columns: dict[str, Array] = {}
    n, at = len(part.rows), 0
    for name, column in spec.items():
        dtype = np.dtype(column.dtype)
        if dtype.kind == "O":
            columns[name] = part.columns[name]
            continue
        end = at + dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
        cells = np.ascontiguousarray(part.columns[RECORDS][:, at:end])
        columns[name], at = cells.view(dtype).reshape(n, *column.shape), end
    if at != part.columns[RECORDS].shape[1]:
        raise ValueError(f"records of {part.columns[RECORDS].shape[1]} bytes, but the layout says {at}")
    return Part(part.rows, columns)


def _pack_part(part: Part) -> bytes:
    return pack({ROWS: part.rows, **part.columns})


def _unpack_part(data: bytes) -> Part:
    columns: dict[str, Array] = unpack(data)
    return Part(columns.pop(ROWS), columns)


def _layout_for(table: Table) -> Layout:
    width = sum(fresh(c, 1).nbytes + 24 * (np.dtype(c.dtype).kind == "O") for c in table.spec.values())
    return Layout(table.capacity, 1 << max(4, (STRIPE_BYTES // max(1, width)).bit_length() - 1), table.spec)


def _columns_json(spec: Mapping[str, Column]) -> dict[str, list[object]]:
    return {
        name: [dtype_name(name, np.dtype(c.dtype)), list(c.shape), _fill_json(c)] for name, c in spec.items()
    }


def _fill_json(column: Column) -> str:
    """Fill value as the bytes of one number, so that NaN and large integers keep every bit."""
    return (
        "" if np.dtype(column.dtype).kind == "O" else np.full((), column.fill, column.dtype).tobytes().hex()
    )


def _layout_json(layout: Layout) -> bytes:
    return json.dumps([layout.capacity, layout.stripe_rows, _columns_json(layout.spec)]).encode()


def _read_layout(data: bytes) -> Layout:
    capacity, stripe_rows, columns = json.loads(data)
    return Layout(capacity, stripe_rows, {name: _read_column(*column) for name, column in columns.items()})


def _read_column(dtype: str, shape: list[int], fill: str) -> Column:
    if not fill:
        return Column(object)
    return Column(np.dtype(dtype), tuple(shape), np.frombuffer(bytes.fromhex(fill), dtype)[0])
