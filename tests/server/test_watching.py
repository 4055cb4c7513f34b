"""The daemon watched: every metric, lanes that come and go, probes, and queries to the right lane."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from served_lane import of_name, samples
from watched_daemon import Scene, place_of

from streamrec.daemon.observer import Observer
from streamrec.diary import Diary
from streamrec.errors import ConfigError, DeliveryError, DiskError, FencedError, StateError, UnavailableError
from streamrec.logs import logging_as
from streamrec.metric_table import METRICS
from streamrec.settings import LogSettings, Settings, load_settings, shaping_fingerprint
from streamrec.verbs.serving import watching
from streamrec.watching import Watching

PROCESS = ("process_", "python_")
BOUNDS = {"lane": 2, "partition": 2, "topic": 1, "state": 5, "outcome": 11, "window": 3, "kind": 6, "api": 5}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with logging_as(LogSettings(), io.StringIO()) as lines:
        scene = Scene(tmp_path, lines)
        yield scene
        scene.end()


@pytest.fixture
def busy(scene: Scene) -> Scene:
    scene.join()
    scene.open(0, 1)
    for _ in range(3):
        scene.work()
    return scene


def trouble(scene: Scene) -> None:
    """Everything that goes wrong now and then."""
    scene.watch.skipped(place_of(0), 40, "retention")
    for api, error in (
        ("poll", UnavailableError("no answer")),
        ("journal", DiskError("full")),
        ("fenced", FencedError("another owner")),
    ):
        scene.watch.failed(api, error)
    scene.watch.ended(DeliveryError("too large"))
    logging.getLogger("streamrec.test").error("told")
    scene.turn()


def test_every_metric_of_the_table_appears_and_no_other(tmp_path: Path) -> None:
    with logging_as(LogSettings(), io.StringIO()) as lines:
        scene = Scene(tmp_path, lines, models__enabled=["gamma_poisson", "context_1", "recurrent"])
        scene.join()
        scene.open(0, 1)
        for _ in range(3):
            scene.work()
        trouble(scene)
        families = {f.name: f.type for f in text_string_to_metric_families(scene.text.decode())}
        labels = {pair for _, found in samples(scene.text) for pair in found}
        scene.end()
    found = {name + ("_total" if kind == "counter" else "") for name, kind in families.items()}
    assert found == set(METRICS)
    by_label: dict[str, set[str]] = {}
    for label, value in labels - {pair for pair in labels if pair[0] in ("le", "model")}:
        by_label.setdefault(label, set()).add(value)
    for label, most in BOUNDS.items():
        assert len(by_label[label]) <= most, (label, by_label[label])
    values = {value for of_label in by_label.values() for value in of_label}
    users = {f"u{lane}{i}" for lane in (0, 1) for i in range(7)}
    assert not values & (users | {f"m{i}" for i in range(5)} | {"key", "same"})


def test_figures_of_two_lanes_stand_side_by_side(busy: Scene) -> None:
    text = busy.text
    for number, held in busy.held.items():
        lane = held.lane
        assert of_name(text, "tracked_users", str(number)) == {(): lane.engine.arena.n_users}
        assert of_name(text, "applied_events", str(number)) == {(): lane.n_events}
        saved = of_name(text, "checkpoints_total", str(number))["ok",]
        assert 0 <= saved <= lane.writer.n_saved
        counted = of_name(text, "events_total")
        of_place = {o: int(n) for (o, p, _), n in counted.items() if p == str(number)}
        assert of_place == lane.cutter.bins.counts._asdict()
        assert min(of_place.values()) > 0, "there are some of each"
        assert of_name(text, "applied_offset")[str(number), "clicks"] == lane.positions[place_of(number)]
    reasons = of_name(text, "dead_letter_total")
    assert sum(reasons.values()) == sum(h.lane.cutter.bins.counts.dead_letter for h in busy.held.values())
    assert of_name(text, "predictions_total") == {(): sum(len(sink.lines) for sink in busy.sinks.values())}


def test_reading_is_counted_in_bytes_records_and_seconds(busy: Scene) -> None:
    text = busy.text
    assert of_name(text, "poll_records_sum") == {(): 600}
    assert of_name(text, "consumer_lag_records")["0", "clicks"] == 5
    n_forecasts = sum(len(sink.lines) for sink in busy.sinks.values())
    assert of_name(text, "end_to_end_seconds_count") == {(): n_forecasts}
    low, high = 0.5, busy.clock.now - 999.5
    assert low <= of_name(text, "end_to_end_seconds_sum")[()] / n_forecasts <= high
    assert of_name(text, "consumed_bytes_total")["clicks",] > 600 * 4
    assert of_name(text, "stage_seconds_count")["decode",] == 6


def test_openings_are_timed_and_told_apart(busy: Scene) -> None:
    assert of_name(busy.text, "restore_seconds_sum") == {(): 0.5}
    assert of_name(busy.text, "restores_total")["empty",] == 2
    busy.close(1)
    busy.open(1)
    assert of_name(busy.text, "restores_total")["ok",] == 1
    assert of_name(busy.text, "rebalances_total") == {("assigned",): 2, ("revoked",): 1, ("lost",): 0}
    assert of_name(busy.text, "rebalance_seconds_count")[()] == 2, "it went and came back in one"
    with pytest.raises(StateError):
        busy.watch.ended(StateError("other settings"))
        raise StateError("other settings")
    assert of_name(busy.text, "restores_total")["rejected",] == 1


@pytest.mark.parametrize("reason", ["revoked", "lost"])
def test_nothing_is_shown_of_a_lane_that_went(busy: Scene, reason: str) -> None:
    busy.close(1, reason=reason)
    busy.turn()
    labels = {pair for _, found in samples(busy.text) for pair in found}
    assert ("lane", "0") in labels
    assert ("partition", "0") in labels
    assert not {("lane", "1"), ("partition", "1")} & labels
    assert of_name(busy.text, "assigned_partitions") == {("clicks",): 1}
    assert [lane["lane"] for lane in busy.get("/statusz").json["lanes"]] == [0]


def test_a_lane_that_comes_back_is_counted_anew(busy: Scene) -> None:
    before = busy.held[1].lane.n_events
    busy.close(1)
    busy.open(1)
    busy.work()
    n = busy.held[1].lane.n_events
    assert of_name(busy.text, "applied_events", "1") == {(): n}
    assert of_name(busy.text, "events_total")["ok", "1", "clicks"] <= n - before + 1


def test_a_query_goes_to_the_lane_that_knows_the_user(busy: Scene) -> None:
    for number, held in busy.held.items():
        user = f"u{number}3"
        reply = busy.ask(f"/forecast/{user}")
        assert (reply.code, reply.body) == (200, held.lane.forecast(user).to_json())
    assert busy.ask("/forecast/nobody").code == 404
    busy.close(0)
    assert busy.ask("/forecast/u03").code == 404
    assert busy.ask("/forecast/u13").code == 200


def test_a_standby_is_alive_and_ready_and_says_that_it_has_no_lane(scene: Scene) -> None:
    scene.watch.entered("starting")
    assert (scene.get("/readyz").code, scene.get("/startupz").code) == (503, 503)
    scene.watch.entered("running")
    reply = scene.get("/readyz")
    assert (reply.code, "joining" in reply.json["reason"]) == (503, True)
    scene.watch.polled(0)
    assert scene.get("/readyz").json == {"ready": True, "state": "running"}
    assert [scene.get(path).code for path in ("/livez", "/startupz", "/metrics")] == [200] * 3
    assert scene.get("/statusz").json["lanes"] == []
    reply = scene.ask("/forecast/u00")
    assert (reply.code, "no lane is open here" in reply.json["error"]) == (503, True)
    assert scene.ask("/statusz?digest=1").json["digests"]["lanes"] == {}


def test_ready_while_lanes_run_and_not_while_one_is_opened(scene: Scene) -> None:
    scene.join()
    scene.watch.rebalanced("assigned", [place_of(0)])
    scene.watch.paused("restoring", True)
    reply = scene.get("/readyz")
    assert (reply.code, "restoring" in reply.json["reason"]) == (503, True)
    scene.watch.entered("restoring")
    assert scene.get("/readyz").code == 503
    scene.watch.entered("running")
    scene.watch.paused("restoring", False)
    assert scene.get("/readyz").code == 200
    scene.watch.entered("draining")
    assert scene.get("/readyz").json == {"ready": False, "state": "draining", "reason": "draining"}
    assert scene.get("/startupz").code == 200


def test_a_degraded_loop_is_alive_not_ready_and_says_why(busy: Scene) -> None:
    busy.watch.failed("journal", DiskError("journal: no space left"))
    busy.watch.entered("degraded")
    reply = busy.get("/readyz")
    assert (reply.code, "no space left" in reply.json["reason"]) == (503, True)
    assert of_name(busy.text, "loop_state")["degraded",] == 1
    assert busy.get("/livez").code == 200
    assert busy.ask("/forecast/u03").code == 200, "what is known is still served"
    busy.watch.entered("running")
    assert busy.get("/readyz").code == 200


def test_only_a_loop_that_does_not_tick_is_not_alive(busy: Scene) -> None:
    busy.watch.failed("poll", UnavailableError("no broker"))
    for _ in range(100):  # no broker for long
        busy.turn()
    assert busy.get("/livez").code == 200
    busy.clock.now += 61.0
    assert busy.get("/livez").code == 503
    busy.watch.between()
    assert busy.get("/livez").code == 200


def test_status_says_of_every_lane_where_it_stands(busy: Scene) -> None:
    for held in busy.held.values():
        held.lane.writer.drain()
    busy.turn()
    busy.clock.now += 7.0
    busy.turn()
    status = busy.get("/statusz").json
    assert status["state"] == "running"
    assert status["settings"] == shaping_fingerprint(busy.settings)
    for number, told in enumerate(status["lanes"]):
        lane = busy.held[number].lane
        at = lane.positions[place_of(number)]
        assert told["lane"] == number
        assert told["positions"] == [
            {"topic": "clicks", "partition": number, "next_offset": at, "end": at + 5, "lag": 5,
             "committed": at // 2}
        ]  # fmt: skip
        assert told["checkpoint"]["epoch"] == lane.store.epoch
        assert told["checkpoint"]["saved"] == lane.writer.n_saved > 0
        assert 8.0 <= told["checkpoint"]["age_s"] <= 12.0
    asked = busy.ask("/statusz?digest=1").json["digests"]
    assert asked["lanes"] == {str(n): held.lane.learned() for n, held in busy.held.items()}


def test_watching_changes_no_bit_of_what_is_learned(tmp_path: Path, busy: Scene) -> None:
    alone = Scene(tmp_path / "alone")
    alone.shop.observer = Diary()
    alone.watch = Diary()  # nobody measures
    alone.open(0)
    for _ in range(3):
        alone.work()
    assert alone.held[0].lane.learned() == busy.held[0].lane.learned()
    assert alone.sinks[0].lines == busy.sinks[0].lines
    alone.end()


def test_a_text_that_takes_long_is_made_less_often(scene: Scene) -> None:
    telemetry = scene.watch.telemetry
    telemetry.meters.text = lambda: setattr(scene.clock, "now", scene.clock.now + 0.4) or b""
    telemetry.render()
    scene.clock.now += 7.5
    assert not telemetry.due(), "0.4 s is a twentieth of 8 s"
    scene.clock.now += 0.5
    assert telemetry.due()


def test_without_a_port_there_are_log_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    with logging_as(LogSettings(format="json"), stream), watching(Settings()) as observer:
        seen: Observer = observer
        seen.entered("running")
        assert type(observer) is Diary
        assert callable(observer.make_writer)
    assert json.loads(stream.getvalue())["state"] == "running"


def test_with_a_port_the_address_is_said_and_the_error_that_ends_it_is_logged() -> None:
    said, stream = io.StringIO(), io.StringIO()
    settings = load_settings(None, {"http.port": 0}, {})
    console = Console(file=said)
    ended = pytest.raises(ConfigError)
    with logging_as(LogSettings(format="json"), stream), ended, watching(settings, console) as observer:
        seen: Observer = observer
        assert isinstance(seen, Watching)
        raise ConfigError("nothing works")
    assert said.getvalue().startswith("serving http://127.0.0.1:")
    assert json.loads(stream.getvalue())["event"] == "loop ends: nothing works"
