"""Every kind of record in the corpus ends in its bin for its reason, whichever decoder reads it."""

import tomllib
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec, Reject
from streamrec.eventlog.codec import CsvCodec, JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.reasons import REASONS, SKIPPED, bin_of
from streamrec.eventlog.schema import decode_with_schema

Kind = dict[str, Any]
KINDS: list[Kind] = tomllib.loads((Path(__file__).parent.parent / "corpus" / "kinds.toml").read_text())[
    "kind"
]
JSON_KINDS = [kind for kind in KINDS if "header" not in kind]


def record_of(kind: Kind) -> Record:
    if "none" in kind:
        value = None
    elif "text" in kind:
        value = kind["text"].encode()
    elif "base64" in kind:
        value = b64decode(kind["base64"])
    else:
        value = b"".join(text.encode() * times for text, times in kind["parts"])
    return Record("corpus", 3, 17, value)


def codec_of(kind: Kind) -> Codec:
    fields = FieldNames()
    return CsvCodec(kind["header"].encode(), fields) if "header" in kind else JsonCodec(fields)


def bin_and_reason(read: Event | Reject) -> tuple[str, str]:
    return (bin_of(read.reason), read.reason) if isinstance(read, Reject) else ("ok", "")


def name_of(kind: Kind) -> str:
    return str(kind["name"])


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_kind_ends_in_its_bin_for_its_reason(kind: Kind) -> None:
    read = codec_of(kind).decode(record_of(kind))
    assert bin_and_reason(read) == (kind["bin"], kind["reason"])
    if "event" in kind:
        assert isinstance(read, Event)
        assert [read.user, read.mark, read.time] == kind["event"]
        assert (read.partition, read.offset) == (3, 17)


@pytest.mark.parametrize("kind", JSON_KINDS, ids=name_of)
def test_the_public_schema_says_the_same(kind: Kind) -> None:
    assert decode_with_schema(record_of(kind)) == JsonCodec(FieldNames()).decode(record_of(kind))


@pytest.mark.parametrize("kind", JSON_KINDS, ids=name_of)
def test_the_shortcut_says_what_the_definition_says(kind: Kind) -> None:
    codec = JsonCodec(FieldNames())
    assert codec.decode(record_of(kind)) == codec.explain(record_of(kind))


@pytest.mark.parametrize("kind", JSON_KINDS, ids=name_of)
def test_what_a_record_means_does_not_depend_on_the_depth_of_the_stack(kind: Kind) -> None:
    codec, record = JsonCodec(FieldNames()), record_of(kind)

    def below(levels: int) -> Event | Reject:
        return below(levels - 1) if levels else codec.decode(record)

    assert below(600) == codec.decode(record)


def test_every_reason_has_a_kind_and_every_kind_a_known_reason() -> None:
    assert {kind["reason"] for kind in KINDS} - {""} == {*REASONS, *SKIPPED}


def test_reasons_are_few_enough_to_be_labels() -> None:
    assert len(REASONS) + len(SKIPPED) <= 30


def test_names_of_kinds_are_unique() -> None:
    assert len({kind["name"] for kind in KINDS}) == len(KINDS)
