"""Codecs: names of fields, units of time, and two decoders that never disagree."""

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Reject
from streamrec.eventlog.codec import CsvCodec, JsonCodec, depth
from streamrec.eventlog.fields import LEAST_TIME_S, MAX_TIME, FieldNames, join_parts, read_time
from streamrec.eventlog.memory import encode_event
from streamrec.eventlog.reasons import REASONS, SKIPPED
from streamrec.eventlog.schema import EventSchema, decode_with_schema

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def record(value: bytes | str) -> Record:
    return Record("t", 0, 0, value.encode() if isinstance(value, str) else value)


def read(codec: Codec, value: bytes | str) -> Event:
    event = codec.decode(record(value))
    assert isinstance(event, Event), event
    return event


def reason(codec: Codec, value: bytes | str) -> str:
    reject = codec.decode(record(value))
    assert isinstance(reject, Reject), reject
    return reject.reason


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
times = st.just(0.0) | st.floats(LEAST_TIME_S, MAX_TIME, exclude_max=True)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("2020-01-01")
)
names = st.sampled_from(
    ["user", "user_id", "key", "mark", "item_id", "type", "time", "timestamp", "id", "value", "v", "x"]
)


@unhurried
@given(texts, texts, times, st.none() | texts, st.none() | st.floats(allow_nan=False, allow_infinity=False))
def test_json_gives_back_every_event_to_the_bit(
    user: str, mark: str, time: float, id: str | None, value: float | None
) -> None:
    event = Event(user, mark, time, id, 0, 0, value)
    assert read(JsonCodec(FieldNames()), encode_event(event)) == event


@unhurried
@given(texts.filter(lambda t: "\n" not in t and "\r" not in t and not t.isspace()), texts, times)
def test_a_table_gives_back_every_event_to_the_bit(user: str, mark: str, time: float) -> None:
    if "\n" in mark or "\r" in mark:
        mark = "m"
    quoted = ['"' + text.replace('"', '""') + '"' for text in (user, mark)]
    codec = CsvCodec(b"user,mark,time", FieldNames())
    assert read(codec, f"{quoted[0]},{quoted[1]},{time!r}")[:3] == (user, mark, time)


@settings(unhurried, max_examples=400)
@given(
    st.dictionaries(
        names, scalars | st.lists(scalars, max_size=2) | st.dictionaries(names, scalars, max_size=2)
    )
)
def test_shortcut_definition_and_public_schema_agree_on_any_object(tree: dict[str, Any]) -> None:
    codec, one = JsonCodec(FieldNames()), record(json.dumps(tree))
    assert codec.decode(one) == codec.explain(one) == decode_with_schema(one)


@settings(unhurried, max_examples=300)
@given(st.binary(max_size=30) | st.text('{}[]":,u\\ser1maktie.-', max_size=30).map(str.encode))
def test_any_bytes_end_in_an_event_or_a_known_reason(value: bytes) -> None:
    csv = CsvCodec(b"user,mark,time", FieldNames())
    json_read = JsonCodec(FieldNames()).decode(record(value))
    assert json_read == decode_with_schema(record(value))
    for found in (json_read, csv.decode(record(value))):
        assert isinstance(found, Event) or found.reason in {*REASONS, *SKIPPED}


def test_decoding_many_is_decoding_each_in_order() -> None:
    records = [record(f'{{"user":{i},"mark":"m","time":{i - 5}}}') for i in range(10)]
    codec = JsonCodec(FieldNames())
    assert codec.decode_many(records) == [codec.decode(one) for one in records]


def test_dotted_names_step_into_objects() -> None:
    codec = JsonCodec(FieldNames(user="who.id", mark="what", time="meta.at"))
    assert read(codec, '{"who":{"id":7},"what":"m","meta":{"at":1.5}}')[:3] == ("7", "m", 1.5)
    assert reason(codec, '{"who":7,"what":"m","meta":{"at":1.5}}') == "missing_user"
    assert reason(codec, '{"who":{"id":{}},"what":"m","meta":{"at":1.5}}') == "user_type"


