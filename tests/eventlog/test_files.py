"""Files and pipes: order, numbers, bytes, and what cannot be read."""

import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrec.errors import ConfigError, DiskError
from streamrec.event import Event, Record
from streamrec.eventlog import lines as lines_module
from streamrec.eventlog import sorting
from streamrec.eventlog.base import Reject
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.files import FileSource, open_files
from streamrec.eventlog.lines import LineCutter, line_lists

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
DATA = Path(__file__).parents[3] / "shared" / "data"
HEADER = b"user,mark,time\n"


def opened(*paths: Path | str, fields: FieldNames | None = None) -> FileSource:
    return open_files([str(path) for path in paths], fields or FieldNames())


def drain(source: FileSource, size: int = 100) -> list[Record]:
    out: list[Record] = []
    while not source.at_end():
        out += source.poll(size)
    return out


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


times = st.one_of(st.integers(0, 5).map(str), st.sampled_from(["", "x", "nan", "-1", "99999999999999"]))


@settings(unhurried, max_examples=40)
@given(st.lists(st.lists(times, max_size=12), min_size=1, max_size=3))
def test_sorting_is_by_time_then_file_then_line_and_bad_lines_stay_beside_their_neighbours(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("sort")
    paths, keyed = [], []
    for number, some in enumerate(files):
        lines = [f"u,{number}.{line},{time}".encode() for line, time in enumerate(some)]
        paths.append(write(folder / f"{number}.csv", HEADER + b"".join(line + b"\n" for line in lines)))
        last = -1.0
        for line, (time, raw) in enumerate(zip(some, lines, strict=True)):
            last = float(time) if time.isdigit() and len(time) == 1 else last
            keyed.append((last, number, line, raw))
    source = opened(*paths)
    assert source.count() == len(keyed)
    good = [raw for _, _, _, raw in keyed if raw.split(b",")[2] in b"0 1 2 3 4 5".split()]
    in_order = [int(raw.split(b",")[2]) for raw in good] == sorted(int(raw.split(b",")[2]) for raw in good)
    assert source.is_sorted_here is not in_order
    wanted = [raw for *_, raw in (keyed if in_order else sorted(keyed))]
    assert [record.value for record in drain(source, 3)] == wanted
    source.close()


def test_unsorted_lines_keep_their_bytes_and_their_line_numbers(tmp_path: Path) -> None:
    bad = b'\xff\x00"broken'
    path = write(tmp_path / "a.csv", HEADER + b"u,m,5\n" + bad + b"\n\nu,m,2\n")
    source = opened(path)
    records = drain(source)
    assert [record.value for record in records] == [b"u,m,2", b"u,m,5", bad, b""]
    assert [source.line(record.topic, record.offset) for record in records] == [5, 2, 3, 4]
    read = source.decode_many(records)
    assert [item.reason for item in read if isinstance(item, Reject)] == ["not_utf8", "blank_line"]
    assert isinstance(read[2], Reject) and read[2].detail.startswith("line 3: ")


def test_the_line_of_a_record_is_found_long_after_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "_ROWS", 4)
    paths = [
        write(tmp_path / f"{n}.csv", HEADER + b"".join(b"u,m,%d\n" % (50 - t) for t in range(n, 50, 3)))
        for n in range(3)
    ]
    source = opened(*paths)
    records = drain(source)
    for record in records:
        line = source.line(record.topic, record.offset)
        assert Path(record.topic).read_bytes().splitlines()[line - 1] == record.value


def test_what_sorting_leaves_on_the_disk_goes_with_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    source = opened(write(tmp_path / "a.csv", HEADER + b"u,m,5\nu,m,2\n"))
    drain(source)
    assert list((tmp_path / "t").iterdir())
    source.close()
    assert not list((tmp_path / "t").iterdir())


class FullDisk:
    def execute(self, query: str) -> None:
        raise duckdb.IOException("Could not write file: No space left on device")


def test_a_full_disk_while_sorting_is_one_line_that_names_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(write(tmp_path / "a.csv", HEADER + b"u,m,5\nu,m,2\n"))
    monkeypatch.setattr(sorting, "connect", lambda database: FullDisk())
    with pytest.raises(DiskError, match=r"No space left on device.*TMPDIR") as caught:
        source.count()
    assert "\n" not in str(caught.value)


