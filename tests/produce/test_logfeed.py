"""A log as messages: its own bytes where they say the same, the event as JSON where they do not."""

import zlib

import msgspec
import pytest

from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import open_files
from streamrec.produce.logfeed import MAX_VALUE_BYTES, LogFeed, stamp_of

OURS = b'{"user": "u1", "mark": "m1", "time": 1.5, "colour": "red"}'
OTHER = b'{"uid": "u2", "mark": "m2", "time": 2000}'


def feed_of(tmp_path, name, lines, fields=None, **more):
    path = tmp_path / name
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return LogFeed(open_files([str(path)], fields or FieldNames()), "clicks", 3, **more)


def all_lines(feed, most=1000):
    out, stamp = [], 1
    while lines := feed.lines(most, stamp):
        out += lines
        stamp = lines[-1].stamp_ms
    return out


def test_a_line_that_needs_no_settings_keeps_its_bytes(tmp_path):
    (line,) = all_lines(feed_of(tmp_path, "a.jsonl", [OURS]))
    assert line.message.value == line.raw == OURS
    assert (line.message.key, line.message.timestamp_ms, line.time) == (b"u1", 1500, 1.5)
    assert dict(line.message.headers) == {
        "source-file": str(tmp_path / "a.jsonl").encode(),
        "source-line": b"1",
    }


def test_a_line_that_needs_settings_is_sent_as_an_event_that_needs_none(tmp_path):
    fields = FieldNames(user="uid", time_unit="ms")
    (line,) = all_lines(feed_of(tmp_path, "a.jsonl", [OTHER], fields))
    assert msgspec.json.decode(line.message.value) == {"user": "u2", "mark": "m2", "time": 2.0}
    assert line.raw == OTHER


def test_a_table_is_sent_as_json_with_the_lines_of_the_file(tmp_path):
    rows = [b"user,mark,time,id,value", b"u1,m1,5,e1,2.5", b"", b"u2,m2,6,e2,"]
    one, blank, two = all_lines(feed_of(tmp_path, "a.csv", rows))
    assert one.message.value == b'{"user":"u1","mark":"m1","time":5.0,"id":"e1","value":2.5}'
    assert [dict(line.message.headers)["source-line"] for line in (one, blank, two)] == [b"2", b"3", b"4"]
    for line, wanted in ((one, "u1"), (two, "u2")):
        read = JsonCodec(FieldNames()).decode(Record("t", 0, 0, line.message.value))
        assert isinstance(read, Event)
        assert read.user == wanted


def test_unsorted_files_are_sent_in_order_of_time_with_the_lines_where_they_stand(tmp_path):
    lines = [b'{"user":"u%d","mark":"m","time":%d}' % (i, 100 - i) for i in range(5)]
    sent = all_lines(feed_of(tmp_path, "a.jsonl", lines), most=2)
    assert [line.raw for line in sent] == lines[::-1]
    assert [dict(line.message.headers)["source-line"] for line in sent] == [b"5", b"4", b"3", b"2", b"1"]


def test_bad_lines_are_kept_as_they_are_without_a_key_stamped_like_their_neighbour(tmp_path):
    feed = feed_of(tmp_path, "a.jsonl", [b"first", OURS, b'{"user":"u","mark":"m","time":-5}', b"", b"x"])
    lines = all_lines(feed)
    assert [line.message.value for line in lines] == [line.raw for line in lines]
    assert [line.message.timestamp_ms for line in lines] == [1, 1500, 1500, 1500, 1500]
    assert [line.message.key for line in lines] == [None, b"u1", None, None, None]
    assert [line.message.partition for line in lines if line.message.key is None] == [0, 2, 0, 1]
    assert feed.counts == {"ok": 1, "not_json": 2, "time_negative": 1, "blank_line": 1}


def test_bad_lines_are_left_out_and_counted_if_so_wished(tmp_path):
    feed = feed_of(tmp_path, "a.jsonl", [b"bad", OURS], keep_bad=False)
    assert [line.message is None for line in all_lines(feed)] == [True, False]
    assert feed.counts == {"ok": 1, "not_json": 1}


def test_what_no_topic_takes_is_sent_short_if_it_is_an_event_and_else_left_out(tmp_path):
    long = b'{"user":"u","mark":"m","time":7,"x":"%s"}' % (b"x" * MAX_VALUE_BYTES)
    feed = feed_of(tmp_path, "a.jsonl", [b"x" * (MAX_VALUE_BYTES + 1), long])
    bad, good = all_lines(feed)
    assert bad.message is None
    assert good.message.value == b'{"user":"u","mark":"m","time":7.0}'
    assert feed.counts == {"ok": 1, "oversize": 1}


@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_a_log_is_gone_on_with_where_it_was_left(tmp_path, cut):
    lines = [b'{"user":"u%d","mark":"m","time":%d}' % (i % 3, i) for i in range(20)]
    whole = all_lines(feed_of(tmp_path, "a.jsonl", lines))
    feed = feed_of(tmp_path, "a.jsonl", lines)
    assert feed.pass_over(cut) == zlib.crc32(b"".join(lines[:cut]))
    assert all_lines(feed) == whole[cut:]


def test_a_log_that_is_shorter_than_what_was_sent_is_refused(tmp_path):
    with pytest.raises(StateError, match="has 2 lines, but 3 were sent"):
        feed_of(tmp_path, "a.jsonl", [OURS, OURS]).pass_over(3)


def test_a_user_stays_in_one_partition_and_users_spread(tmp_path):
    lines = [b'{"user":"u%d","mark":"m","time":%d}' % (i % 20, i) for i in range(200)]
    places = {}
    for line in all_lines(feed_of(tmp_path, "a.jsonl", lines)):
        places.setdefault(line.message.key, set()).add(line.message.partition)
    assert {len(place) for place in places.values()} == {1}
    assert set.union(*places.values()) == {0, 1, 2}


def test_a_stamp_is_never_ahead_of_its_event_and_fits_where_events_do():
    assert stamp_of(0.0) == 1
    assert stamp_of(1.9999) == 1999
    assert stamp_of(253402300799.0) == 253402300799000