def test_several_marks_are_joined_in_json_and_tables_alike() -> None:
    fields = FieldNames(mark="place,what")
    table = CsvCodec(b"user,place,what,time", fields)
    assert read(JsonCodec(fields), '{"user":"u","place":3,"what":"p","time":1}').mark == "3|p"
    assert read(table, "u,3,p,1").mark == "3|p"
    assert reason(JsonCodec(fields), '{"user":"u","place":3,"time":1}') == "missing_mark"
    assert reason(JsonCodec(fields), '{"user":"u","place":3,"what":[],"time":1}') == "mark_type"


@unhurried
@given(
    st.lists(st.text("a|\\", max_size=4), min_size=2, max_size=2),
    st.lists(st.text("a|\\", max_size=4), min_size=2, max_size=2),
)
def test_different_parts_never_join_to_one_mark(a: list[str], b: list[str]) -> None:
    assert (join_parts(a) == join_parts(b)) == (a == b)


def test_a_name_that_was_given_is_not_recognised_for_another_role() -> None:
    fields = FieldNames(user="id")
    event = read(JsonCodec(fields), '{"id":"u","mark":"m","time":1}')
    assert (event.user, event.id) == ("u", None)
    assert read(CsvCodec(b"id,mark,time", fields), "u,m,1").id is None


def test_a_version_field_that_holds_the_mark_is_not_a_version() -> None:
    assert read(JsonCodec(FieldNames(mark="v")), '{"user":"u","v":9,"time":1}').mark == "9"


def test_a_given_name_is_the_only_one_looked_for() -> None:
    assert reason(JsonCodec(FieldNames(user="uid")), '{"user":"u","mark":"m","time":1}') == "missing_user"


@pytest.mark.parametrize(
    ("unit", "raw"), [("s", 1700000000.25), ("ms", 1700000000250), ("us", 1700000000250000)]
)
def test_units_of_time_give_the_same_seconds(unit: str, raw: float) -> None:
    fields = FieldNames(time_unit=unit)
    for event in (
        read(JsonCodec(fields), f'{{"user":"u","mark":"m","time":{raw}}}'),
        read(JsonCodec(fields), f'{{"user":"u","mark":"m","time":"{raw}"}}'),
        read(CsvCodec(b"user,mark,time", fields), f"u,m,{raw}"),
    ):
        assert event.time == 1700000000.25


def test_rfc_3339_text_means_the_same_in_every_unit() -> None:
    for unit in ("s", "ms", "us", "ns"):
        assert read_time("2023-11-14T22:13:20.25Z", FieldNames(time_unit=unit).per_second) == 1700000000.25


def test_nanoseconds_are_read_to_the_nearest_float() -> None:
    seconds = read_time(1700000000123456789, 1e9)
    assert isinstance(seconds, float) and math.isclose(seconds, 1700000000.1234567, abs_tol=5e-7)


def test_minus_zero_is_zero_to_the_bit() -> None:
    seconds = read_time(-0.0, 1.0)
    assert isinstance(seconds, float) and math.copysign(1.0, seconds) == 1.0


@pytest.mark.parametrize(
    "wrong", [{"time_unit": "hours"}, {"mark": "a,,b"}, {"user": "a..b"}, {"time": ","}], ids=str
)
def test_names_that_cannot_be_meant_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        FieldNames(**wrong)


def test_a_header_that_is_not_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="header line cannot be read"):
        CsvCodec(b"user,mark,\xff", FieldNames(), "a.csv")


def test_brackets_in_text_are_not_depth() -> None:
    assert depth('["\\"[[[", {"a": "]"}]') == 2


def test_the_public_schema_names_what_is_required() -> None:
    schema = EventSchema.model_json_schema(by_alias=False)
    assert schema["required"] == ["user", "mark", "time"]
    assert all("description" in entry for entry in schema["properties"].values())


def test_codecs_keep_the_protocol() -> None:
    assert isinstance(JsonCodec(FieldNames()), Codec)
    assert isinstance(CsvCodec(b"user,mark,time", FieldNames()), Codec)


@given(st.floats(0, LEAST_TIME_S, exclude_max=True))
def test_a_time_below_a_nanosecond_is_the_epoch(time: float) -> None:
    assert read_time(time, 1.0) == 0.0
