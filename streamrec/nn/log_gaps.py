"""Running statistics of the logarithms of gaps: the unit in which a network speaks of time."""

import numpy as np

from streamrec.arrays import Floats


class LogGaps:
    """Mean and deviation of ln gap over all positive gaps so far, and the least of them.

    `state` is (gaps, mean, sum of squared deviations, least gap), merged as Chan, Golub and LeVeque
    (1983) do. With few gaps the deviation is drawn towards 2.

    Examples
    --------
    >>> gaps = LogGaps()
    >>> gaps.measure(np.exp([1.0, 3.0, np.nan, -np.inf]))
    >>> gaps.state.round(3).tolist(), round(gaps.deviation, 3), gaps.floor
    ([2.0, 2.0, 2.0, 2.718], 1.581, 1.3591409142295225)
    """

    def __init__(self) -> None:
        self.state: Floats = np.array([0.0, 0.0, 0.0, np.inf])

    @property
    def mean(self) -> float:
        """Mean of ln gap."""
        return float(self.state[1])

    @property
    def deviation(self) -> float:
        """Deviation of ln gap, at least 0.3."""
        gaps, _, squares, _ = self.state
        return max(float(np.sqrt((squares + 8.0) / (gaps + 2.0))), 0.3)

    @property
    def floor(self) -> float:
        """Half the least positive gap, 1e-6 s before there is one: what a gap of zero counts as."""
        least = float(self.state[3])
        return 0.5 * least if np.isfinite(least) else 1e-6

    def measure(self, dt: Floats) -> None:
        """Take in gaps in seconds; those that are zero or NaN do not count."""
        positive = dt[dt > 0]
        if len(positive) == 0:
            return
        x = np.log(positive)
        gaps, mean, squares, least = self.state
        n, apart = gaps + len(x), x.mean() - mean
        within = ((x - x.mean()) ** 2).sum() + apart * apart * gaps * len(x) / n
        self.state[:] = n, mean + apart * len(x) / n, squares + within, min(least, positive.min())
