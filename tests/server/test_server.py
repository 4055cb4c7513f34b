"""A real server on a free port: probes, metrics, and queries that the loop answers between cuts."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from served_lane import Reply, Ticking, get, new_lane, of_name, results, samples, values, watched

from streamrec.errors import ConfigError
from streamrec.lane import Lane
from streamrec.server import Desk, NoAnswerError, Server
from streamrec.settings import HttpSettings, shaping_fingerprint
from streamrec.verbs.serving import Watch


class Scene:
    """A lane, a server and their watch, with the test as the loop."""

    def __init__(self, answer_s: float = 20.0) -> None:
        self.clock = Ticking()
        self.lane = new_lane()
        self.server = Server(HttpSettings(port=0, stall_s=60.0, answer_s=answer_s), self.clock)
        self.watch: Watch = watched(self.lane, self.server, self.clock)
        self.server.start()

    def run(self, n: int = 600) -> None:
        """The loop over a log."""
        self.watch.enter("running")
        for _ in results(self.lane, values(n), self.watch):
            pass

    def ask(self, path: str) -> Reply:
        """GET a path while the loop stands between two cuts."""
        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(get, self.server, path)
            while not reply.done():
                self.watch.between()
            return reply.result()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.server.close()


def test_ready_only_while_the_loop_runs(scene: Scene) -> None:
    for state, code in (("starting", 503), ("restoring", 503), ("running", 200), ("draining", 503)):
        scene.watch.enter(state)
        reply = get(scene.server, "/readyz")
        why = {} if code == 200 else {"reason": state}
        assert (reply.code, reply.json) == (code, {"ready": code == 200, "state": state, **why})
        assert get(scene.server, "/startupz").code == (503 if state in ("starting", "restoring") else 200)
        assert of_name(get(scene.server, "/metrics").body, "loop_state")[state,] == 1


def test_a_stuck_loop_is_not_alive_until_it_ticks_again(scene: Scene) -> None:
    assert get(scene.server, "/livez").code == 200
    scene.clock.now += 60.1
    stuck = get(scene.server, "/livez")
    assert (stuck.code, stuck.json["alive"], stuck.json["silent_s"]) == (503, False, 60.1)
    assert get(scene.server, "/metrics").code == 200, "metrics are served all the same"
    scene.watch.between()
    assert get(scene.server, "/livez").code == 200


def test_metrics_parse_and_are_those_of_the_last_rendering(scene: Scene) -> None:
    scene.run()
    before = get(scene.server, "/metrics").body
    assert sum(of_name(before, "events_total").values()) < 600, "less than a second has passed"
    scene.clock.now += 1.0
    scene.watch.between()
    text = get(scene.server, "/metrics").body
    assert sum(of_name(text, "events_total").values()) == scene.lane.cutter.bins.total
    assert len(samples(text)) > len(samples(before))


def test_status_says_where_the_lane_stands(scene: Scene) -> None:
    scene.run()
    scene.watch.enter("draining")
    status, lane = get(scene.server, "/statusz").json, scene.lane
    (mine,) = status["lanes"]
    assert mine["lane"] == 0
    assert mine["events"] == lane.n_events
    assert mine["bins"] == lane.cutter.bins.counts._asdict()
    assert {(p["topic"], p["partition"]): p["next_offset"] for p in mine["positions"]} == lane.positions
    assert status["settings"] == shaping_fingerprint(lane.settings)
    assert "gamma_poisson" in mine["models"]["experts"]
    asked = scene.ask("/statusz?digest=true").json
    assert {**asked, "digests": None} == {**status, "digests": None}
    assert asked["digests"]["lanes"] == {"0": lane.learned()}


def test_a_query_between_cuts_gets_what_the_lane_forecasts(scene: Scene) -> None:
    scene.run()
    for user in ("u00", "u13"):
        last = scene.lane.engine.last_time(user)
        for at, query in ((None, ""), (last + 7200.0, f"?at={last + 7200.0!r}")):
            reply = scene.ask(f"/forecast/{user}{query}")
            assert (reply.code, reply.body) == (200, scene.lane.forecast(user, at).to_json())


def test_an_answer_comes_while_the_log_streams_by(scene: Scene) -> None:
    scene.watch.enter("running")
    with ThreadPoolExecutor(1) as pool:
        replies, expected = [], []
        for i, _ in enumerate(results(scene.lane, values(), scene.watch)):
            if i % 5 == 4:  # here the loop stands between two cuts
                expected.append(scene.lane.forecast("u00").to_json())
                asked = pool.submit(get, scene.server, "/forecast/u00")
                while not asked.done():
                    scene.server.answer({0: scene.lane})
                replies.append(asked.result().body)
    assert replies == expected
    assert len(set(replies)) > 1


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        ("/forecast/nobody", 404, "never seen"),
        ("/forecast/" + quote("a/b?c", safe=""), 404, "a/b?c"),
        ("/forecast/u00?at=5", 422, "before the user's last event"),
        ("/forecast/u00?at=nan", 422, "finite"),
        ("/forecast/u00?at=soon", 422, "number"),
        ("/nowhere", 404, "Not Found"),
    ],
)
def test_a_wrong_question_gets_a_clear_answer(scene: Scene, path: str, code: int, text: str) -> None:
    scene.run(100)
    reply = scene.ask(path)
    assert (reply.code, text in str(reply.json)) == (code, True)


def test_a_question_to_a_stuck_loop_gets_503_and_costs_nothing_later() -> None:
    scene = Scene(answer_s=0.2)
    scene.run(100)
    reply = get(scene.server, "/forecast/u00")
    assert (reply.code, "no answer within 0.2 s" in reply.json["error"]) == (503, True)
    called: list[Lane] = []
    scene.lane.forecast = called.append
    scene.watch.between()
    assert called == [], "nobody waits for that answer any more"
    scene.server.close()


def test_a_scrape_storm_changes_no_bit_of_what_is_learned(scene: Scene) -> None:
    alone = new_lane()
    for _ in results(alone, values()):
        pass
    paths = ["/metrics", "/statusz?digest=1", "/forecast/u00", "/livez", "/forecast/u07?at=9e6"] * 10
    with ThreadPoolExecutor(5) as pool:
        storm = pool.map(lambda path: get(scene.server, path).code, paths)
        scene.run()
        done = pool.submit(list, storm)
        while not done.done():
            scene.watch.between()
    assert set(done.result()) <= {200, 404}, "404 before the user's first event"
    assert scene.lane.learned() == alone.learned()
    assert scene.lane.position() == alone.position()


def test_who_waits_when_the_loop_ends_is_told_so(scene: Scene) -> None:
    scene.run(100)
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(get, scene.server, "/forecast/u00")
        while scene.server.desk._waiting.empty():
            threading.Event().wait(0.005)
        scene.server.close()
        assert (reply.result().code, "has ended" in reply.result().json["error"]) == (503, True)
    with pytest.raises(OSError, match="refused"):
        get(scene.server, "/livez")


def test_a_full_desk_refuses_and_a_failing_question_does_not_stop_the_loop() -> None:
    desk = Desk(most=2)
    wrong, right = desk.ask(lambda _: bytes(1 // 0)), desk.ask(lambda _: b"yes")
    with pytest.raises(NoAnswerError, match="2 questions wait"):
        desk.ask(lambda _: b"")
    desk.answer({})
    assert right.result(timeout=0) == b"yes"
    with pytest.raises(ZeroDivisionError):
        wrong.result(timeout=0)


def test_the_loop_answers_no_more_than_it_may_at_once() -> None:
    desk = Desk()
    answers = [desk.ask(lambda _: b"") for _ in range(5)]
    desk.answer({}, most=3)
    assert [answer.done() for answer in answers] == [True] * 3 + [False] * 2


def test_a_taken_port_is_refused_with_its_number() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} .*choose another"):
            Server(HttpSettings(port=port)).start()
