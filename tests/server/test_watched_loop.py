"""The daemon's own loop, watched, on a member in memory: what the probes and metrics say as it goes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from served_lane import of_name, samples
from watched_daemon import Scene, place_of, records

from streamrec.daemon.loop import Daemon
from streamrec.errors import UnavailableError
from streamrec.event import Record
from streamrec.eventlog.base import Place
from streamrec.eventlog.clients import Assignee, Bounds, Commit
from streamrec.settings import KafkaSettings


class ToyMember:
    """A group of one over a topic of two partitions, which the test gives and takes."""

    def __init__(self) -> None:
        self.log = {place_of(n): records(n, 0, 300) for n in (0, 1)}
        self.at: dict[Place, int] = {}
        self.paused: set[Place] = set()
        self.commits: dict[Place, Commit] = {}
        self.to_give: list[Place] = []
        self.to_take: list[Place] = []
        self.down = False

    def places(self, topics: Sequence[str]) -> list[Place]:
        return sorted(self.log)

    def bounds(self, places: Sequence[Place]) -> dict[Place, Bounds]:
        self._answer()
        return {place: Bounds(0, len(self.log[place])) for place in places}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "id")

    def join(self, topics: Sequence[str], assignee: Assignee) -> None:
        self.assignee = assignee

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        self._answer()
        given, self.to_give = self.to_give, []
        taken, self.to_take = self.to_take, []
        if taken:
            self.assignee.leaving(taken)
            self.at = {place: at for place, at in self.at.items() if place not in taken}
        if given:
            self.at |= dict.fromkeys(given, 0)
            self.paused |= set(given)
            self.assignee.gained(given)
        out: list[Record] = []
        for place in sorted(set(self.at) - self.paused):
            out += self.log[place][self.at[place] : self.at[place] + 50]
            self.at[place] = min(self.at[place] + 50, len(self.log[place]))
        return out

    def seek(self, positions: Mapping[Place, int]) -> None:
        self.at |= positions

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        return {place: self.at[place] for place in places if place in self.at}

    def pause(self, places: Sequence[Place]) -> None:
        self.paused |= set(places)

    def resume(self, places: Sequence[Place]) -> None:
        self.paused -= set(places)

    def commit(self, commits: Mapping[Place, Commit]) -> None:
        self.commits |= commits

    def committed(self, places: Sequence[Place]) -> dict[Place, Commit]:
        return {place: self.commits[place] for place in places if place in self.commits}

    def close(self) -> None:
        self.to_take = sorted(self.at)
        self.assignee.leaving(self.to_take)

    def _answer(self) -> None:
        if self.down:
            raise UnavailableError("toy: no answer; ask again")


class Loop:
    """A daemon over the toy member, turned by the test; each turn takes a quarter of a second."""

    def __init__(self, state: Path) -> None:
        self.scene, self.member = Scene(state), ToyMember()
        watch, clock = self.scene.watch, self.scene.clock
        self.daemon = Daemon(
            self.member, ["clicks"], self.scene.settings, self.scene.shop, lambda: 0, clock, watch
        )
        self.daemon.begin()

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.scene.clock.now += 0.25
            self.daemon.turn()

    def until_open(self, *numbers: int) -> None:
        """Turn until these lanes are held; a thread restores them."""
        for _ in range(500):
            if set(self.daemon.holdings.held) == set(numbers):
                return
            time.sleep(0.01)
            self.turn()
        raise AssertionError(f"lanes {numbers} were not opened")

    def ready(self) -> tuple[int, str]:
        reply = self.scene.get("/readyz")
        return reply.code, reply.json.get("reason", "")

    def of(self, name: str, lane: str = "0") -> dict[tuple[str, ...], float]:
        self.scene.clock.now += 1.0
        self.scene.watch.between()
        return of_name(self.scene.text, name, lane)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    yield loop
    loop.member.down = False
    loop.daemon.leave()
    loop.scene.server.close()


def test_it_starts_as_a_standby_takes_its_lanes_reads_all_and_gives_them_up(loop: Loop) -> None:
    assert loop.ready() == (503, "starting")
    loop.turn()
    assert loop.ready() == (200, "")
    loop.member.to_give = [place_of(0), place_of(1)]
    loop.turn()
    assert loop.of("assigned_partitions") == {("clicks",): 2}
    loop.until_open(0, 1)
    loop.turn(40)
    assert loop.ready() == (200, "")
    assert loop.of("rebalance_seconds_count") == {(): 1}
    assert loop.of("consumer_lag_records") == {("0", "clicks"): 0, ("1", "clicks"): 0}
    assert loop.of("consumer_lag_seconds") == {("0", "clicks"): 0, ("1", "clicks"): 0}
    assert loop.of("paused") == {("backpressure",): 0, ("disk",): 0, ("restoring",): 0}
    for number, held in loop.daemon.holdings.held.items():
        counted = {o: n for (o, p, _), n in loop.of("events_total").items() if p == str(number)}
        assert counted == held.lane.cutter.bins.counts._asdict()
        at = loop.member.commits[place_of(number)].offset
        assert loop.of("committed_offset")[str(number), "clicks"] == at
    loop.member.to_take = [place_of(0)]
    loop.turn(3)
    assert loop.of("rebalances_total") == {("assigned",): 1, ("revoked",): 1, ("lost",): 0}
    labels = {pair for _, found in samples(loop.scene.text) for pair in found}
    assert ("lane", "1") in labels
    assert not {("lane", "0"), ("partition", "0")} & labels
    assert [lane["lane"] for lane in loop.scene.get("/statusz").json["lanes"]] == [1]


def test_it_is_not_ready_while_a_lane_of_its_partitions_is_being_opened(loop: Loop) -> None:
    loop.turn()
    loop.member.to_give = [place_of(0)]
    loop.turn()
    seen = set()
    for _ in range(500):
        seen.add(loop.ready()[0])
        if loop.ready()[0] == 200 and loop.daemon.holdings.held:
            break
        time.sleep(0.005)
        loop.turn()
    assert seen == {503, 200}
    assert loop.of("restores_total")["empty",] == 1


def test_without_a_broker_it_is_degraded_alive_and_still_answers(loop: Loop) -> None:
    loop.turn()
    loop.member.to_give = [place_of(0), place_of(1)]
    loop.turn()
    loop.until_open(0, 1)
    loop.turn(40)
    loop.member.down = True
    for _ in range(round(KafkaSettings().unreachable_s) + 5):
        loop.scene.clock.now += 1.0
        loop.turn()
    assert loop.of("loop_state")["degraded",] == 1
    code, reason = loop.ready()
    assert (code, "no answer" in reason) == (503, True)
    assert loop.scene.get("/livez").code == 200
    assert loop.of("kafka_errors_total")["poll", "UnavailableError"] > 5
    assert loop.scene.ask("/forecast/u03").code == 200
    loop.member.down = False
    loop.turn(8)
    assert loop.ready() == (200, "")
