"""Scores of waiting-time forecasts, kept as sums for every scorer.

All log-scores are natural logarithms of densities per second (of cells of the recorded clock, where it has a
grid), per scored event. A scorer that had issued nothing is not scored. The open intervals are added by
whoever reports, since they end with the clock.
"""

from collections.abc import Sequence

import numpy as np

from streamrec.arrays import Array, Floats

STATS = (
    "events",
    "log_issued",
    "lead",
    "log_point",
    "log_arrival",
    "absolute_error",
    "squared_error",
    "covered",
)
PIT_BINS = 50


class TimeBoard:
    """Sums of waiting-time scores: (scorers, stats), and the histogram of the PIT.

    Parameters
    ----------
    names : scorers in the order of the rows given to `add`
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums: Floats = np.zeros((len(self.names), len(STATS)))
        self.pit: Floats = np.zeros((len(self.names), PIT_BINS))
        self.density: Floats = np.zeros(2)

    def add(
        self,
        dt: Floats,
        log_issued: Floats,
        log_point: Floats,
        log_arrival: Floats,
        pit: Floats,
        median: Floats,
        mean: Floats,
        log_density_issued: Floats,
    ) -> None:
        """Add n timed sets; all but `dt` and `log_density_issued` (n,) are (scorers, n)."""
        awake = ~np.isnan(log_issued)
        inside = (pit >= 0.05) & (pit <= 0.95)
        errors = np.abs(median - dt), (mean - dt) ** 2
        scores = log_issued, log_issued[:1] - log_issued, log_point, log_arrival
        columns = [awake, *(np.where(awake, c, 0.0) for c in (*scores, *errors, inside))]
        self.sums += np.stack([np.asarray(c, np.float64).sum(axis=1) for c in columns], axis=-1)
        bins = np.where(awake, np.clip(np.nan_to_num(pit) * PIT_BINS, 0, PIT_BINS - 1), PIT_BINS).astype(
            np.int64
        )
        self.pit += [np.bincount(row, minlength=PIT_BINS + 1)[:PIT_BINS] for row in bins]
        self.density += [len(dt), log_density_issued.sum()]

    def scalars(self) -> dict[str, Array]:
        """The sums."""
        return {"sums": self.sums, "pit": self.pit, "density": self.density}

    def load_scalars(self, arrays: dict[str, Array]) -> None:
        """Take the sums back."""
        self.sums = arrays["sums"].astype(np.float64)
        self.pit = arrays["pit"].astype(np.float64)
        self.density = arrays["density"].astype(np.float64)

    def report(self, name: str, open_sum: float) -> dict[str, float]:
        """Means of one scorer; `open_sum` is the log-survival of the intervals still open."""
        row = self.names.index(name)
        report = time_means(self.sums[row], self.pit[row], open_sum)
        if row == 0:
            report["log_density_issued"] = _ratio(self.density[1], self.density[0])
        return report


def time_means(sums: Floats, pit: Floats, open_sum: float) -> dict[str, float]:
    """Sums of one scorer as the figures that are reported.

    Examples
    --------
    >>> sums = np.array([2.0, -4.0, 0.0, -4.2, -3.9, 6.0, 8.0, 2.0])
    >>> report = time_means(sums, np.full(PIT_BINS, 1.0), -1.0)
    >>> report["log_likelihood_open"], report["mae_median_s"], report["rmse_mean_s"], report["pit_ks"]
    (-2.5, 3.0, 2.0, 0.0)
    """
    n = sums[0]
    return {
        "events": float(n),
        "log_likelihood_open": _ratio(sums[1] + open_sum, n),
        "log_likelihood_issued": _ratio(sums[1], n),
        "lead": _ratio(sums[2], n),
        "log_likelihood_point": _ratio(sums[3], n),
        "log_likelihood_arrival": _ratio(sums[4], n),
        "mae_median_s": _ratio(sums[5], n),
        "rmse_mean_s": float(np.sqrt(_ratio(sums[6], n))),
        "pit_ks": pit_ks(pit),
        "coverage90": _ratio(sums[7], n),
    }


def pit_ks(histogram: Floats) -> float:
    """Largest distance of the PIT's distribution from uniform, at the edges of the histogram."""
    total = histogram.sum()
    if total == 0:
        return float("nan")
    edges = np.arange(1, len(histogram) + 1) / len(histogram)
    return float(np.round(np.abs(np.cumsum(histogram) / total - edges).max(), 12))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")
