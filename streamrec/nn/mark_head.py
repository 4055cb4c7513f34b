"""Tables of marks for a torch model, and lists of marks out of its states.

    p(i) ∝ exp(h · leave_i + bias_i + ln(count_i + 1/2))          over the marks known at that moment

so that an untrained head is plain popularity and the network learns the ratio to it. Up to 2,000
marks the softmax is exact in training and every known mark is listed. Above, training takes a sampled
softmax over the cut's marks and 512 uniform ones, corrected by ln q (q the expected count of a mark
among the candidates), and the lists hold the 64 most probable marks of the exact product over all
marks, the rest lying on the bank's own mixture (the last background).

A mark's first rows are a function of (seed, hash of its bytes): no order of interning touches them.

Source of the correction: Bengio and Senécal (2008), IEEE Trans. Neural Networks 19, 713-722.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from streamrec.arrays import Array, Floats, Floats32, Hashes, Ints, Ints32
from streamrec.batch import MarkLists
from streamrec.nn.optim import adagrad_rows
from streamrec.state.columns import Column, Columns

DENSE_MARKS = 2000
LISTED = 64
UNIFORM = 512


def hashed_uniform(hashes: Hashes, seed: int, width: int) -> Floats32:
    """Numbers in [-1, 1) that depend on (seed, hash, column) alone, (len(hashes), width).

    Splitmix64 of Steele, Lea and Flood (2014) as a counter-based generator.
    """
    golden = 0x9E3779B97F4A7C15
    start = np.uint64((seed * 0xD1342543DE82EF95 + golden) & 0xFFFFFFFFFFFFFFFF)
    steps = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(golden)
    x = (hashes ^ start)[:, None] + steps
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    bits: Floats32 = (x >> np.uint64(40)).astype(np.float32)
    return bits * np.float32(2.0**-23) - np.float32(1.0)


class MarkTable:
    """Embedding and output rows of every known mark, learned by row-wise Adagrad.

    Parameters
    ----------
    embedding : width of the rows that enter the cell
    width : width of the rows that the state is multiplied with
    seed : of the first rows
    """

    def __init__(self, embedding: int, width: int, seed: int) -> None:
        self.seed = seed
        self.columns = Columns(
            64,
            {
                "enter": Column(np.float32, (embedding,)),
                "leave": Column(np.float32, (width,)),
                "bias": Column(np.float32),
                "enter_squares": Column(np.float32),
                "leave_squares": Column(np.float32),
                "bias_squares": Column(np.float32),
                "count": Column(np.float64),
                "made": Column(np.uint8),
            },
        )

    def fit(self, hashes: Hashes) -> None:
        """Make room for all marks and give new ones their first rows."""
        n, columns = len(hashes), self.columns
        if n > columns.capacity:
            columns.grow(max(n, 2 * columns.capacity))
        fresh = np.flatnonzero(columns["made"][:n] == 0)
        if len(fresh) == 0:
            return
        e, d = columns["enter"].shape[1], columns["leave"].shape[1]
        first = hashed_uniform(hashes[fresh], self.seed, e + d)
        columns["enter"][fresh] = first[:, :e]
        columns["leave"][fresh] = first[:, e:] * np.float32(0.05)
        columns["made"][fresh] = 1
        columns.touched[fresh] = 1

    def tensor(self, name: str, device: torch.device) -> Tensor:
        """A column as a tensor; shares memory where the device is the CPU."""
        return torch.from_numpy(self.columns[name]).to(device)

    def log_prior(self, n: int) -> Floats32:
        """Bias and popularity of the first n marks, (n,)."""
        count, bias = self.columns["count"][:n], self.columns["bias"][:n]
        return bias + np.log(count + 0.5).astype(np.float32)

    def count(self, mark: Ints32) -> None:
        """The marks of a cut have happened."""
        np.add.at(self.columns["count"], mark, 1.0)
        self.columns.touched[mark] = 1

    def update(self, name: str, rows: Ints, gradient: Floats32, rate: float) -> None:
        """One step of row-wise Adagrad on a column."""
        adagrad_rows(self.columns[name], self.columns[f"{name}_squares"], rows, gradient, rate)
        self.columns.touched[rows] = 1

    def forget_broken(self) -> None:
        """Rows that are not finite get their first values again at the next `fit`."""
        sound = np.ones(self.columns.capacity, bool)
        for name in ("enter", "leave", "bias", "enter_squares", "leave_squares", "bias_squares"):
            values = self.columns[name]
            sound &= np.isfinite(values).reshape(len(values), -1).all(axis=1)
        broken = np.flatnonzero(~sound)
        count = self.columns["count"][broken]
        self.columns.reset(broken)
        self.columns["count"][broken] = count

    def remap(self, new_id: Ints) -> None:
        """Move every row to its mark's new id; rows without a mark are fresh again."""
        old = np.flatnonzero(new_id[: self.columns.capacity] >= 0)
        kept: Mapping[str, Array] = {name: self.columns[name][old] for name in self.columns}
        self.columns.reset(np.arange(min(len(new_id), self.columns.capacity)))
        self.columns.put(new_id[old], kept)
        self.columns.touched[new_id[old]] = 1


