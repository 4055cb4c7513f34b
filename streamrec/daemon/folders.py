"""Which lanes a state folder holds.

STATE/lane.sqlite              one lane: the state's folder is the lane's own
STATE/lane-0, STATE/lane-1     several
"""

import re
from collections.abc import Sequence
from pathlib import Path

from streamrec.daemon.gaps import recreated
from streamrec.daemon.layout import Layout, layout_of
from streamrec.errors import ConfigError, StateError
from streamrec.eventlog.clients import Cluster

MANY = re.compile(r"lane-(\d+)")


def lane_folders(state: Path) -> dict[int, Path]:
    """Folders of the lanes in a state folder, by number; a folder of one lane may be a lane of several.

    Raises
    ------
    StateError
        If there is no state, or both kinds of it.
    """
    many = _many(state)
    if not _is_lane(state):
        if not many:
            raise StateError(f"{state}: holds no state; name the folder that was given to --state")
        return many
    if many:
        raise StateError(
            f"{state}: holds a state of one lane and {', '.join(p.name for p in many.values())}; one of them "
            "is a mistake: move it away"
        )
    own = MANY.fullmatch(state.resolve().name)
    return {int(own[1]) if own else 0: state}


def refuse_other_lanes(state: Path, lanes: int) -> None:
    """Make sure that a state folder is not one of another number of lanes, which would begin anew beside it.

    Raises
    ------
    StateError
        If it is.
    """
    many = list(_many(state))
    if (lanes > 1 and _is_lane(state)) or (many and (lanes == 1 or max(many) >= lanes)):
        made_with = "one lane" if _is_lane(state) else f"lanes up to number {max(many)}"
        raise StateError(
            f"{state}: holds {made_with}, but kafka.lanes is {lanes}; set it back, or make the state anew "
            "with streamrec state repartition"
        )


def refuse_other_topics(kept: Layout | None, topics: Sequence[str], cluster: Cluster) -> None:
    """Make sure that topics are those that a lane has read.

    Raises
    ------
    ConfigError
        If they have other names.
    StateError
        If one was made anew under its old name.
    BrokerError
        If one is not there, or the cluster does not answer.
    """
    if kept is None:
        return
    if set(kept.topics) != set(topics):
        named = " ".join(f"kafka://{topic}" for topic in kept.topics)
        raise ConfigError(f"kafka://{topics[0]}: the state was made from other topics; name {named}")
    now = layout_of(kept.lanes, cluster.places(topics), cluster.topic_ids(topics))
    anew = recreated(kept, now)
    if anew:
        raise StateError(
            f"{', '.join(anew)}: not comparable, the topic was made anew since it was read (its id was "
            f"{kept.topics[anew[0]].id}, now it is {now.topics[anew[0]].id})"
        )


def _is_lane(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("lane.sqlite", "lane.epoch"))


def _many(state: Path) -> dict[int, Path]:
    found = ((MANY.fullmatch(path.name), path) for path in state.glob("lane-*") if path.is_dir())
    return {int(name[1]): path for name, path in sorted(found, key=_number) if name and _is_lane(path)}


def _number(found: "tuple[re.Match[str] | None, Path]") -> int:
    name, _ = found
    return int(name[1]) if name else -1
