"""The fixed set of reasons for which a record does not become an event.

A reason is a label of a metric and a field of a dead letter, so there are at most 30 and none is
ever renamed. `tests/corpus/kinds.toml` has at least one record for each.
"""

from types import MappingProxyType
from typing import Final

REASONS: Final = MappingProxyType(
    {
        "tombstone": "the record has no value (a deletion marker of a compacted topic)",
        "too_large": "the value is longer than 1 MiB",
        "compressed": "the value is gzip, zstd or lz4 data that no header announces",
        "schema_registry": "the value starts with the magic byte 0 of a schema registry (Avro, Protobuf)",
        "not_utf8": "the value is not UTF-8 text",
        "not_json": "the value is not one complete JSON document (NaN and lone surrogates are not JSON)",
        "not_an_object": "the JSON document is an array, a number, a text or null",
        "too_deep": "the JSON document is nested more than 64 deep",
        "schema_version": "field v is there and is not 1",
        "csv_columns": "the line has more or fewer columns than the header",
        "csv_quotes": "a quoted field does not end on its line, or text follows its closing quote",
        "missing_user": "no user field, or it is null",
        "missing_mark": "no mark field, or it is null",
        "missing_time": "no time field, or it is null or empty",
        "user_type": "the user is neither text nor an integer",
        "mark_type": "the mark is neither text nor an integer",
        "time_type": "the time is neither a number nor text",
        "id_type": "the id is neither text nor an integer",
        "empty_user": "the user is the empty text",
        "empty_mark": "the mark is the empty text",
        "id_too_long": "user, mark or id is longer than 4 KiB in UTF-8",
        "nul_byte": "user, mark or id contains the character NUL",
        "time_unreadable": "the time is text but neither a number nor an RFC 3339 time",
        "time_not_finite": "the time is NaN or infinite",
        "time_negative": "the time is before 1970",
        "time_out_of_range": "the time is after the year 9999 (often: milliseconds read as seconds)",
    }
)
"""Dead-letter reasons with one line of explanation each."""

SKIPPED: Final = MappingProxyType({"blank_line": "the line or value is empty or only white space"})
"""Causes for which a record is counted and stepped over, without a dead letter."""


def bin_of(reason: str) -> str:
    """Bin in which a rejected record ends.

    Examples
    --------
    >>> bin_of("not_json"), bin_of("blank_line")
    ('dead_letter', 'skipped')
    """
    return "skipped" if reason in SKIPPED else "dead_letter"
