"""One line of the table of bases, and how a figure with its range is written."""

from collections.abc import Mapping
from typing import NamedTuple


class Base(NamedTuple):
    """One line: what, the base, what was reached, and whether that is enough."""

    what: str
    base: str
    reached: str
    met: bool

    @classmethod
    def most(cls, what: str, limit: float, value: float, unit: str) -> "Base":
        """At most `limit` is wanted."""
        return cls(what, f"<= {limit:,g} {unit}", f"{value:,g} {unit}", value <= limit)

    @classmethod
    def least(cls, what: str, limit: float, value: float, unit: str) -> "Base":
        """At least `limit` is wanted."""
        return cls(what, f">= {limit:,g} {unit}", f"{value:,g} {unit}", value >= limit)


def spread_of(one: Mapping[str, float]) -> str:
    """Median and range.

    Examples
    --------
    >>> spread_of({"median": 2.0, "min": 1.0, "max": 3000.0})
    '2 [1, 3,000]'
    """
    return f"{one['median']:,g} [{one['min']:,g}, {one['max']:,g}]"