def softmax_candidates(
    table: MarkTable, mark: Ints32, known: int, random: np.random.Generator
) -> tuple[Ints, Floats32]:
    """Marks over which a cut's softmax is taken, ascending, and what to add to their logits.

    All known marks with their prior, or a sample with the prior less ln of its expected count.
    """
    if known <= DENSE_MARKS:
        return np.arange(known), table.log_prior(known)
    mine = mark[mark < known]
    drawn = np.unique(np.concatenate([mine, random.integers(0, known, UNIFORM)]))
    count = table.columns["count"][:known]
    expected = UNIFORM / known + len(mine) * count[drawn] / max(count.sum(), 1.0)
    prior = table.columns["bias"][drawn] + np.log(count[drawn] + 0.5)
    return drawn, (prior - np.log(expected)).astype(np.float32)


def named_among(candidates: Ints, ids: Ints32) -> tuple[Ints, Ints]:
    """Lines and places of the candidates that each line of `ids` names, every pair once.

    Examples
    --------
    >>> named_among(np.array([2, 5, 7]), np.array([[5, 5, -1], [3, 7, 2]], np.int32))
    (array([0, 1, 1]), array([1, 0, 2]))
    """
    if len(candidates) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    place = np.minimum(np.searchsorted(candidates, ids), len(candidates) - 1)
    line, column = np.nonzero(candidates[place] == ids)
    pairs = np.unique(line * len(candidates) + place[line, column])
    return pairs // len(candidates), pairs % len(candidates)


def lists(logits: Tensor, row: Ints, known: Ints, n_backgrounds: int) -> MarkLists:
    """Lists of the marks known to each forecast.

    Parameters
    ----------
    logits : (N, K) one line per state
    row : (F,) which line answers forecast f
    known : (F,) marks known to forecast f
    n_backgrounds : J; the last of J + 1 columns takes what the lists leave
    """
    build = _all_known if logits.shape[1] <= DENSE_MARKS else _top
    return build(logits, row, known, n_backgrounds)


def halves(both: MarkLists, n: int) -> tuple[MarkLists, MarkLists]:
    """The first n forecasts and the rest."""
    at = int(both.start[n])
    return (
        MarkLists(both.start[: n + 1], both.mark[:at], both.p[:at], both.background[:n]),
        MarkLists(both.start[n:] - at, both.mark[at:], both.p[at:], both.background[n:]),
    )


def _all_known(logits: Tensor, row: Ints, known: Ints, n_backgrounds: int) -> MarkLists:
    n, k = len(row), logits.shape[1]
    background = np.zeros((n, n_backgrounds + 1))
    background[known == 0, -1] = 1.0
    start = np.concatenate([[0], np.cumsum(known)])
    mark = np.broadcast_to(np.arange(k, dtype=np.int32), (n, k))
    if n and known.min() == k:
        p = _normalised(torch.softmax(logits, dim=1).double().cpu().numpy())[row]
        return MarkLists(start, mark.reshape(-1), p.reshape(-1), background)
    there = np.arange(k) < known[:, None]
    raised = logits.double().cpu().numpy()[row]
    raised -= raised.max(axis=1, keepdims=True, where=there, initial=-np.inf)
    p = _normalised(np.exp(raised, where=there, out=np.zeros((n, k))))
    return MarkLists(start, mark[there], p[there], background)


def _normalised(p: Floats) -> Floats:
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
    return p


def _top(logits: Tensor, row: Ints, known: Ints, n_backgrounds: int) -> MarkLists:
    value, mark = (part.cpu().numpy() for part in torch.topk(logits, LISTED, dim=1))
    log_sum = _log_sums(logits, row, known)
    p = np.exp(value[row].astype(np.float64) - log_sum[:, None])
    there = mark[row] < known[:, None]
    p[~there] = 0.0
    listed = p.sum(axis=1, keepdims=True)
    p /= np.maximum(listed, 1.0)
    background = np.zeros((len(row), n_backgrounds + 1))
    background[:, -1] = np.maximum(1.0 - p.sum(axis=1), 0.0)
    start = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return MarkLists(start, mark[row][there].astype(np.int32), p[there], background)


def _log_sums(logits: Tensor, row: Ints, known: Ints) -> Floats:
    """ln Σ exp over the marks known to each forecast, (F,)."""
    least, k = int(known.min(initial=logits.shape[1])), logits.shape[1]
    old = torch.logsumexp(logits[:, :least].double(), dim=1).cpu().numpy()[row]
    if least == k:
        return old
    late = logits[:, least:].double().cpu().numpy()[row]
    late = np.where(np.arange(least, k) < known[:, None], late, -np.inf)
    total: Floats = np.logaddexp.reduce(np.concatenate([old[:, None], late], axis=1), axis=1)
    return total
