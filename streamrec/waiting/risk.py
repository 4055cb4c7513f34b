"""Who is waiting, since when and in which bin of elapsed time: exact exposure without a sweep over users.

    partition's clock  ──►  c = largest time that it has released
    list of its users  ──►  oldest set  r r r | r r | r r r r | r   newest set
                                            ▲     ▲         ▲
                                      finger of edge 2      finger of edge 0: the first user that has
                                                            not yet waited that long

Users of a partition stand in a list by the time e of their last set, so the users that have waited
longer than edge j are a prefix of it, and a finger per edge marks its end. When the clock moves, the
finger with the smallest e + edge moves on by one user, again and again: that user crosses from bin j
to bin j + 1. The list, the fingers and the bins follow from (e, serial, partition) of the rows and
from the clocks; only those are state, the rest is built anew after a load.

Models turn the operations into exposure per context and bin with `streamrec.waiting.exposure`.

Source: our own; the list by last use is that of an LRU cache.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from streamrec.arrays import Array, Floats, Ints, Ints32
from streamrec.batch import Batch
from streamrec.errors import ConfigError, InvariantError
from streamrec.state.columns import Column, Columns
from streamrec.waiting.risk_kernels import BLOCK, give_up, walk

N_EDGES = 41
EDGES: Floats = 10.0 ** (np.arange(N_EDGES) / 3.0 - 4.0)
"""Edges of the bins of elapsed time, s: three per decade from 1e-4 to 2.2e9."""
N_BINS = N_EDGES + 1
"""Bin 0 is [0, 1e-4), bin j is [EDGES[j-1], EDGES[j]), the last one has no end."""
_COLUMNS = {
    "risk.entry": Column(np.float64, (), np.nan),
    "risk.serial": Column(np.int64),
    "risk.partition": Column(np.int32, (), -1),
}
_OPS = (np.int32, np.int32, np.int32, np.int8, np.int8, np.float64, np.float64)


class RiskOps(NamedTuple):
    """What happened to the users at risk while a cut went by, N operations in the order to apply.

    A set is preceded by all crossings of its partition up to the clock that it sets, in order of
    (time, edge, order of the users' last sets). Operations older than the clock (a set that comes
    after its partition's clock has passed its time) stand next to their set: the user first goes back
    to the bin in which the set found it, and crosses the bins behind the clock again after it.

    Apply every operation alike: leave `source` at `time` unless it is -1; if `set` >= 0 the user's set
    happens here (it ends the wait in `source`; count it if `batch.timed`) and the user's context
    changes; then enter `target` at `time` unless it is -1.

    Parameters
    ----------
    serial : `Batch.serial` of the cut
    clocks : (P,) s, clock of each partition before the cut, -inf if it has none; a set moves the clock
        of its partition to max(clock, time)
    event : (S,) position of each set's operation
    set : (N,) set of the cut, or -1
    row : (N,) row of the user
    partition : (N,) dense index of the partition, below P
    source : (N,) bin that is left, or -1: not at risk before
    target : (N,) bin that is entered, or -1: no longer at risk (idle too long, dropped)
    time : (N,) s since the epoch
    elapsed : (N,) s since the user's last set; NaN for a first one
    """

    serial: int
    clocks: Floats
    event: Ints
    set: Ints32
    row: Ints32
    partition: Ints32
    source: Array
    target: Array
    time: Floats
    elapsed: Floats


class RiskQueue:
    """All users at risk, moved from bin to bin of elapsed time as the clocks of their partitions move.

    The processor calls `advance` once per cut, before any model walks it; models read `ops`. Before
    the arena frees rows it calls `drop`, which tells every model that `watch`es. State: the arena's
    columns `risk.*` and two scalars. Per set it costs O(edges) and per crossing O(edges) in cache;
    a set older than its partition's clock costs, beyond that, one step per user of its bin whose last
    set is later (logs that run user after user should be sorted first).

    Parameters
    ----------
    arena : the user rows (`Columns`)
    max_idle_s : s, a user idle for longer is no longer at risk; positive, inf for never

    Raises
    ------
    ConfigError
        If `max_idle_s` is not positive.

    Examples
    --------
    >>> from streamrec.state.columns import Columns
    >>> queue = RiskQueue(Columns(4, {}))
    >>> queue.limits[:2].round(6).tolist(), len(queue.limits)
    ([0.0001, 0.000215], 41)
    """

    def __init__(self, arena: Any, max_idle_s: float = np.inf) -> None:
        if not max_idle_s > 0:
            raise ConfigError(f"max_idle_s: expected > 0 seconds (inf for never), got {max_idle_s}")
        self.arena = arena
        self.max_idle_s = float(max_idle_s)
        self.limits = np.append(EDGES[max_idle_s > EDGES], [max_idle_s] if np.isfinite(max_idle_s) else [])
        self.last = len(self.limits) if np.isfinite(max_idle_s) else N_BINS
        self.partitions: Ints = np.zeros(0, np.int64)
        self.clocks: Floats = np.zeros(0)
        self.ops: RiskOps | None = None
        self._watchers: list[Callable[[RiskOps], None]] = []
        self._index: tuple[Array, ...] | None = None
        self._buffers: tuple[Array, ...] = tuple(np.zeros(4096, d) for d in _OPS)
        for name, column in _COLUMNS.items():
            arena.add(name, column)

    def watch(self, on_drop: Callable[[RiskOps], None]) -> None:
        """Call `on_drop` with the operations of every later `drop`, before rows are reset."""
        self._watchers.append(on_drop)

    def advance(self, batch: Batch) -> RiskOps:
        """Operations of a cut, in order; the queue stands at the end of the cut afterwards.

        The arrays are valid until the next `advance` or `drop`.
        """
        before = self._know(batch.partition)
        index, columns = self._ready(), self._columns()
        part = self._dense(batch.partition)
        event = np.zeros(batch.n_sets, np.int64)
        s = i = 0
        while True:
            s, i = walk(
                s, i, batch.serial, batch.row, part, batch.time, self.clocks, self.last, self.limits,
                columns, self.arena.touched, index, self._buffers, event,
            )  # fmt: skip
            if s == batch.n_sets:
                break
            self._widen()
        self.ops = RiskOps(batch.serial, before, event, *(b[:i] for b in self._buffers))
        return self.ops

    def drop(self, rows: Ints) -> None:
        """End the risk of rows at the clocks of their partitions and forget them.

        To be called before the arena resets the rows; models that watch are told at once.
        """
        index = self._ready()
        while len(rows) > len(self._buffers[0]):
            self._widen()
        touched = self.arena.touched
        i = give_up(rows, self.clocks, self.limits, self._columns(), touched, index, self._buffers)
        none = np.zeros(0, np.int64)
        ops = RiskOps(-1, self.clocks.copy(), none, *(b[:i] for b in self._buffers))
        self.ops = None
        for on_drop in self._watchers:
            on_drop(ops)

    def tables(self) -> Mapping[str, Columns]:
        """Nothing beside the arena's columns."""
        return {}

    def scalars(self) -> Mapping[str, Array]:
        """Partitions in order of first appearance and their clocks."""
        return {"partitions": self.partitions.copy(), "clocks": self.clocks.copy()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take them back; the list is built from the arena's rows at the next use."""
        self.partitions = np.array(arrays["partitions"], np.int64)
        self.clocks = np.array(arrays["clocks"], np.float64)
        self._index = self.ops = None

    def _know(self, partition: Ints32) -> Floats:
        """Take in partitions never seen; answers with the clocks before the cut."""
        new = partition[~np.isin(partition, self.partitions)]
        if len(new):
            _, first = np.unique(new, return_index=True)
            self.partitions = np.concatenate([self.partitions, new[np.sort(first)].astype(np.int64)])
            more = len(self.partitions) - len(self.clocks)
            self.clocks = np.concatenate([self.clocks, np.full(more, -np.inf)])
            if self._index is not None:
                self._index = (*self._index[:2], *_pad_partitions(self._index[2:], more))
        return self.clocks.copy()

    def _dense(self, partition: Ints32) -> Ints32:
        order = np.argsort(self.partitions, kind="stable")
        return order[np.searchsorted(self.partitions, partition, sorter=order)].astype(np.int32)

    def _columns(self) -> tuple[Array, ...]:
        return tuple(self.arena[name] for name in _COLUMNS)

    def _widen(self) -> None:
        self._buffers = tuple(np.concatenate([b, np.zeros_like(b)]) for b in self._buffers)

    def _ready(self) -> tuple[Array, ...]:
        """List and fingers for the arena as it is; grown when it has grown, built anew after a load."""
        if self._index is None:
            self._index = self._build()
        more = self.arena.capacity - len(self._index[0])
        if more > 0:
            before, after, *rest = self._index
            before = np.concatenate([before, np.full(more, -2, np.int32)])
            self._index = (before, np.concatenate([after, np.full(more, -1, np.int32)]), *rest)
        return self._index

    def _build(self) -> tuple[Array, ...]:
        entry, serial, where = self._columns()
        before = np.full(self.arena.capacity, -2, np.int32)
        after = np.full(self.arena.capacity, -1, np.int32)
        n = len(self.limits)
        shapes = ((2, np.int32), (n, np.int32), (n, np.float64), (-(-n // BLOCK), np.float64))
        none = tuple(np.zeros((0, width), dtype) for width, dtype in shapes)
        ends, finger, due, soon = _pad_partitions(none, len(self.clocks))
        for p, clock in enumerate(self.clocks):
            rows = np.flatnonzero((where == p) & (entry + self.max_idle_s > clock))
            rows = rows[np.lexsort((serial[rows], entry[rows]))]
            if not len(rows):
                continue
            before[rows] = np.concatenate([[-1], rows[:-1]])
            after[rows] = np.concatenate([rows[1:], [-1]])
            ends[p] = rows[0], rows[-1]
            for j, limit in enumerate(self.limits):
                k = np.searchsorted(entry[rows] + limit, clock, side="right")
                if k < len(rows):
                    finger[p, j], due[p, j] = rows[k], entry[rows[k]] + limit
        return before, after, ends, finger, due, soon


def _pad_partitions(arrays: tuple[Array, ...], more: int) -> tuple[Array, ...]:
    """Ends, fingers and due times with room for more partitions, all of them empty."""
    fills = (-1, -1, np.inf, np.inf)
    return tuple(
        np.concatenate([a, np.full((more, a.shape[1]), fill, a.dtype)])
        for a, fill in zip(arrays, fills, strict=True)
    )


def queue_of(context: Any, name: str) -> RiskQueue:
    """The risk queue that a waiting model is built with (`Context.risk`).

    Raises
    ------
    ConfigError
        If the context has none.
    """
    queue = getattr(context, "risk", None)
    if not isinstance(queue, RiskQueue):
        raise ConfigError(
            f"model {name}: expected a RiskQueue in context.risk, got {queue!r}; build one first"
        )
    return queue


def ops_for(queue: RiskQueue, batch: Batch, name: str) -> RiskOps:
    """The operations of this very cut.

    Raises
    ------
    InvariantError
        If the queue was not advanced over the cut before the model walks it.
    """
    ops = queue.ops
    if ops is None or ops.serial != batch.serial or len(ops.event) != batch.n_sets:
        at = None if ops is None else ops.serial
        raise InvariantError(
            f"model {name}: cut at set {batch.serial}, but the risk queue stands at {at}; advance it"
        )
    return ops
