"""The grid of a recorded clock: the coarsest step that divides the gaps seen so far.

    δ = max { c in 1e-6, 1e-3, 1, 60, 3600, 86400 s : c divides every one of the first 1,000 gaps }

A gap is the difference of two float64 times t, each off by up to half a unit in the last place, so
that c divides a gap g when |g - c round(g/c)| <= ulp(t) + 4 ulp(g); where that slack reaches c/4 nobody
can tell, and c counts as refuted. While fewer than 1,000 gaps were seen, a set is scored with the answer
that the gaps *before* it give (the finest candidate while they are fewer than 8, since few gaps share a
divisor by chance). After that δ is fixed; gaps off the grid are rounded for scoring and counted.
"""

from collections.abc import Mapping

import numpy as np

from streamrec.arrays import Array, Bools, Floats
from streamrec.errors import ConfigError

CANDIDATES_S = np.array([1e-6, 1e-3, 1.0, 60.0, 3600.0, 86400.0])
"""Steps that clocks are known to have, in seconds."""

N_DECIDING = 1000
N_TRUSTED = 8


def divides(dt: Floats, time: Floats) -> Bools:
    """Whether each candidate divides the gaps, (N, 6); `time` is that of the later event.

    Examples
    --------
    >>> divides(np.array([7200.0, 0.25]), np.array([1.7e9, 1.7e9])).astype(int).tolist()
    [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]
    """
    slack = (np.spacing(np.abs(time)) + 4 * np.spacing(dt))[:, None]
    off = np.abs(dt[:, None] - CANDIDATES_S * np.round(dt[:, None] / CANDIDATES_S))
    return np.asarray((off <= slack) & (slack < CANDIDATES_S / 4))


def to_grid(dt: Floats, delta: Floats) -> Floats:
    """Gaps rounded to multiples of delta, at least one; unchanged where delta is 0.

    Examples
    --------
    >>> to_grid(np.array([0.2, 2.6, 2.6]), np.array([1.0, 1.0, 0.0])).tolist()
    [1.0, 3.0, 2.6]
    """
    step = np.where(delta > 0, delta, 1.0)
    return np.where(delta > 0, np.maximum(np.round(dt / step), 1.0) * step, dt)


class ClockResolution:
    """Finds δ, or keeps the declared one, and says for every gap with which δ it is scored.

    Parameters
    ----------
    declared_s : δ in seconds, 0 for no grid; None to find it

    Raises
    ------
    ConfigError
        If the declared step is negative or not finite.

    Examples
    --------
    >>> clock = ClockResolution()
    >>> gaps = np.arange(1.0, 1200.0)
    >>> delta = clock.step(gaps, 1.7e9 + np.cumsum(gaps))
    >>> delta[0].item(), delta[-1].item(), clock.delta_s, clock.decided
    (1e-06, 1.0, 1.0, True)
    """

    def __init__(self, declared_s: float | None = None) -> None:
        if declared_s is not None and not 0 <= declared_s < np.inf:
            raise ConfigError(f"clock resolution: expected seconds >= 0 (0: no grid), got {declared_s}")
        self.declared_s = declared_s
        self.seen = 0
        self.off_grid = 0
        self._alive: Bools = np.ones(len(CANDIDATES_S), np.bool_)

    @property
    def decided(self) -> bool:
        """Whether δ is declared or fixed."""
        return self.declared_s is not None or self.seen >= N_DECIDING

    @property
    def delta_s(self) -> float:
        """The step that the next gap is scored with; 0 without a grid."""
        return float(self._choose(self._alive[None, :], np.array([self.seen]))[0])

    def step(self, dt: Floats, time: Floats) -> Floats:
        """Take the gaps of the next sets in order; δ for each from the gaps before it, (N,).

        Parameters
        ----------
        dt : (N,) s, positive
        time : (N,) s, time of the event that closes the gap
        """
        fits = divides(dt, time)
        number = self.seen + np.arange(len(dt) + 1)
        deciding = fits | (number[:-1, None] >= N_DECIDING)
        alive = np.logical_and.accumulate(np.concatenate([self._alive[None, :], deciding]), axis=0)
        delta = self._choose(alive[:-1], number[:-1])
        self.off_grid += int(np.count_nonzero(self._off_grid(dt, time, delta, number[:-1])))
        self._alive, self.seen = alive[-1], int(number[-1])
        return delta

    def _choose(self, alive: Bools, number: Array) -> Floats:
        if self.declared_s is not None:
            return np.full(len(alive), self.declared_s)
        coarsest = np.max(np.where(alive, CANDIDATES_S, 0.0), axis=1)
        finest = np.where(alive[:, 0], CANDIDATES_S[0], coarsest)
        return np.asarray(np.where(number < N_TRUSTED, finest, coarsest), np.float64)

    def _off_grid(self, dt: Floats, time: Floats, delta: Floats, number: Array) -> Bools:
        late = (delta > 0) & ((number >= N_DECIDING) | (self.declared_s is not None))
        slack = np.spacing(np.abs(time)) + 4 * np.spacing(dt)
        return np.asarray(late & (np.abs(dt - to_grid(dt, delta)) > slack))

    def scalars(self) -> Mapping[str, Array]:
        """Counters and the candidates still standing."""
        return {"counts": np.array([self.seen, self.off_grid]), "alive": self._alive.copy()}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        self.seen, self.off_grid = (int(n) for n in arrays["counts"])
        self._alive = np.array(arrays["alive"], np.bool_)