def test_a_temporary_folder_that_is_not_there_is_a_disk_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(write(tmp_path / "a.csv", HEADER + b"u,m,5\nu,m,2\n"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no"))
    with pytest.raises(DiskError, match="TMPDIR"):
        source.count()


def test_a_quoted_field_over_a_line_end_becomes_dead_letters_and_nothing_is_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + b'u,"two\nlines",1\nu,m,2\n')
    source = opened(path)
    records = drain(source)
    read = source.decode_many(records)
    assert [item.reason if isinstance(item, Reject) else "ok" for item in read] == [
        "csv_quotes",
        "csv_columns",
        "ok",
    ]


def test_blank_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    source = opened(
        write(tmp_path / "a.jsonl", b'{"user":1,"mark":2,"time":3}\n\n \n{"user":1,"mark":2,"time":4}\n')
    )
    read = source.decode_many(drain(source))
    assert [isinstance(item, Event) or item.reason for item in read] == [
        True,
        "blank_line",
        "blank_line",
        True,
    ]
    assert source.count() == 4


def test_a_glob_gives_its_files_in_order_of_name_and_each_file_once(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path / f"{name}.csv", HEADER)
    source = opened(tmp_path / "b.csv", tmp_path / "*.csv")
    assert [Path(topic).stem for topic, _ in source.topics()] == ["b", "a", "c"]


def test_formats_are_told_by_content_where_the_name_says_nothing(tmp_path: Path) -> None:
    contents = [HEADER + b"u,m,1\n", b'{"user":"u","mark":"m","time":1}\n']
    for content in contents:
        for number, packed in enumerate([content, gzip.compress(content), zstandard.compress(content)]):
            source = opened(write(tmp_path / f"log{number}", packed))
            (event,) = source.decode_many(drain(source))
            assert isinstance(event, Event) and event[:3] == ("u", "m", 1.0)


def test_columns_may_be_separated_by_tabs_or_semicolons(tmp_path: Path) -> None:
    for separator in (b"\t", b";"):
        source = opened(write(tmp_path / "a.csv", (HEADER + b"u,m,1\n").replace(b",", separator)))
        (event,) = source.decode_many(drain(source))
        assert isinstance(event, Event)


def test_parquet_rows_become_json_with_times_in_utc_and_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    duckdb.sql(
        "COPY (SELECT * FROM (VALUES (1, {'kind': 'a'}, TIMESTAMP '2023-11-14 22:13:20.25', 'nan'::DOUBLE), "
        f"(2, {{'kind': 'b'}}, TIMESTAMP '2023-11-14 22:13:21', 1.5)) t(who, what, seen, size)) TO '{path}'"
    )
    source = opened(path, fields=FieldNames(user="who", mark="what.kind", time="seen", value="size"))
    events = source.decode_many(drain(source))
    assert [event[:3] for event in events] == [("1", "a", 1700000000.25), ("2", "b", 1700000001.0)]
    assert [event.value for event in events if isinstance(event, Event)] == [None, 1.5]


REFUSED = {
    "no column": ("a.csv", b"who,mark,time\n", r"the user column user or user_id or key .* --user-field"),
    "column twice": ("a.csv", b"user,user,mark,time\n", "not exactly once"),
    "empty table": ("a.csv", b"", "the header has nothing"),
    "array in a file": ("a.json", b"[\n{}\n]\n", "one JSON array"),
    "cut off gzip": ("a.csv.gz", gzip.compress(HEADER)[:-9], "damaged"),
    "cut off zstd": ("a.csv.zst", zstandard.compress(HEADER + b"u,m,1\n" * 99)[:-3], "damaged"),
    "no Parquet": ("a.parquet", b"PAR1 and no more", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_input_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        opened(write(tmp_path / name, content))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_damaged_further_on_is_refused_when_read(tmp_path: Path) -> None:
    noise = b"".join(b"%d,m,%d\n" % (i * 7919 % 10007, i) for i in range(40_000))
    source = opened(write(tmp_path / "a.csv.gz", gzip.compress(HEADER + noise)[:-5000]))
    with pytest.raises(ConfigError, match="damaged"):
        source.count()


@pytest.mark.parametrize(
    ("given_path", "message"),
    [("", "is a directory; name the files"), ("no.csv", "no such file"), ("*.csv", "no file matches")],
)
def test_folders_and_missing_files_are_refused(tmp_path: Path, given_path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(tmp_path / given_path)


def test_no_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="no input"):
        open_files([], FieldNames())


def test_parquet_without_the_columns_is_refused(tmp_path: Path) -> None:
    duckdb.sql(f"COPY (SELECT 1 AS who, 2 AS mark, 3 AS time) TO '{tmp_path / 'a.parquet'}'")
    with pytest.raises(
        ConfigError, match=r"the user column .* who, mark, time: name the column with --user-field"
    ):
        opened(tmp_path / "a.parquet")


def test_a_pipe_is_live_and_gives_what_is_there(tmp_path: Path) -> None:
    read, written = os.pipe()
    source = opened(f"/dev/fd/{read}")
    assert source.poll(10) == [] and not source.at_end()
    os.write(written, HEADER + b"u,m,5\nu,m,2\nu,m")
    assert [record.value for record in source.poll(10)] == [b"u,m,5", b"u,m,2"]
    assert source.poll(10) == [] and not source.at_end()
    os.write(written, b",7")
    os.close(written)
    rest = drain(source)
    assert [(record.offset, record.value) for record in rest] == [(2, b"u,m,7")]
    assert [isinstance(item, Event) for item in source.decode_many(rest)] == [True]
    assert source.count() is None
    source.close()
    os.close(read)


def test_stdin_after_a_file_goes_on_after_the_lines_that_were_read(tmp_path: Path) -> None:
    history = write(tmp_path / "h.csv", HEADER + b"u,m,1\n")
    script = (
        "import sys\nfrom streamrec.eventlog.files import open_files\n"
        "from streamrec.eventlog.fields import FieldNames\n"
        "source = open_files([sys.argv[1], '-'], FieldNames())\nsource.seek({('-', 0): 2})\n"
        "while not source.at_end():\n"
        "    for r in source.poll(10): print(r.topic[-5:], r.offset, r.value.decode())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(history)],
        input=b'{"n":0}\n{"n":1}\n{"n":2}\n',
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == ["h.csv 0 u,m,1", '- 2 {"n":2}']


def test_a_fifo_is_read_once_and_closed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(HEADER + b"u,m,1\n"))
    writer.start()
    source = opened(fifo)
    assert [record.value for record in drain(source)] == [b"u,m,1"]
    source.close()
    source.close()
    writer.join()


@unhurried
@given(
    st.binary(max_size=60).map(lambda raw: raw.replace(b"\x00", b"\n").replace(b"\x01", b"\r\n")),
    st.integers(1, 7),
)
def test_cutting_lines_does_not_depend_on_the_blocks(raw: bytes, size: int) -> None:
    cutter = LineCutter()
    lines = [line for at in range(0, len(raw), size) for line in cutter.feed(raw[at : at + size])]
    wanted = raw.split(b"\n")
    wanted = wanted if wanted[-1] else wanted[:-1]
    assert lines + cutter.finish() == [line.removesuffix(b"\r") for line in wanted]


def test_a_line_without_end_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 10)
    cutter = LineCutter()
    assert cutter.feed(b"abcdefgh") == cutter.feed(b"ijklmnop") == cutter.feed(b"q" * 50) == []
    assert cutter.feed(b"r\nnext\n") == [b"abcdefghij", b"next"]


def test_lines_of_a_file_equal_those_of_python(tmp_path: Path) -> None:
    text = "".join(f"{i},{'x' * (i % 91)}\n" for i in range(20_000))
    path = write(tmp_path / "a.txt", text.encode())
    assert [line.decode() for some in line_lists(str(path)) for line in some] == list(text.splitlines())


@pytest.mark.parametrize("name", ["taobao", "movielens_small", "helpdesk"])
def test_every_line_of_a_real_log_is_an_event(name: str) -> None:
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    source = opened(DATA / f"{name}.csv.gz")
    wanted = next(s for s in json.loads((DATA / "manifest.json").read_text()) if s["name"] == name)
    read = source.decode_many(drain(source, 5000))
    assert all(type(event) is Event for event in read)
    assert source.count() == len(read) == wanted["events"]
    assert not source.is_sorted_here
