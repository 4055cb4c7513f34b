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

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.config import JsonDict

from streamrec.errors import ConfigError

ENV_PREFIX = "STREAMREC_"
_NOT_SETTINGS = {"STREAMREC_FAILPOINT", "STREAMREC_DATA", "STREAMREC_KAFKA_BOOTSTRAP"}

SHAPES: JsonDict = {"shapes_state": True}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """A list may be given as text, its parts joined by a comma."""
        if not isinstance(given, dict):
            return given  # a section as it is, or what is refused next
        lists = {name for name, field in cls.model_fields.items() if "tuple" in str(field.annotation)}
        return given | {k: v.split(",") for k, v in given.items() if k in lists and isinstance(v, str)}


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
    max_skew_s: float = Field(
        60.0, ge=0, description="Time that an event may be ahead of its record's broker time in the eyes of "
        "the watermark; looked at with a lateness only.", json_schema_extra=SHAPES,
    )  # fmt: skip
    ties: Literal["set", "file-order"] = Field(
        "set", description="set: events of one user and time are forecast together; file-order: one after "
        "the other, only to compare with published figures.", json_schema_extra=SHAPES
    )  # fmt: skip


class CutSettings(_Section):
    """How much is processed in one go."""

    mode: Literal["live", "fixed"] = Field(
        "live", description="Kafka only. live: cuts grow with the lag; fixed: each round takes the same "
        "share of cut_events from every partition and waits for all of them (tests and audits)."
    )  # fmt: skip
    cut_events: int = Field(128, ge=1, le=8192, description="Accepted events after which a cut closes; live "
                            "Kafka cuts follow the lag instead.")  # fmt: skip
    live_min_events: int = Field(64, ge=1, le=8192, description="Smallest full cut of a live topic.")
    live_max_events: int = Field(256, ge=1, le=8192, description="Largest cut of a live topic, when it lags.")
    linger_s: float = Field(0.05, ge=0, description="Longest time that a live cut waits to be full.")
    idle_tick_s: float = Field(
        1.0, gt=0, description="Silence of a partition after which its open tie sets and held events are "
        "released."
    )  # fmt: skip
    poll_events: int = Field(2000, ge=1, description="Most records asked of the source at once; changes no "
                             "result.")  # fmt: skip

    @model_validator(mode="after")
    def _live_sizes_fit(self) -> Self:
        if self.live_min_events > self.live_max_events:
            raise ValueError("live_min_events must be at most live_max_events")
        return self


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
    every_s: float = Field(10.0, gt=0, description="Time between two checkpoints of a live topic that has "
                           "something new.")  # fmt: skip
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


class LogSettings(_Section):
    """What is written to stderr while a log streams by."""

    format: Literal["text", "json"] = Field("text", description="text for people; json: an object per line.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
    users: Literal["hashed", "plain"] = Field("hashed", description="How a user is named in a line.")
    repeats: int = Field(3, ge=1, description="Lines of one kind within 10 s; further ones are counted.")


class KafkaSettings(_Section):
    """How a Kafka cluster is reached, and how the daemon behaves in its group."""

    bootstrap: tuple[str, ...] = Field(("127.0.0.1:9092",), min_length=1, description="host:port of brokers.")
    client: Literal["kafka-python", "confluent"] = Field(
        "kafka-python", description="Client library; confluent is faster, and then lanes are partitions."
    )
    group: str = Field("streamrec", min_length=1, description="Consumer group.")
    group_instance_id: str | None = Field(
        None, description="Name of this member for static membership: a restart within session_timeout_s "
        "causes no rebalance."
    )  # fmt: skip
    rebalance: Literal["cooperative", "eager"] = Field(
        "cooperative", description="Whether members keep the partitions that do not move."
    )
    lanes: int = Field(
        1, ge=1, le=1024, description="Lanes: partition p belongs to lane p mod lanes, and a lane to one "
        "member; with one lane all other members are hot standbys."
    )  # fmt: skip
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a partition begins that the state does not know."
    )
    on_gap: Literal["fail", "skip"] = Field(
        "fail", description="When records are gone from a log before they were read: stop, or skip, count "
        "and go on."
    )  # fmt: skip
    session_timeout_s: float = Field(45.0, gt=0, description="Silence after which a member is given up.")
    heartbeat_s: float = Field(3.0, gt=0, description="Time between two signs of life.")
    max_poll_interval_s: float = Field(300.0, gt=0, description="Most time between two polls.")
    request_timeout_s: float = Field(30.0, gt=0, description="Most time that a request waits for its answer.")
    answer_s: float = Field(
        3.0, gt=0, description="Most time that the loop waits for an answer about topics, offsets and "
        "commits before it goes on with its work and asks again; must be above what an answer usually takes."
    )  # fmt: skip
    unreachable_s: float = Field(
        30.0, gt=0, description="Time without such an answer after which the daemon says that it is degraded."
    )
    revoke_s: float = Field(20.0, gt=0, description="Most time to keep a lane's state when it is given up.")
    max_pending: int = Field(
        20_000, ge=1, description="Forecasts under way to the broker at which reading pauses."
    )
    transactions: bool = Field(
        False, description="Forecasts and offsets become visible together, once per checkpoint: readers with "
        "isolation read_committed see every forecast once."
    )  # fmt: skip
    transactional_id: str | None = Field(
        None, description="Prefix of the transactional ids; the group if not given."
    )
    transaction_timeout_s: float = Field(
        60.0, gt=0, description="Time after which the broker aborts a transaction that was not ended."
    )
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed",
        description="Whether records of unfinished and aborted transactions are passed over.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How the connection is made."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="How we prove who we are."
    )
    sasl_username: str | None = Field(None, description="User name of SASL.")
    sasl_password: SecretStr | None = Field(None, description="Password of SASL; better by environment.")
    sasl_password_file: Path | None = Field(None, description="File that holds the password of SASL.")
    ssl_cafile: Path | None = Field(None, description="Certificates of the authorities that are trusted.")
    ssl_certfile: Path | None = Field(None, description="Our certificate.")
    ssl_keyfile: Path | None = Field(None, description="Our private key.")
    ssl_key_password: SecretStr | None = Field(None, description="Password of our private key.")
    ssl_check_hostname: bool = Field(True, description="Whether the broker's name must fit its certificate.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [text for wrong, text in self._contradictions() if wrong]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        sasl = self.security_protocol.startswith("SASL")
        no_password = self.sasl_password is None and self.sasl_password_file is None
        return [
            (self.heartbeat_s * 3 > self.session_timeout_s,
             "heartbeat_s must be at most session_timeout_s / 3"),
            (sasl and self.sasl_mechanism is None, "sasl_mechanism must be given with SASL"),
            (sasl and (self.sasl_username is None or no_password),
             "sasl_username and sasl_password (or sasl_password_file) must be given with SASL"),
            (self.sasl_password is not None and self.sasl_password_file is not None,
             "sasl_password and sasl_password_file exclude each other"),
            ((self.ssl_certfile is None) != (self.ssl_keyfile is None),
             "ssl_certfile and ssl_keyfile must be given together"),
        ]  # fmt: skip


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
    log: LogSettings = LogSettings()
    kafka: KafkaSettings = KafkaSettings()

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
