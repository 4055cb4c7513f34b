"""The journal: what was appended is read back, torn tails end it, damage before that is refused."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrec import failpoints
from streamrec.entries import (
    Assigned,
    CutEntry,
    Entry,
    ForgetUser,
    GapSkip,
    ModelAdded,
    ModelRemoved,
    Promote,
    Revoked,
    SettingsFingerprint,
    Tick,
)
from streamrec.errors import CorruptStateError, DiskError, FencedError
from streamrec.journal import Journal, Position, accepted_lengths, epochs, journal_path, read

ENTRIES: list[Entry] = [
    SettingsFingerprint("ab" * 32),
    Assigned((("clicks", 0, 17), ("clicks", 1, 0))),
    CutEntry((("clicks", 0, 17, 40), ("clicks", 1, 0, 3)), 21, 0, False),
    Tick("clicks", 1, 1700000000.25),
    GapSkip("clicks", 0, 40, 55, "retention"),
    ForgetUser("ü1"),
    ModelAdded("hawkes"),
    ModelRemoved("hawkes"),
    Promote("recurrent"),
    CutEntry((), 4, 21, True),
    Revoked((("clicks", 1, 3),)),
]


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def write(
    directory: Path, entries: list[Entry], epoch: int = 1, accepted: dict[int, int] | None = None
) -> list[Position]:
    journal = Journal.open(directory, epoch, accepted)
    positions = [journal.append(entry) for entry in entries]
    assert journal.sync() == journal.position
    journal.close()
    return positions


def entries_of(
    directory: Path, accepted: dict[int, int] | None = None, since: Position | None = None
) -> list[Entry]:
    return [entry for _, entry in read(directory, accepted or {}, since)]


def test_every_kind_of_entry_comes_back_with_its_position(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    assert list(read(tmp_path, {})) == list(zip(positions, ENTRIES, strict=True))
    assert positions == sorted(positions)


def test_reading_goes_on_after_any_position(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    for i, position in enumerate(positions, 1):
        assert entries_of(tmp_path, since=position) == ENTRIES[i:]
    assert entries_of(tmp_path, since=Position(1, 0)) == ENTRIES


def test_a_position_inside_an_entry_is_refused(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    with pytest.raises(CorruptStateError, match="is not between two entries"):
        entries_of(tmp_path, since=Position(1, positions[2].offset - 1))


def test_a_file_torn_at_any_byte_ends_with_its_last_whole_entry_and_goes_on_from_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    positions = write(tmp_path, ENTRIES)
    path = journal_path(tmp_path, 1)
    whole = path.read_bytes()
    header = len(whole) - positions[-1].offset
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        n = sum(position.offset <= length - header for position in positions)
        caplog.clear()
        assert entries_of(tmp_path) == ENTRIES[:n]
        torn = length > header and length - header not in {0, *(p.offset for p in positions)}
        assert ("not a whole entry" in caplog.text) == torn
        assert accepted_lengths(tmp_path, {}, epoch=2) == {1: positions[n - 1].offset if n else 0}
        assert write(tmp_path, [Promote("again")])[0].offset > (positions[n - 1].offset if n else 0)
        assert entries_of(tmp_path) == [*ENTRIES[:n], Promote("again")]


def test_a_flipped_bit_at_any_byte_is_never_read_as_an_entry(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    path = journal_path(tmp_path, 1)
    whole = path.read_bytes()
    header = len(whole) - positions[-1].offset
    for byte in range(header, len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ (1 << byte % 8)]) + whole[byte + 1 :])
        n = sum(position.offset <= byte - header for position in positions)
        assert entries_of(tmp_path) == ENTRIES[:n]  # no accepted length yet: a torn tail
        broken_at = header + (positions[n - 1].offset if n else 0)
        with pytest.raises(CorruptStateError, match=rf"journal-1\.log at byte {broken_at}: damaged"):
            entries_of(tmp_path, {1: positions[-1].offset})
        with pytest.raises(CorruptStateError, match=rf"at byte {broken_at}: damaged"):
            Journal.open(tmp_path, 1, {1: positions[-1].offset})
        with pytest.raises(CorruptStateError, match="damaged"):
            entries_of(tmp_path, since=positions[-1])


def test_a_flipped_bit_in_the_header_is_noticed(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    path = journal_path(tmp_path, 1)
    whole = path.read_bytes()
    for byte in range(len(whole) - positions[-1].offset):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        with pytest.raises(CorruptStateError, match=r"journal-1\.log"):
            entries_of(tmp_path, {1: positions[-1].offset})


def test_a_damaged_tail_after_the_accepted_length_counts_for_nothing(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    path = journal_path(tmp_path, 1)
    accepted = {1: positions[4].offset}
    for tail in (path.read_bytes(), path.read_bytes()[:-3], path.read_bytes() + b"\xff" * 50):
        path.write_bytes(tail)
        assert entries_of(tmp_path, accepted) == ENTRIES[:5]


def test_an_accepted_length_inside_an_entry_is_damage(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES)
    with pytest.raises(CorruptStateError, match="wanted whole entries up to position"):
        entries_of(tmp_path, {1: positions[3].offset + 1})


def test_entries_copied_to_another_place_or_epoch_are_not_taken_for_entries(tmp_path: Path) -> None:
    positions = write(tmp_path, ENTRIES[:3])
    path = journal_path(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-(positions[2].offset - positions[1].offset) :])
    assert entries_of(tmp_path) == ENTRIES[:3]
    journal_path(tmp_path, 2).write_bytes(whole)
    assert entries_of(tmp_path, {1: positions[2].offset}) == ENTRIES[:3]


def test_epochs_are_read_in_order_and_late_appends_of_a_stalled_member_are_not(tmp_path: Path) -> None:
    stalled = Journal.open(tmp_path, 9)
    stalled.append(ENTRIES[0])
    accepted = accepted_lengths(tmp_path, {}, epoch=10)
    positions = write(tmp_path, ENTRIES[1:3], 10, accepted)
    stalled.append(ForgetUser("everybody"))
    stalled.sync()
    assert entries_of(tmp_path, accepted) == ENTRIES[:3]
    assert entries_of(tmp_path, accepted, since=Position(9, accepted[9])) == ENTRIES[1:3]
    assert entries_of(tmp_path, accepted, since=positions[0]) == ENTRIES[2:3]
    assert accepted_lengths(tmp_path, accepted, epoch=11) == accepted | {10: positions[-1].offset}
    with pytest.raises(FencedError, match="epoch 10 was opened since"):
        Journal.open(tmp_path, 9)


def test_an_accepted_file_that_is_gone_is_damage_unless_it_is_before_the_start(tmp_path: Path) -> None:
    accepted = {1: write(tmp_path, ENTRIES[:2], 1)[-1].offset}
    accepted[2] = write(tmp_path, ENTRIES[2:4], 2, accepted)[-1].offset
    write(tmp_path, ENTRIES[4:5], 3, accepted)
    journal_path(tmp_path, 2).unlink()
    with pytest.raises(CorruptStateError, match=r"journal-2\.log at byte 0: damaged or cut off"):
        entries_of(tmp_path, accepted)
    with pytest.raises(CorruptStateError, match=r"journal-2\.log at byte 0"):
        entries_of(tmp_path, accepted, since=Position(2, accepted[2]))
    assert entries_of(tmp_path, accepted, since=Position(3, 0)) == ENTRIES[4:5]


def test_truncate_drops_the_entries_after_a_position(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 1)
    positions = [journal.append(entry) for entry in ENTRIES[:4]]
    journal.truncate(positions[1])
    assert journal.position == positions[1]
    journal.append(ENTRIES[7])
    assert entries_of(tmp_path) == [*ENTRIES[:2], ENTRIES[7]]
    for elsewhere in (Position(2, 0), Position(1, 10_000)):
        with pytest.raises(CorruptStateError, match="cannot be cut back"):
            journal.truncate(elsewhere)


@given(data=st.data())
def test_what_is_kept_by_pruning_keeps_its_positions(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("lane")
    old = write(directory, ENTRIES[:3], 1)
    accepted = {1: old[-1].offset}
    journal = Journal.open(directory, 2, accepted)
    positions = [journal.append(entry) for entry in ENTRIES]
    i = 0
    for cut_at in sorted(data.draw(st.lists(st.integers(0, len(ENTRIES) - 1), max_size=3))):
        journal.prune(positions[cut_at])
        i = cut_at + 1
    positions.append(journal.append(Promote("last")))
    journal.sync()
    everything = [*ENTRIES, Promote("last")]
    kept = list(zip(positions, everything, strict=True))[i:]
    assert epochs(directory) == ([2] if i else [1, 2])
    assert list(read(directory, accepted if not i else {}))[0 if i else 3 :] == kept
    for start, position in enumerate(positions[:-1], 1):
        if start >= i:
            assert entries_of(directory, accepted, since=position) == everything[start:]
        else:
            with pytest.raises(CorruptStateError, match="it was pruned up to"):
                entries_of(directory, accepted, since=position)
    journal.close()
    journal = Journal.open(directory, 2, accepted)
    assert journal.position == positions[-1]
    journal.close()


def test_a_full_disk_is_one_clear_line_and_leaves_the_last_whole_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path, 1)
    journal.append(ENTRIES[2])
    before = journal_path(tmp_path, 1).read_bytes()
    real = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        return real(fd, data[: len(data) // 2], offset)

    def full(fd: int, data: bytes, offset: int) -> int:
        half(fd, data, offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for broken in (half, full):
        monkeypatch.setattr(os, "pwrite", broken)
        with pytest.raises(
            DiskError, match=r"journal-1\.log cannot take another entry: [^\n]*make room and go on"
        ):
            journal.append(ENTRIES[3])
        assert journal_path(tmp_path, 1).read_bytes() == before
    monkeypatch.setattr(os, "pwrite", real)
    journal.append(ENTRIES[4])
    assert entries_of(tmp_path) == [ENTRIES[2], ENTRIES[4]]


def test_a_torn_tail_that_cannot_be_cut_off_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path, 1)

    def refuse(fd: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = os.pwrite
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", refuse)
        broken.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:-1], offset))
        with pytest.raises(DiskError, match="only"):
            journal.append(ENTRIES[2])
    assert entries_of(tmp_path) == []
    journal.append(ENTRIES[0])
    journal.append(ENTRIES[3])
    assert entries_of(tmp_path) == [ENTRIES[0], ENTRIES[3]]


def test_the_failpoint_of_a_full_disk_is_a_disk_error(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 1)
    failpoints.arm("before_journal:2:raise")
    journal.append(ENTRIES[0])
    with pytest.raises(DiskError, match="No space left on device"):
        journal.append(ENTRIES[1])
    journal.append(ENTRIES[2])
    assert entries_of(tmp_path) == [ENTRIES[0], ENTRIES[2]]


def test_after_a_failed_fsync_the_next_one_writes_the_file_anew(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, 1)
    journal.append(ENTRIES[0])
    inode = journal_path(tmp_path, 1).stat().st_ino
    failpoints.arm("before_sync:1:raise")
    with pytest.raises(DiskError, match="cannot be fsynced"):
        journal.sync()
    journal.append(ENTRIES[1])
    assert journal.sync() == journal.position
    assert journal_path(tmp_path, 1).stat().st_ino != inode
    journal.append(ENTRIES[2])
    assert entries_of(tmp_path) == ENTRIES[:3]


def test_a_file_that_is_no_journal_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    journal_path(tmp_path, 1).write_bytes(b"user,mark,time\nu1,a,1.0\nu1,b,2.0\n")
    for use in (lambda: entries_of(tmp_path), lambda: Journal.open(tmp_path, 1)):
        with pytest.raises(CorruptStateError, match=r"journal-1\.log at byte 0: wanted .* got"):
            use()
    with pytest.raises(DiskError, match="cannot be opened"):
        Journal.open(tmp_path / "nowhere", 1)
    assert entries_of(tmp_path / "nowhere") == []


def test_an_entry_of_a_later_version_is_refused_by_name(tmp_path: Path) -> None:
    class Later(Tick, frozen=True, array_like=True, tag="later"):
        pass

    write(tmp_path, [ENTRIES[0], Later("clicks", 0, 1.0)])
    with pytest.raises(CorruptStateError, match="of a kind that this version does not know"):
        entries_of(tmp_path)


def test_a_torn_tail_of_a_pruned_file_is_noted_and_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal.open(tmp_path, 1)
    positions = [journal.append(entry) for entry in ENTRIES[:4]]
    journal.prune(positions[1])
    journal.close()
    path = journal_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    assert entries_of(tmp_path, since=positions[1]) == ENTRIES[2:3]
    assert "torn at byte" in caplog.text
    journal = Journal.open(tmp_path, 1)
    assert (journal.position, "torn tail of" in caplog.text) == (positions[2], True)
    assert path.stat().st_size == journal.position.offset - positions[1].offset + 32
