"""What is published for a user after each of its tie sets, and how it is written as JSON.

The record alone is enough to score it: a listed mark has its `p`; any other known mark, and any new one,
has (p_rest + p_new_mark) / (n_rest + n_new); a waiting time has the density of the hazard table. All
numbers are rounded to six significant digits before they are scored, so that what was printed is
what was scored.
"""

import msgspec


class MarkChance(msgspec.Struct, frozen=True):
    """A mark and the probability that it is the user's next one."""

    mark: str
    p: float


class Hazard(msgspec.Struct, frozen=True):
    """Event rate since the user's last event: rate[i] on [edges_s[i], edges_s[i+1]), then `tail`, in 1/s."""

    edges_s: list[float]
    rate: list[float]
    tail: float


class Wait(msgspec.Struct, frozen=True):
    """The law of the time to the user's next event, in seconds from `issued_at`.

    Quantiles and mean are of the law given an event within the horizon; `never` is the rest.
    """

    quantiles: dict[str, float]
    mean: float
    within: dict[str, float]
    never: float
    hazard: Hazard | None = None


class LargeSet(msgspec.Struct, frozen=True):
    """A prediction set that is too large to list: all marks with at least `p_threshold`."""

    size: int
    p_threshold: float


class Forecast(msgspec.Struct, frozen=True):
    """One user's next event, as it was seen just after its last one.

    Examples
    --------
    >>> wait = Wait({"0.5": 60.0}, 80.0, {"3600": 0.99}, 0.01)
    >>> marks = [MarkChance("m7", 0.5)]
    >>> forecast = Forecast("log.csv:0:7:0:mixture", "u1", 5.0, marks, 0.1, 0.4, 9, 1000, wait,
    ...                     ["m7"], [1.0, 300.0])
    >>> Forecast.from_json(forecast.to_json()) == forecast
    True
    """

    id: str
    user: str
    issued_at: float
    marks: list[MarkChance]
    p_new_mark: float
    p_rest: float
    n_rest: int
    n_new: int
    wait: Wait | None
    set90: list[str] | LargeSet | None
    interval90: list[float | None] | None
    v: int = 1

    def to_json(self) -> bytes:
        """One line of JSON without the line's end; an infinite number becomes null."""
        return _ENCODER.encode(self)

    @staticmethod
    def from_json(line: bytes) -> "Forecast":
        """Read what `to_json` wrote."""
        return _DECODER.decode(line)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Forecast)
