"""Bad input on purpose: packed from the corpus, refused for the stated reason."""

import tomllib

import pytest
from pack_poison import CORPUS, TABLE, table

from streamrec.event import Event, Record
from streamrec.eventlog.base import Codec
from streamrec.eventlog.codec import CsvCodec, JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.poison import KINDS, Kind, bad_kinds, poison
from streamrec.eventlog.reasons import REASONS, SKIPPED, bin_of

OF_TABLES = {"csv_columns", "csv_quotes"}


def codec_of(kind: Kind) -> Codec:
    return CsvCodec(kind.header.encode(), FieldNames()) if kind.header else JsonCodec(FieldNames())


def test_the_table_is_packed_from_the_corpus() -> None:
    hint = "run: .venv/bin/python tests/produce/pack_poison.py"
    assert TABLE.read_text(encoding="utf-8") == table(), hint


def test_every_kind_of_the_corpus_is_there_with_its_bin_and_reason() -> None:
    corpus = tomllib.loads(CORPUS.read_text(encoding="utf-8"))["kind"]
    assert [(k["name"], k["bin"], k["reason"]) for k in corpus] == [
        (kind.name, kind.bin, kind.reason) for kind in KINDS.values()
    ]


@pytest.mark.parametrize("seed", [0, 1, 123_456])
@pytest.mark.parametrize("name", KINDS)
def test_the_codec_gives_the_stated_bin_and_reason_whatever_the_seed(name: str, seed: int) -> None:
    kind = KINDS[name]
    read = codec_of(kind).decode(Record("t", 0, 0, poison(name, seed)))
    got = ("ok", "") if isinstance(read, Event) else (bin_of(read.reason), read.reason)
    assert got == (kind.bin, kind.reason)


def test_every_reason_that_a_producer_can_provoke_has_a_kind() -> None:
    provoked = {KINDS[name].reason for name in bad_kinds(1 << 24, False)}
    assert provoked == {*REASONS, *SKIPPED} - OF_TABLES


def test_sizes_are_those_of_the_bytes() -> None:
    assert all(kind.size == len(poison(name) or b"") for name, kind in KINDS.items())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        poison("no such kind")


def test_kinds_for_lines_have_a_value_and_no_line_end() -> None:
    lines = bad_kinds(1 << 24, True)
    assert set(bad_kinds(1 << 24, False)) - set(lines) == {"tombstone"}
    assert not any(b"\n" in (poison(name) or b"") for name in lines)
