import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lane_toys import Toy, at, restored

from streamrec import failpoints
from streamrec.errors import DiskError, FencedError
from streamrec.state.snapshot import Snapshot
from streamrec.state.store import LaneStore
from streamrec.state.writer import InlineWriter, ThreadWriter


class Gate:
    """A sync callback that waits until it is let through."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        assert self.opened.wait(30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LaneStore]:
    with LaneStore.open(tmp_path) as opened:
        yield opened


def test_with_both_buffers_busy_a_checkpoint_is_skipped_counted_and_not_taken(store: LaneStore) -> None:
    gate, toy = Gate(), at(2)
    writer = ThreadWriter(store, gate)
    assert writer.try_submit(toy.snapshot)
    toy.step()
    assert writer.try_submit(toy.snapshot)
    toy.step()
    assert not writer.try_submit(toy.snapshot)
    assert writer.n_skipped == 1 and toy.arena.touched.any(), "a skipped snapshot must leave the flags"
    gate.opened.set()
    writer.drain()
    assert restored(store).digest() == at(3).digest()
    assert writer.try_submit(toy.snapshot)
    writer.close()
    assert (writer.last_success, writer.n_saved, gate.calls) == (4, 3, 3)
    assert restored(store).digest() == at(4).digest()


def test_the_copy_does_not_see_what_the_loop_does_next(store: LaneStore) -> None:
    gate, toy = Gate(), at(5)
    writer = ThreadWriter(store, gate)
    writer.try_submit(toy.snapshot)
    for _ in range(5):
        toy.step()
    gate.opened.set()
    writer.close()
    assert restored(store).digest() == at(5).digest()


@pytest.mark.parametrize("make", [InlineWriter, ThreadWriter])
@pytest.mark.parametrize("point", ["before_sync", "mid_transaction"])
def test_a_disk_error_is_shown_until_a_save_succeeds_and_no_row_is_lost(
    store: LaneStore, make: type[InlineWriter] | type[ThreadWriter], point: str
) -> None:
    writer, toy = make(store), at(3)
    failpoints.arm(f"{point}:1:raise")
    assert writer.try_submit(toy.snapshot)
    wait_for(writer)
    assert isinstance(writer.failed, DiskError) and writer.last_success is None
    toy.step()
    assert writer.try_submit(toy.snapshot)
    writer.drain()
    assert [writer.failed, writer.last_success, writer.n_failed, writer.n_saved] == [None, 4, 1, 1]
    assert restored(store).digest() == at(4).digest()


def wait_for(writer: InlineWriter | ThreadWriter) -> None:
    if isinstance(writer, ThreadWriter):
        with writer._changed:
            assert writer._changed.wait_for(lambda: writer._busy == 0, 30)


def test_draining_tries_a_failed_save_once_more(store: LaneStore) -> None:
    writer, toy = ThreadWriter(store), at(3)
    failpoints.arm("mid_transaction:1:raise")
    writer.try_submit(toy.snapshot)
    writer.close()
    assert writer.failed is None and writer.last_success == 3
    assert restored(store).digest() == at(3).digest()


def test_draining_raises_if_the_disk_still_refuses(store: LaneStore) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    writer = ThreadWriter(store, refuse)
    writer.try_submit(at(1).snapshot)
    with pytest.raises(DiskError, match=r"journal: .*No space left on device; the checkpoint waits"):
        writer.close()
    assert store.load() is None


def test_another_owner_is_raised_in_the_loop(store: LaneStore, tmp_path: Path) -> None:
    writer, toy = ThreadWriter(store), Toy()
    LaneStore.open(tmp_path).close()
    writer.try_submit(toy.snapshot)
    with pytest.raises(FencedError):
        writer.drain()
    with pytest.raises(FencedError):
        writer.try_submit(toy.snapshot)


def test_a_bug_in_the_thread_is_raised_in_the_loop(store: LaneStore) -> None:
    writer = ThreadWriter(store)
    writer.try_submit(lambda: Snapshot(1, position="not bytes"))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        writer.close()


def test_the_journal_is_synced_before_the_transaction(store: LaneStore) -> None:
    serials: list[int] = []
    writer = InlineWriter(store, lambda: serials.append(store.head["serial"]))
    toy = at(1)
    for _ in range(3):
        writer.try_submit(toy.snapshot)
        toy.step()
    assert serials == [0, 1, 2]
