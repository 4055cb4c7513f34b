"""inspect, verify, forecast and state repartition: what is done with a state folder."""

from pathlib import Path
from typing import Annotated

import typer

from streamrec.commands.options import (
    Against,
    Bootstrap,
    Config,
    Folder,
    MarkField,
    TimeField,
    TimeUnit,
    UserField,
    cluster,
    columns,
)

states = typer.Typer(no_args_is_help=True, help="Work on a whole state folder, while nobody learns into it.")

Lanes = Annotated[int, typer.Option("--lanes", min=1, help="How many lanes it shall have.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder of the new state; else the old one's place.")
]
WhatIsLeft = Annotated[
    bool, typer.Option("--from-what-is-left", help="Go on where topics lost records; counts them.")
]


def inspect(state: Folder) -> None:
    """Say what a state directory holds: events applied, digest, sizes, generations.

    Example: streamrec inspect runs/shop
    """
    from streamrec.verbs import keeping

    keeping.inspect(state)


def verify(
    state: Folder,
    against: Against,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Replay the journal against the log and compare digests, bit for bit.

    Example: streamrec verify runs/shop --against events.csv

    Example: streamrec verify runs/shop --against kafka://clicks
    """
    from streamrec.verbs import keeping

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    keeping.verify(state, against, config, flags)


def forecast(
    state: Annotated[Path, typer.Option("--state", help="Folder of the state.")],
    user: Annotated[str, typer.Option("--user", help="Whose next event.")],
    at: Annotated[float | None, typer.Option("--at", help="Time of asking, s since the epoch.")] = None,
) -> None:
    """Print a user's forecast as JSON, as of its last event or, with --at, given its silence since.

    Example: streamrec forecast --state runs/shop --user u17 --at 1700000000
    """
    from streamrec.verbs import keeping

    keeping.forecast(state, user, at)


@states.command("repartition")
def state_repartition(
    state: Folder,
    lanes: Lanes,
    against: Against,
    output: Output = None,
    what_is_left: WhatIsLeft = False,
    config: Config = None,
    bootstrap: Bootstrap = None,
    user_field: UserField = None,
    mark_field: MarkField = None,
    time_field: TimeField = None,
    time_unit: TimeUnit = None,
) -> None:
    """Make a state anew for another number of lanes, by replaying its topics up to where it stands.

    The old state is kept as STATE.before-LANES. Stop the daemon before, and set kafka.lanes after.

    Example: streamrec state repartition runs/shop --lanes 2 --against kafka://clicks
    """
    from streamrec.repartition import Plan
    from streamrec.verbs import repartitioning

    flags = columns(user_field, mark_field, time_field, time_unit) | cluster(bootstrap)
    plan = Plan(state, lanes, tuple(against), output, what_is_left)
    repartitioning.repartition_state(plan, config, flags)
