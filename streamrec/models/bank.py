"""The lines of the registry: every model of streamrec by name, and what runs by default.

To add a model: write one file in this folder and one line here; the conformance suite picks it up.
"""

from streamrec.models.base import REGISTRY, Entry, register
from streamrec.settings import ModelsSettings

_FOLDER = "streamrec.models."

_LINES: dict[str, Entry] = {
    "context_1": Entry(_FOLDER + "contexts", "suffix_model", settings={"order": 1}),
    "context_2": Entry(_FOLDER + "contexts", "suffix_model", settings={"order": 2}),
    "context_3": Entry(_FOLDER + "contexts", "suffix_model", settings={"order": 3}),
    "context_gap": Entry(_FOLDER + "contexts", "gap_model"),
    "context_repeat": Entry(_FOLDER + "contexts", "repeat_model"),
    "gamma_poisson": Entry(_FOLDER + "gamma_poisson", "GammaPoisson"),
    "log_normal": Entry(_FOLDER + "log_normal", "LogNormal"),
    "hawkes_1s": Entry(_FOLDER + "hawkes", "Hawkes", settings={"decay_s": 1.0}),
    "hawkes_1m": Entry(_FOLDER + "hawkes", "Hawkes", settings={"decay_s": 60.0}),
    "hawkes_1h": Entry(_FOLDER + "hawkes", "Hawkes", settings={"decay_s": 3600.0}),
    "hawkes_2d": Entry(_FOLDER + "hawkes", "Hawkes", settings={"decay_s": 172_800.0}),
    "recurrent": Entry(_FOLDER + "recurrent", "Recurrent"),
    "most_popular": Entry(_FOLDER + "most_popular", "MostPopular", naive=True),
    "recent_popular": Entry(_FOLDER + "most_popular", "RecentPopular", naive=True),
    "repeat_last": Entry(_FOLDER + "repeat_last", "RepeatLast", naive=True),
    "markov": Entry(_FOLDER + "markov", "Markov", naive=True),
    "poisson": Entry(_FOLDER + "poisson", "Poisson", naive=True),
    "constant_gap": Entry(_FOLDER + "constant_gap", "ConstantGap", naive=True),
}

for _name, _entry in _LINES.items():
    register(_name, _entry)

DEFAULT_BANK = tuple(name for name, entry in _LINES.items() if not entry.naive)
"""Experts of the mixture, beside the members of the popularity bank."""

NAIVE = (*(name for name, entry in _LINES.items() if entry.naive), "gamma_poisson")
"""Rules that stand beside the mixture in every table; the last one is an expert as well."""


def chosen(settings: ModelsSettings) -> tuple[str, ...]:
    """Names of the experts that run under these settings, in the order of the registry.

    Examples
    --------
    >>> chosen(ModelsSettings(enabled=("recurrent", "context_1")))
    ('context_1', 'recurrent')
    """
    if settings.enabled is None:
        return DEFAULT_BANK
    wanted = set(settings.enabled)
    return (*(n for n in REGISTRY if n in wanted), *sorted(wanted - set(REGISTRY)))
