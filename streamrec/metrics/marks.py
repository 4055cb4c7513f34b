"""Scores of mark forecasts, kept as sums, for every scorer and every slice of the stream.

A scorer that slept through an event is not scored on it: `events` says on how many it was. `lead` is how far
the first scorer (the mixture) is ahead of it on these events, in nats per event: the comparison that is fair.

A rank is the average of the optimistic and the pessimistic one, so it may end in one half; a hit needs
rank <= k, accuracy needs rank 1. `nll` is the mean of -ln p over the scored events, in nats.

Slices: `all` (every event), `seen` (events of users who have an event before; the headline), `head`
and `tail` (marks that had at least, or fewer than, HEAD_COUNT events before), `short` and `long`
(users with fewer than, or at least, LONG_HISTORY sets before).
"""

from collections.abc import Sequence

import numpy as np

from streamrec.arrays import Array, Bools, Floats, Ints

STATS = (
    "events",
    "nll",
    "lead",
    "accuracy",
    "hit@5",
    "hit@10",
    "hit@20",
    "mrr@10",
    "ndcg@10",
    "new",
    "nll_new",
)
SLICES = ("all", "seen", "head", "tail", "short", "long")
HEAD_COUNT = 50
LONG_HISTORY = 8


class MarkBoard:
    """Sums of mark scores: (scorers, slices, stats).

    Parameters
    ----------
    names : scorers in the order of the rows given to `add`

    Examples
    --------
    >>> board = MarkBoard(["mixture"])
    >>> board.add(np.log([[0.5, 0.25]]), np.array([[1.0, 2.5]]), np.array([False, False]),
    ...           np.array([True, True]), np.array([3, 99]), np.array([1, 9]))
    >>> board.report("mixture", "seen")["hit@5"], round(board.report("mixture", "head")["nll"], 3)
    (1.0, 1.386)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums: Floats = np.zeros((len(self.names), len(SLICES), len(STATS)))

    def add(
        self, log_score: Floats, rank: Floats, new: Bools, seen_user: Bools, mark_count: Ints, length: Ints
    ) -> None:
        """Add the M marks of a cut.

        Parameters
        ----------
        log_score, rank : (scorers, M) ln p of the mark that happened, and its average rank
        new : (M,) the mark had never been seen before
        seen_user : (M,) the user had an event before
        mark_count : (M,) events of that mark before
        length : (M,) sets of the user before
        """
        self.sums += np.matmul(slices_of(seen_user, mark_count, length), stats_of(log_score, rank, new))

    def report(self, name: str, part: str) -> dict[str, float]:
        """Means of one scorer on one slice; NaN where nothing was scored."""
        return means(self.sums[self.names.index(name), SLICES.index(part)])

    def scalars(self) -> dict[str, Array]:
        """The sums."""
        return {"sums": self.sums}

    def load_scalars(self, arrays: dict[str, Array]) -> None:
        """Take the sums back."""
        self.sums = arrays["sums"].astype(np.float64)


def stats_of(log_score: Floats, rank: Floats, new: Bools) -> Floats:
    """Per-event statistics in the order of STATS, (scorers, M, stats); zeros for a scorer that slept."""
    awake = ~np.isnan(log_score)
    loss = np.where(awake, -log_score, 0.0)
    rank = np.where(awake, rank, np.inf)
    in_ten, is_new = rank <= 10, awake & new
    out = np.empty((len(STATS), *log_score.shape))
    put = dict(zip(STATS, out, strict=True))
    put["events"][:] = awake
    put["nll"][:] = loss
    put["lead"][:] = np.where(awake, loss - loss[:1], 0.0)
    put["accuracy"][:] = rank <= 1
    put["hit@5"][:] = rank <= 5
    put["hit@10"][:] = in_ten
    put["hit@20"][:] = rank <= 20
    put["mrr@10"][:] = np.where(in_ten, 1.0 / rank, 0.0)
    put["ndcg@10"][:] = np.where(in_ten, 1.0 / np.log2(1.0 + rank), 0.0)
    put["new"][:] = is_new
    put["nll_new"][:] = np.where(is_new, loss, 0.0)
    return np.ascontiguousarray(out.transpose(1, 2, 0))


def slices_of(seen_user: Bools, mark_count: Ints, length: Ints) -> Floats:
    """Which event is in which slice, (slices, M), 0 or 1."""
    head, long = mark_count >= HEAD_COUNT, length >= LONG_HISTORY
    rows = [np.ones_like(seen_user), seen_user, head, ~head, ~long, long]
    return np.stack([np.asarray(r, np.float64) for r in rows])


def means(sums: Floats) -> dict[str, float]:
    """Sums of one scorer and slice as means by name; `new` is the share of new marks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = sums / sums[0]
        nll_new = sums[-1] / sums[-2]
    report = dict(zip(STATS[1:-1], values[1:-1].tolist(), strict=True))
    return {"events": float(sums[0]), **report, "nll_new": float(nll_new)}
