"""What a model is to the rest of the program, and the registry that finds it by name.

A model is stepped through the stream cut by cut:

    walk(batch)    for every set in order: forecast it from its past only, let the row go on, and issue
                   the forecast of the next; count models learn the set in between, event by event
    learn(batch)   once per cut, after all forecasts of the cut are issued; the only place where the
                   weights of a torch model change

`walk` answers with forecasts at arrival (before the set is learned) and with issued ones (after it).
`forecast` answers the same question for rows as they stand and changes no bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple, Protocol, runtime_checkable

from streamrec.arrays import Array, Floats, Ints
from streamrec.batch import Batch, MarkLists
from streamrec.errors import ConfigError
from streamrec.state.columns import Columns


class Law(Protocol):
    """A family of waiting-time distributions; parameters are rows of `width` float64 numbers.

    Every method is pure and vectorised: `params` (N, width) with `s` (N,) or (N, T) seconds since the
    user's last event, and answers in the shape of `s`. `quantile` takes u in (0, 1) likewise and
    gives inf where u is not reached (the defect).
    """

    width: int

    def log_survival(self, params: Floats, s: Floats) -> Floats:
        """ln P(no event within s)."""
        ...

    def log_hazard(self, params: Floats, s: Floats) -> Floats:
        """ln of the event rate (1/s) at s, given none before."""
        ...

    def compensator(self, params: Floats, a: Floats, b: Floats) -> Floats:
        """∫ of the hazard over [a, b], without cancellation when b - a is small."""
        ...

    def quantile(self, params: Floats, u: Floats) -> Floats:
        """Time by which the event has come with probability u; inf where it never does."""
        ...

    def log_defect(self, params: Floats) -> Floats:
        """ln P(the event never comes), (N,); -inf for a proper distribution."""
        ...


class Walk(NamedTuple):
    """A model's answers for the S sets of a cut; None where the model has nothing to say.

    Parameters
    ----------
    marks_arrival : S forecasts of the sets' marks given that the event happens now
    marks_issued : S forecasts of the user's next marks, as they stood just after each set
    wait_issued : (S, law.width) parameters of the time to the user's next set, frozen after each set
    wait_arrival : (S, law.width) the same question asked at arrival, just before the set is learned,
        with everything learned until then (a leak canary compares it with what was issued)
    """

    marks_arrival: MarkLists | None = None
    marks_issued: MarkLists | None = None
    wait_issued: Floats | None = None
    wait_arrival: Floats | None = None


@runtime_checkable
class Stateful(Protocol):
    """Anything that the checkpoint keeps."""

    def tables(self) -> Mapping[str, Columns]:
        """Large state by name; rows changed since the last checkpoint carry the touched flag."""
        ...

    def scalars(self) -> Mapping[str, Array]:
        """Small state by name, copied whole at every checkpoint (weights, counters, generator keys)."""
        ...

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        ...


class Model(Stateful, Protocol):
    """One expert; state in the arena's columns named `<name>.*`, in its own tables and scalars."""

    name: str
    gives_marks: bool
    law: Law | None

    def walk(self, batch: Batch) -> Walk:
        """Forecast every set of the cut in order, let rows go on, issue; count models learn here."""
        ...

    def learn(self, batch: Batch) -> None:
        """Learn the cut once, after everything was issued; count models have nothing left to do."""
        ...

    def remap_marks(self, new_id: Ints) -> None:
        """Marks were evicted: mark i is now `new_id[i]`, or gone where that is -1."""
        ...


class Context(NamedTuple):
    """What a model needs to be built, beside its own settings.

    `arena` holds the user rows, `risk` the queue of waiting users (`streamrec.waiting.risk`), and
    `n_backgrounds` is B, the number of members of the popularity bank.
    """

    name: str
    arena: Any
    n_backgrounds: int
    seed: int
    risk: Any = None


@dataclass(frozen=True)
class Entry:
    """One line of the registry: where the model's class is, and what kind of expert it is.

    `naive` models stand beside the mixture in every table and never enter it.
    """

    module: str
    cls: str
    naive: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def build(self, context: Context) -> Model:
        """Import the module and construct the model."""
        make: Callable[..., Model] = getattr(import_module(self.module), self.cls)
        return make(context, **self.settings)


REGISTRY: dict[str, Entry] = {}
"""Models by name; `register` adds one, `streamrec.models.bank` holds the lines."""


def register(name: str, entry: Entry) -> None:
    """Add a model under a name that is free."""
    if name in REGISTRY:
        raise ConfigError(f"model {name}: the name is taken by {REGISTRY[name].module}.{REGISTRY[name].cls}")
    REGISTRY[name] = entry


def build(name: str, context: Context) -> Model:
    """Build a registered model.

    Raises
    ------
    ConfigError
        If no model has that name; the message lists those that exist.
    """
    if name not in REGISTRY:
        raise ConfigError(f"model {name}: not known; choose among {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name].build(context)
