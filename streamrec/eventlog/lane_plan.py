"""Which member of a group gets which lanes: whole lanes, evenly, and as few as possible of them move.

    lane of a partition   p mod n, the same in every topic
    share of a member     L lanes over M members: L // M each, and one more for L % M of them
    who owns a lane       of those who say so, the one with the highest generation
    who keeps             a member keeps its lanes up to its share; the bigger shares go to those who own most
    two rounds            a lane that somebody else still owns is given to nobody; its owner lets go of it,
                          and the next round gives it away

L counts lanes that have a partition. With one lane all members but one get nothing: they stand by. The plan
is a function of its arguments alone, so that every leader makes the same.

Source: sticky and cooperative assignment of Apache Kafka (KIP-54, KIP-429); departure: what moves is a lane.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streamrec.eventlog.base import Place


class Claim(NamedTuple):
    """What a member says about itself.

    Parameters
    ----------
    name : the static name of the member if it has one, else its id in the group
    owned : places that it holds
    generation : of the group, in which it was given them
    """

    name: str
    owned: tuple[Place, ...] = ()
    generation: int = -1


def plan(
    places: Sequence[Place],
    lanes: int,
    claims: Sequence[Claim],
    cooperative: bool = True,
    before: Mapping[int, str] | None = None,
) -> dict[str, list[Place]]:
    """Places of every member, by name.

    Parameters
    ----------
    places : all partitions of all topics
    lanes : number of lanes
    claims : all members, each name once
    cooperative : a lane that moves is first taken, and given in a later round
    before : lane -> name of the member that had it, for members that come back with nothing

    Examples
    --------
    >>> places = [("clicks", 0), ("clicks", 1), ("views", 0), ("views", 1)]
    >>> plan(places, 2, [Claim("b"), Claim("a")])
    {'b': [('clicks', 1), ('views', 1)], 'a': [('clicks', 0), ('views', 0)]}
    >>> alone = Claim("b", tuple(places), generation=3)
    >>> plan(places, 2, [alone, Claim("a")])  # first round: b lets go of a lane
    {'b': [('clicks', 0), ('views', 0)], 'a': []}
    """
    present = sorted({partition % lanes for _, partition in places})
    owners = _owners(claims, lanes)
    given = _shared_out(present, sorted(claim.name for claim in claims), {**_back(before, claims), **owners})
    out: dict[str, list[Place]] = {claim.name: [] for claim in claims}
    for place in sorted(places):
        lane = place[1] % lanes
        if not cooperative or owners.get(lane, given[lane]) == given[lane]:
            out[given[lane]].append(place)
    return out


def _owners(claims: Sequence[Claim], lanes: int) -> dict[int, str]:
    """Lane -> the member that owns it."""
    owners: dict[int, str] = {}
    for claim in sorted(claims, key=lambda claim: (claim.generation, claim.name)):
        owners.update({partition % lanes: claim.name for _, partition in claim.owned})
    return owners


def _back(before: Mapping[int, str] | None, claims: Sequence[Claim]) -> dict[int, str]:
    """Lanes of members that are there again, but own nothing."""
    empty = {claim.name for claim in claims if not claim.owned}
    return {lane: name for lane, name in (before or {}).items() if name in empty}


def _shared_out(present: Sequence[int], names: Sequence[str], owners: Mapping[int, str]) -> dict[int, str]:
    """Lane -> the member that shall have it."""
    held = {name: [lane for lane in present if owners.get(lane) == name] for name in names}
    share, bigger = divmod(len(present), max(len(names), 1))
    by_holding = sorted(names, key=lambda name: -len(held[name]))
    room = {name: share + (i < bigger) for i, name in enumerate(by_holding)}
    given = {lane: name for name in names for lane in held[name][: room[name]]}
    free = [name for name in names for _ in range(room[name] - min(room[name], len(held[name])))]
    return given | dict(
        zip([lane for lane in present if lane not in given], _in_turns(free), strict=bool(names))
    )


def _in_turns(names: Sequence[str]) -> list[str]:
    """Names of which some come several times, so that all have one turn before anybody has a second."""
    turns = [names[:i].count(name) for i, name in enumerate(names)]
    return [name for _, name in sorted(zip(turns, names, strict=True))]
