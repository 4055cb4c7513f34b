"""Metrics say what the lane says: bins, positions, scores over windows, checkpoints."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served_lane import Ticking, Told, new_lane, of_name, results, samples, values

from streamrec.bins import Counts
from streamrec.cut import Cut, Cutter
from streamrec.errors import StateError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.memory import encode_event
from streamrec.metric_table import METRICS
from streamrec.metrics.times import pit_ks
from streamrec.order import Order
from streamrec.processor import CutResult
from streamrec.rolling import Sums, Window
from streamrec.tally import OUTCOMES, Tally

RECORDS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from("uvwx!_"), st.integers(0, 9)), max_size=80)


def decoded(what: str, time: int, at: tuple[int, int]) -> Event | Reject:
    if what in "!_":
        return Reject("not_json" if what == "!" else "blank_line", "")
    return Event(what, "a", float(time), id=f"{what}{time}" if time % 3 else None, partition=at[0])


@given(RECORDS, st.sampled_from([0.0, 2.0]), st.integers(1, 7))
def test_bins_by_partition_add_up_to_the_bins_of_the_lane(
    drawn: list[tuple[int, str, int]], lateness_s: float, cut_events: int
) -> None:
    cutter = Cutter(Order(lateness_s), lambda user: float("nan"), cut_events)
    tally, offsets, read = Tally(cutter), [0, 0], []
    for partition, what, time in drawn:
        at = (partition, offsets[partition])
        offsets[partition] += 2 if time == 7 else 1  # now and then an offset is missing
        read.append((Record("log", *at, b""), decoded(what, time, at)))
    for cut in cutter.feed(tally.reading(read)):
        tally.cut(cut)
    for cut in cutter.finish():
        tally.cut(cut)
    assert Counts(*(sum(n for (_, o), n in tally.counts.items() if o == b) for b in OUTCOMES)) == (
        cutter.bins.counts
    )
    assert min(tally.counts.values(), default=0) >= 0
    advanced = {p: next_ for (_, p), next_ in cutter.positions.items()}
    started = {p: next(r.offset for r, _ in read if r.partition == p) for p in advanced}
    by_place = {p: sum(n for (place, _), n in tally.counts.items() if place[1] == p) for p in advanced}
    assert by_place == {p: advanced[p] - started[p] for p in advanced}


def test_each_record_counts_in_its_own_partition() -> None:
    log, lane = values(), new_lane()
    telemetry = Told(lane)
    for _ in results(lane, log, telemetry):
        pass
    counted = of_name(telemetry.render(), "events_total")
    for partition in (0, 1):
        of_place = {o: int(n) for (o, p, t), n in counted.items() if (t, p) == ("clicks", str(partition))}
        blank = sum(value == b" " for value in log["clicks", partition])
        refused = sum(v is None or b'"time"' not in v for v in log["clicks", partition]) - blank
        assert (of_place["skipped"], of_place["dead_letter"]) == (blank, refused)
        assert sum(of_place.values()) == len(log["clicks", partition])
    total = Counter({o: sum(int(n) for (x, _, _), n in counted.items() if x == o) for o in OUTCOMES})
    assert total == Counter(lane.cutter.bins.counts._asdict())
    assert min(total.values()) > 0, "the log has some of each"


@pytest.fixture(scope="module")
def told() -> tuple[dict[str, dict[tuple[str, ...], float]], Told, list[tuple[int, np.ndarray]]]:
    """Samples by metric after a whole log, and the score of every event seen on the way."""
    lane = new_lane()
    telemetry = Told(lane)
    seen = []
    for result in results(lane, values(3000), telemetry):
        known = np.repeat(result.batch.length > 0, np.diff(result.batch.start))
        seen.append((len(known), result.marks.log_score[0][known]))
    text = telemetry.render()
    return {name: of_name(text, name.removeprefix("streamrec_")) for name in METRICS}, telemetry, seen


def test_gauges_equal_the_lane(told) -> None:
    by_name, telemetry, _ = told
    lane = telemetry.lane
    assert by_name["streamrec_tracked_users"] == {(): lane.engine.arena.n_users}
    assert by_name["streamrec_tracked_items"] == {(): lane.engine.vocabulary.n_marks}
    assert by_name["streamrec_applied_events"] == {(): lane.n_events}
    assert by_name["streamrec_predictions_total"] == {(): lane.cutter.serial}
    offsets = {(str(p), t): offset for (t, p), offset in lane.positions.items()}
    assert by_name["streamrec_applied_offset"] == offsets
    reasons = {(reason,): n for reason, n in lane.cutter.bins.reasons.items()}
    assert by_name["streamrec_dead_letter_total"] == reasons
    last = np.nanmax(lane.engine.arena["last_time"])
    assert by_name["streamrec_last_event_timestamp_seconds"] == {(): last}


def test_the_score_of_everything_is_that_of_the_boards(told) -> None:
    by_name, telemetry, _ = told
    report = telemetry.lane.engine.boards.marks.report("mixture", "seen")
    scored = by_name["streamrec_prequential_nll"]["mark", "mixture", "all"]
    assert scored == pytest.approx(report["nll"], rel=1e-12)
    assert by_name["streamrec_hit_ratio"]["5", "mixture", "all"] == report["hit@5"]
    assert by_name["streamrec_mrr"]["10", "mixture", "all"] == report["mrr@10"]
    assert by_name["streamrec_ndcg"]["10", "mixture", "all"] == report["ndcg@10"]
    times = telemetry.lane.engine.boards.times
    waited = by_name["streamrec_prequential_nll"]["time", "gamma_poisson", "all"]
    assert waited == pytest.approx(-times.report("gamma_poisson", 0.0)["log_likelihood_issued"])
    whole = by_name["streamrec_prequential_nll"]["total", "mixture", "all"]
    assert whole == pytest.approx(scored + by_name["streamrec_prequential_nll"]["time", "mixture", "all"])


def test_a_window_holds_the_last_thousand_events_in_whole_cuts(told) -> None:
    by_name, _, seen = told
    sizes = np.cumsum([n for n, _ in seen][::-1])
    means = {
        float(-np.concatenate([s for _, s in seen[::-1][: k + 1]]).mean())
        for k in np.flatnonzero((sizes >= 1000) & (sizes <= 1000 + 1000 // 32 + 2 * 40))
    }
    got = by_name["streamrec_prequential_nll"]["mark", "mixture", "1k"]
    assert min(abs(got - mean) for mean in means) < 1e-9
    assert got != pytest.approx(by_name["streamrec_prequential_nll"]["mark", "mixture", "all"])


def test_errors_coverage_and_calibration_equal_the_time_board(told) -> None:
    by_name, telemetry, _ = told
    board = telemetry.lane.engine.boards.times
    report = board.report("mixture", 0.0)
    count, total = (
        of_name(telemetry.render(), f"time_abs_error_seconds_{part}") for part in ("count", "sum")
    )
    assert count["mixture",] == report["events"]
    assert total["mixture",] / count["mixture",] == pytest.approx(report["mae_median_s"])
    covered = by_name["streamrec_time_interval_coverage_ratio"]
    assert covered["0.9", "mixture"] == pytest.approx(report["coverage90"])  # fewer than 10k events
    assert 0 < covered["0.5", "mixture"] < covered["0.9", "mixture"]
    assert by_name["streamrec_calibration_error"]["pit_ks", "mixture"] == pit_ks(board.pit[0])


def test_weights_of_both_mixtures_sum_to_one(told) -> None:
    weights = told[0]["streamrec_mixture_weight"]
    for component in ("mark", "time"):
        assert sum(w for (c, _), w in weights.items() if c == component) == pytest.approx(1.0)
    assert {model for c, model in weights if c == "mark"} == {"popularity", "context_1", "soft_bayes"}


def test_no_user_and_no_mark_is_a_label(told) -> None:
    labels = {value for by_labels in told[0].values() for key in by_labels for value in key}
    assert not labels & {*(f"u{p}{i}" for p in (0, 1) for i in range(8)), *(f"m{i}" for i in range(6))}
    assert len(samples(told[1].render())) < 1000


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.sampled_from([100, 1000]))
def test_a_window_is_as_long_as_it_says_to_a_thirty_second_and_a_cut(cuts: list[int], size: int) -> None:
    marks = np.zeros((1, 1, 1))
    now = Sums(marks, np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1))
    window = Window(size, now)
    for n in cuts:
        marks += n
        window.add(now)
        inside, total = window.gain(now).n, now.n
        if total <= size:
            assert inside == total
        else:
            assert size <= inside <= size + size // 32 + 2 * max(cuts)


def test_stages_are_timed_from_their_own_beginning() -> None:
    clock, lane = Ticking(), new_lane()
    telemetry = Told(lane, clock)
    apply, decode = lane.apply, JsonCodec.decode_many

    def slow(cut: Cut) -> CutResult:
        clock.now += 2.0
        return apply(cut)

    def slow_decode(codec: JsonCodec, records: Sequence[Record]) -> list[Event | Reject]:
        clock.now += 0.5
        return decode(codec, records)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "apply", slow)
        patch.setattr(JsonCodec, "decode_many", slow_decode)
        n_cuts = 0
        for _ in results(lane, values(), telemetry):
            clock.now += 64.0  # whoever iterates takes its time, which is nobody's stage
            n_cuts += 1
    text = telemetry.render()
    assert of_name(text, "stage_seconds_count") == {("cut",): n_cuts, ("decode",): 12}
    assert of_name(text, "stage_seconds_sum") == {("cut",): 2.0 * n_cuts, ("decode",): 6.0}


def test_a_text_is_due_once_a_second() -> None:
    clock = Ticking()
    telemetry = Told(new_lane(), clock).telemetry
    assert telemetry.due()
    telemetry.render()
    assert not telemetry.due()
    clock.now += 0.99
    assert not telemetry.due()
    clock.now += 0.01
    assert telemetry.due()


def test_checkpoints_are_counted_and_timed(tmp_path: Path) -> None:
    lane = new_lane(checkpoint__every_events=100)
    telemetry = Told(lane)
    assert not telemetry.open(tmp_path / "state")
    for _ in results(lane, values(), telemetry):
        pass
    lane.close()
    text = telemetry.render()
    made, writer = of_name(text, "checkpoints_total"), lane.writer
    assert made["ok",] == writer.n_saved >= 2
    assert (made["skipped",], made["error",]) == (writer.n_skipped, 0)
    assert of_name(text, "checkpoint_seconds_count")[()] == made["ok",]
    assert of_name(text, "checkpoint_blocked_seconds_count")[()] == made["ok",]
    assert of_name(text, "checkpoint_bytes")[()] > 0
    assert of_name(text, "checkpoint_last_success_timestamp_seconds")[()] == 5e8
    assert of_name(text, "restores_total")["empty",] == 1
    resumed = new_lane(checkpoint__every_events=100)
    again = Told(resumed)
    assert again.open(tmp_path / "state")
    text = again.render()
    assert of_name(text, "restores_total")["ok",] == 1
    assert of_name(text, "applied_events")[()] == lane.n_events
    assert sum(of_name(text, "events_total").values()) == 0, "counters count from the start of the process"
    resumed.close()


def test_a_state_that_is_refused_counts_as_rejected(tmp_path: Path) -> None:
    first = new_lane()
    Told(first).open(tmp_path / "state")
    first.close()
    other = Told(new_lane(models__seed=1))
    with pytest.raises(StateError):
        other.open(tmp_path / "state")
    assert of_name(other.render(), "restores_total")["rejected",] == 1


def test_updates_of_the_network_are_counted_by_outcome() -> None:
    lane = new_lane(models__enabled=["gamma_poisson", "recurrent"])
    telemetry = Told(lane)
    n_cuts = sum(1 for result in results(lane, values(), telemetry) if result.batch.n_sets)
    made = of_name(telemetry.render(), "updates_total")
    assert made["recurrent", "ok"] == n_cuts
    lane.engine.models["recurrent"]._skip()
    lane.engine.models["recurrent"].counters[0] += 1
    made = of_name(telemetry.render(), "updates_total")
    assert (made["recurrent", "ok"], made["recurrent", "skipped_nonfinite"]) == (n_cuts, 1)


def test_a_state_taken_from_an_older_copy_counts_as_fallback(tmp_path: Path) -> None:
    first = new_lane(checkpoint__generation_every=1)
    Told(first).open(tmp_path / "state")
    for _ in results(first, values()):
        pass
    first.close()
    (tmp_path / "state" / "lane.sqlite").write_bytes(b"not a database" * 400)
    again = new_lane(checkpoint__generation_every=1)
    telemetry = Told(again)
    assert telemetry.open(tmp_path / "state")
    made = of_name(telemetry.render(), "restores_total")
    assert (made["fallback",], made["ok",]) == (1, 0)
    again.close()


def test_evictions_are_counted_by_kind_and_sizes_are_those_of_the_arrays() -> None:
    lane = new_lane(state__max_users=16, state__user_floor=1, state__max_marks=16, state__mark_floor=1)
    telemetry = Told(lane)
    events = [Event(f"u{i % 40}", f"m{i % 23}", 1e6 + i) for i in range(300)]
    for _ in results(lane, {("clicks", 0): [encode_event(event) for event in events]}, telemetry):
        pass
    text, engine = telemetry.render(), lane.engine
    made = of_name(text, "evictions_total")
    assert made == {("user",): engine.arena.n_evicted, ("item",): engine.vocabulary.n_evicted}
    assert min(made.values()) > 0
    assert of_name(text, "tracked_users")[()] == engine.arena.n_users
    assert of_name(text, "state_bytes")["users",] == sum(a.nbytes for a in engine.arena.arrays.values())
    engine.make_room()  # the next cut would begin with it
    assert engine.arena.n_users <= 16
