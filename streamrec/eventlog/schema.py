"""The public schema of an event, in pydantic, and the slow decoder that it gives.

`EventSchema.model_json_schema()` is what producers may build against. The hot path (`codec.py`) reads the
same records without it; a test holds both against one corpus.
"""

from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import from_json

from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.codec import JsonCodec, is_deep, read_text
from streamrec.eventlog.fields import RECOGNISED, FieldNames, check


class EventSchema(BaseModel):
    """One event as a JSON object; unknown fields are ignored and null is the same as absent.

    Examples
    --------
    >>> EventSchema.model_validate_json('{"user": "u1", "mark": "m7", "time": 3.5, "colour": "red"}').mark
    'm7'
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    user: str | int = Field(
        validation_alias=AliasChoices(*RECOGNISED["user"]),
        description="Whose sequence the event belongs to; 1 to 4,096 bytes of UTF-8.",
    )
    mark: str | int = Field(
        validation_alias=AliasChoices(*RECOGNISED["mark"]),
        description="What happened: event type or item; 1 to 4,096 bytes of UTF-8.",
    )
    time: float | int | str = Field(
        validation_alias=AliasChoices(*RECOGNISED["time"]),
        description="When: seconds since the epoch (UTC), as a number or text, or RFC 3339 text.",
    )
    id: str | int | None = Field(None, description="Names the event, so that a second copy is recognised.")
    value: Any = Field(None, description="A finite number that goes with the event; anything else is none.")
    v: int = Field(1, ge=1, le=1, description="Version of this schema.")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None}


def decode_with_schema(record: Record) -> Event | Reject:
    """Read one record through the public schema; `JsonCodec` with recognised names does the same, faster.

    Examples
    --------
    >>> decode_with_schema(Record("clicks", 0, 7, b'{"user": "u1", "mark": "m7"}')).reason
    'missing_time'
    """
    text = read_text(record.value)
    if isinstance(text, Reject):
        return text
    try:
        row = None if is_deep(text) else EventSchema.model_validate(from_json(text, allow_inf_nan=False))
    except ValueError:  # pydantic's ValidationError is one
        row = None
    if row is None:
        return _reason(record)
    return check(record, row.user, row.mark, row.time, row.id, row.value, 1.0)


def _reason(record: Record) -> Reject:
    read = JsonCodec(FieldNames()).explain(record)
    return read if isinstance(read, Reject) else Reject("not_json", "the public schema refuses it")
