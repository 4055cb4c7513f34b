"""The settings tree: a TOML file, then STREAMREC_SECTION__KEY from the environment, then flags.

Settings are frozen; a misspelt name, a NaN or a contradiction is refused at start, and all problems
are listed at once. A field marked `shapes_state` decides what the learned state looks like: a state
directory refuses to be opened with another value of it.
"""

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from streamrec.errors import ConfigError

ENV_PREFIX = "STREAMREC_"
_NOT_SETTINGS = {"STREAMREC_FAILPOINT", "STREAMREC_DATA", "STREAMREC_KAFKA_BOOTSTRAP"}

SHAPES: JsonDict = {"shapes_state": True}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSettings(_Section):
    """How records become events."""

    user_field: str | None = Field(None, description="Name of the user field; found by itself if not given.")
    mark_field: str | None = Field(
        None, description="Name of the mark field; several joined by a comma make one mark."
    )
    time_field: str | None = Field(None, description="Name of the time field; found by itself if not given.")
    id_field: str | None = Field(
        None, description="Name of the event id field; events with an id seen before are duplicates."
    )
    time_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="Unit of numeric times.")


class OrderSettings(_Section):
    """How events are put in order of time."""

    lateness_s: float = Field(
        0.0, ge=0, description="Event time that the watermark stays behind.", json_schema_extra=SHAPES
    )
    max_tie_marks: int = Field(
        128, ge=1, description="Marks after which a tie set closes.", json_schema_extra=SHAPES
    )
    held_events: int = Field(
        100_000, ge=1, description="Most events held back for late ones.", json_schema_extra=SHAPES
    )
    dedupe_events: int = Field(
        100_000, ge=0, description="Event ids remembered per partition.", json_schema_extra=SHAPES
    )
    ties: Literal["set", "file-order"] = Field(
        "set", description="set: events of one user and time are forecast together; file-order: one after "
        "the other, only to compare with published figures.", json_schema_extra=SHAPES
    )  # fmt: skip


class CutSettings(_Section):
    """How much is processed in one go."""

    cut_events: int = Field(128, ge=1, le=8192, description="Accepted events after which a cut closes.")
    poll_events: int = Field(2000, ge=1, description="Most records asked of the source at once; changes no "
                             "result.")  # fmt: skip


class StateSettings(_Section):
    """Caps of what is kept in memory."""

    max_users: int = Field(
        5_000_000,
        ge=16,
        description="Users kept; the least recently active go first.",
        json_schema_extra=SHAPES,
    )
    user_floor: int = Field(
        1_000,
        ge=0,
        description="Most recently active users that are never evicted.",
        json_schema_extra=SHAPES,
    )
    max_marks: int = Field(
        200_000, ge=16, description="Marks kept; the least recently seen go first.", json_schema_extra=SHAPES
    )
    mark_floor: int = Field(
        1_000, ge=0, description="Most recently seen marks that are never evicted.", json_schema_extra=SHAPES
    )

    @model_validator(mode="after")
    def _floors_fit(self) -> Self:
        if self.user_floor > self.max_users // 2 or self.mark_floor > self.max_marks // 2:
            raise ValueError("user_floor and mark_floor must be at most half of max_users and max_marks")
        return self


class CheckpointSettings(_Section):
    """When the state is written, and how much of the past is kept."""

    every_events: int = Field(20_000, ge=1, description="Events between two checkpoints.")
    generation_every: int = Field(10, ge=1, description="Checkpoints between two generations (full copies).")
    generations: int = Field(3, ge=3, description="Generations kept.")


class ModelsSettings(_Section):
    """Which experts run."""

    enabled: tuple[str, ...] | None = Field(
        None,
        description="Names of the experts; all of the default bank if not given.",
        json_schema_extra=SHAPES,
    )
    seed: int = Field(0, ge=0, description="Seed of every random draw.", json_schema_extra=SHAPES)
    max_idle_s: float | None = Field(
        None, gt=0, description="Idle time after which a silent user no longer counts as exposure in learning"
        " (the Hawkes models always count it); none: always counted.",
        json_schema_extra=SHAPES,
    )  # fmt: skip


class ForecastSettings(_Section):
    """What is published for every user."""

    horizon_s: float = Field(
        365 * 86_400.0, gt=0, description="Quantiles and means are of the law given an event within it.",
        json_schema_extra=SHAPES,
    )  # fmt: skip
    within_s: tuple[float, ...] = Field((3600.0, 86_400.0), description="Horizons of `within`.")
    hazard: bool = Field(True, description="Publish the hazard table, by which waiting times can be scored.")
    universe: Literal["open", "known"] = Field(
        "open", description="open: new marks are expected; known: the set of marks is known beforehand, only "
        "to compare with published figures.", json_schema_extra=SHAPES
    )  # fmt: skip


class HttpSettings(_Section):
    """Where metrics and queries are served."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int | None = Field(
        None, ge=0, le=65_535, description="Port, 0 for a free one; none: nothing is served."
    )
    stall_s: float = Field(
        300.0, gt=0, description="Time without a sign of the loop after which it is not alive (/livez)."
    )
    answer_s: float = Field(5.0, gt=0, description="Time that a query waits for the loop's answer.")


class Settings(_Section):
    """Everything that can be set.

    Examples
    --------
    >>> Settings().cut.cut_events
    128
    """

    input: InputSettings = InputSettings()
    order: OrderSettings = OrderSettings()
    cut: CutSettings = CutSettings()
    state: StateSettings = StateSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    models: ModelsSettings = ModelsSettings()
    forecast: ForecastSettings = ForecastSettings()
    http: HttpSettings = HttpSettings()

    def shaping(self) -> dict[str, Any]:
        """The fields that shape the state, by dotted name."""
        return {
            f"{name}.{key}": _plain(getattr(section, key))
            for name, section in self
            for key, field in type(section).model_fields.items()
            if field.json_schema_extra == SHAPES
        }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shaping_fingerprint(settings: Settings) -> str:
    """Hash of the fields that shape the state."""
    return hashlib.sha256(json.dumps(settings.shaping(), sort_keys=True).encode()).hexdigest()[:16]


def load_settings(
    path: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read a TOML file, the environment and flags (dotted names), in rising order of rank.

    Raises
    ------
    ConfigError
        With every problem found, one per line: where, what is wrong, and a name that may be meant.
    """
    tree = _read_toml(path) if path is not None else {}
    for name, value in _from_environment(environ).items():
        _put(tree, name, value)
    for name, value in (flags or {}).items():
        if value is not None:
            _put(tree, name, value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        where = str(path) if path is not None else "settings"
        lines = [f"{where}: {_problem(e['loc'], e['msg'], e['type'])}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    names = sorted(n for n in environ if n.startswith(ENV_PREFIX) and n not in _NOT_SETTINGS and "__" in n)
    return {n[len(ENV_PREFIX) :].lower().replace("__", "."): _value(environ[n]) for n in names}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _problem(loc: tuple[int | str, ...], message: str, kind: str) -> str:
    dotted = ".".join(str(part) for part in loc)
    if kind != "extra_forbidden":
        return f"{dotted}: {message}"
    near = difflib.get_close_matches(dotted, _all_names(), n=1, cutoff=0.5)
    hint = f"; do you mean {near[0]}?" if near else ""
    return f"{dotted}: there is no such setting{hint}"


def _all_names() -> list[str]:
    sections = Settings.model_fields
    names = [f"{s}.{n}" for s in sections for n in type(getattr(Settings(), s)).model_fields]
    return [*sections, *names]
