"""Context models: equal to a plain-Python reference, to themselves at any cut, and whole after a restore."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mark_streams import Happening, Streams, as_dict, random_stream

from streamrec.batch import Batch, MarkLists, gap_bucket
from streamrec.errors import ConfigError
from streamrec.models.backoff import LISTED
from streamrec.models.base import Context, Model
from streamrec.models.contexts import (
    ContextModel,
    GapAndLast,
    Levels,
    RepeatAndLast,
    Suffix,
    gap_model,
    repeat_model,
    suffix_model,
)
from streamrec.models.markov import Markov
from streamrec.state.columns import Columns

J = 3
Names = tuple[str, ...]
LEVELS: dict[str, Levels] = {
    "1": Suffix(1),
    "2": Suffix(2),
    "3": Suffix(3),
    "gap": GapAndLast(),
    "repeat": RepeatAndLast(),
}


def context(seed: int = 1) -> Context:
    return Context("model", Columns(64, {}), J, seed)


def small(levels: Levels) -> ContextModel:
    return ContextModel(context(), levels, contexts=64, blocks=4096, successors=4, floor=4)


def forecasts(lists: Sequence[MarkLists]) -> list[tuple[dict[int, float], list[float]]]:
    found = []
    for part in lists:
        for f in range(len(part.start) - 1):
            marks, background = as_dict(part, f)
            found.append((marks, background.tolist()))
    return found


def walked(model: Model, batches: Sequence[Batch]) -> list[tuple[dict[int, float], list[float]]]:
    walks = [model.walk(batch) for batch in batches]
    assert all(w.marks_arrival is not None and w.marks_issued is not None for w in walks)
    arrival = forecasts([w.marks_arrival for w in walks if w.marks_arrival])
    return arrival + forecasts([w.marks_issued for w in walks if w.marks_issued])


def same(a: ContextModel, b: ContextModel) -> bool:
    pairs = [(a.tables()[n][c], b.tables()[n][c]) for n in a.tables() for c in a.tables()[n]]
    scalars = [(a.scalars()[n], b.scalars()[n]) for n in a.scalars()]
    return all(np.array_equal(x, y) for x, y in pairs + scalars)


class Reference:
    """The formula with dicts of names; contexts are tuples, no hashing, no caps."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.counts: dict[tuple[object, ...], dict[str, int]] = defaultdict(dict)

    def forecast(self, levels: Sequence[tuple[object, ...]]) -> tuple[dict[str, float], float]:
        p, background = dict[str, float](), 1.0
        for level in levels:  # from the least to the most specific, as the formula reads
            n = self.counts.get(level, {})
            total, escape = sum(n.values()), self.alpha * len(n)
            if total:
                p = {i: (n.get(i, 0) + escape * p.get(i, 0.0)) / (total + escape) for i in {*p, *n}}
                background *= escape / (total + escape)
        return p, background

    def learn(self, levels: Sequence[tuple[object, ...]], marks: Sequence[str]) -> None:
        for mark in marks:
            for level in reversed(levels):
                known = self.counts[level].get(mark, 0)
                self.counts[level][mark] = known + 1
                if known:
                    break


def suffixes(order: int) -> Callable[[Names, int, int], list[tuple[object, ...]]]:
    def levels(history: Names, gap: int, repeat: int) -> list[tuple[object, ...]]:
        padded = ("^", *history)
        return [padded[-k:] for k in range(1, min(order, len(padded)) + 1)]

    return levels


def gap_levels(history: Names, gap: int, repeat: int) -> list[tuple[object, ...]]:
    last = history[-1] if history else "^"
    return [("last", last), ("gap", last, gap)] if gap >= 0 else [("last", last)]


def repeat_levels(history: Names, gap: int, repeat: int) -> list[tuple[object, ...]]:
    return [("last", history[-1] if history else "^"), ("repeat", history[-1] if history else "^", repeat)]


REFERENCE = {"1": suffixes(1), "2": suffixes(2), "3": suffixes(3), "gap": gap_levels, "repeat": repeat_levels}


def reference_forecasts(
    stream: Sequence[Happening], name: str, alpha: float
) -> list[tuple[dict[str, float], float]]:
    model, levels = Reference(alpha), REFERENCE[name]
    arrival, issued = [], []
    users: dict[str, tuple[Names, float, int]] = {}
    for user, time, raw in stream:
        marks = sorted(raw)
        history, last_time, repeat = users.get(user, ((), np.nan, 0))
        here = levels(history, int(gap_bucket(np.array([time - last_time]))[0]), repeat)
        arrival.append(model.forecast(here))
        model.learn(here, marks)
        if name == "gap":
            model.learn([("apart", history[-1] if history else "^")], marks)
        repeat = 2 if set(marks) <= set(history) else 1
        users[user] = ((*history, *marks), time, repeat)
        after = [("apart", marks[-1])] if name == "gap" else levels(users[user][0], -1, repeat)
        issued.append(model.forecast(after))
    return arrival + issued


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_forecasts_are_those_of_a_reference_in_plain_python(name: str, alpha: float) -> None:
    stream, streams = random_stream(3), Streams()
    found = walked(ContextModel(context(), LEVELS[name], alpha=alpha), [streams.batch(stream)])
    names = list(streams.marks)
    for (marks, background), (p, rest) in zip(found, reference_forecasts(stream, name, alpha), strict=True):
        assert {names[i]: mass for i, mass in marks.items()} == pytest.approx(p, rel=1e-12, abs=0)
        assert background == pytest.approx([0.0] * J + [rest], rel=1e-12, abs=0)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(list(LEVELS)), cut=st.sampled_from([1, 7, 40]))
@settings(max_examples=20, deadline=None)
def test_masses_sum_to_one_over_marks_known_before_them(seed: int, name: str, cut: int) -> None:
    model, streams = small(LEVELS[name]), Streams()
    for batch in streams.batches(random_stream(seed, n=80), cut):
        walk = model.walk(batch)
        after = np.append(batch.n_known[1:], batch.n_marks)
        for lists, known in ((walk.marks_arrival, batch.n_known), (walk.marks_issued, after)):
            assert lists is not None
            for f in range(batch.n_sets):
                marks, background = as_dict(lists, f)
                assert sum(marks.values()) + background.sum() == pytest.approx(1.0, abs=1e-12)
                assert all(i < known[f] for i in marks)
                assert min([*marks.values(), *background]) >= 0


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("make", [lambda levels: ContextModel(context(), levels), small])
def test_cuts_of_any_size_give_equal_bits(name: str, make: Callable[[Levels], ContextModel]) -> None:
    """Also when the table is so small that it evicts again and again."""
    stream = random_stream(4, n=400, marks=40)
    models = {cut: make(LEVELS[name]) for cut in (1, 7, len(stream))}
    found = {}
    for cut, model in models.items():
        walks = [model.walk(batch) for batch in Streams().batches(stream, cut)]
        arrival = forecasts([w.marks_arrival for w in walks if w.marks_arrival])
        found[cut] = arrival, forecasts([w.marks_issued for w in walks if w.marks_issued])
    assert found[1] == found[7] == found[len(stream)]
    assert same(models[1], models[7])
    assert same(models[7], models[len(stream)])


def test_the_small_table_of_these_tests_does_evict_and_replace() -> None:
    model = small(Suffix(3))
    model.walk(Streams().batch(random_stream(4, n=400, marks=40)))
    assert model.table.evicted_contexts > 0
    assert model.table.replaced_successors > 0


def test_ids_of_marks_and_rows_of_users_do_not_matter() -> None:
    stream = random_stream(5)
    plain, shifted = Streams(), Streams()
    shifted.marks = {f"m{i}": i for i in range(20, 0, -1)}
    first = walked(ContextModel(context(), Suffix(2)), [plain.batch(stream)])
    shifted.marks = {name: i for i, name in enumerate(reversed(list(plain.marks)))}
    second = walked(ContextModel(context(), Suffix(2)), [shifted.batch(stream)])
    names, others = list(plain.marks), list(shifted.marks)
    for (p, rest), (q, other_rest) in zip(first, second, strict=True):
        assert {names[i]: mass for i, mass in p.items()} == {others[i]: mass for i, mass in q.items()}
        assert rest == other_rest


def test_the_order_in_which_tied_events_arrive_changes_no_bit() -> None:
    stream = random_stream(6)
    turned = [(user, time, list(reversed(marks))) for user, time, marks in stream]
    first, second = ContextModel(context(), Suffix(2)), ContextModel(context(), Suffix(2))
    assert walked(first, [Streams().batch(stream)]) == walked(second, [Streams().batch(turned)])
    assert same(first, second)


def test_with_many_known_marks_the_largest_64_stay_and_the_rest_goes_to_the_background() -> None:
    stream: list[Happening] = [("v", float(i), [f"x{i}"]) for i in range(2100)]
    for i in range(100):  # "a" is followed by y0 .. y99, each of y0 .. y59 twice
        for copy in range(1 + (i < 60)):
            stream += [("u", 3000.0 + 10 * i + copy, ["a"]), ("u", 3005.0 + 10 * i + copy, [f"y{i}"])]
    stream += [("u", 9000.0, ["a"])]
    streams = Streams()
    lists = ContextModel(context(), Suffix(1)).walk(streams.batch(stream)).marks_issued
    assert lists is not None
    marks, background = as_dict(lists, len(stream) - 1)
    total = 160 + 100
    assert len(marks) == LISTED
    assert {streams.marks[f"y{i}"] for i in range(60)} <= set(marks)
    assert sorted(marks.values()) == pytest.approx([1 / total] * 4 + [2 / total] * 60, rel=1e-12)
    assert background[J] == pytest.approx((100 + 36) / total, rel=1e-12)


@pytest.mark.parametrize("make", [lambda: ContextModel(context(), Suffix(2)), lambda: small(Suffix(2))])
def test_a_model_restored_from_touched_rows_goes_on_as_if_never_stopped(
    make: Callable[[], ContextModel],
) -> None:
    stream, streams = random_stream(8, n=600, marks=40), Streams()
    batches = list(streams.batches(stream, 50))
    straight, copy = make(), make()
    for batch in batches[:8]:
        straight.walk(batch)
        for name, columns in straight.tables().items():
            copy.tables()[name].put(*columns.take_touched())
    copy.load_scalars(straight.scalars())
    assert same(straight, copy)
    assert walked(straight, batches[8:]) == walked(copy, batches[8:])
    assert same(straight, copy)


def test_after_a_remap_forecasts_speak_of_the_new_ids() -> None:
    streams = Streams()
    model = ContextModel(context(), Suffix(1))
    model.walk(streams.batch([("u", 1.0, ["a"]), ("u", 2.0, ["b"]), ("u", 3.0, ["a"]), ("u", 4.0, ["c"])]))
    model.remap_marks(np.array([1, -1, 0]))  # a -> 1, b gone, c -> 0
    streams.marks = {"c": 0, "a": 1}
    lists = model.walk(streams.batch([("v", 5.0, ["a"])])).marks_issued
    assert lists is not None
    assert as_dict(lists, 0)[0] == {0: 1 / 2}


def test_naive_markov_backs_off_to_all_time_popularity_with_alpha_one() -> None:
    model, streams = Markov(context()), Streams()
    lists = model.walk(streams.batch([("u", 1.0, ["a"]), ("u", 2.0, ["b"]), ("v", 3.0, ["a"])])).marks_issued
    assert lists is not None
    marks, background = as_dict(lists, 2)
    assert marks == {streams.marks["b"]: 0.5}
    assert background.tolist() == [0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"alpha": 0.0}, "alpha: expected > 0"), ({"background": 4}, "expected 0 to 3, got 4")],
)
def test_settings_that_make_no_distribution_are_refused(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ContextModel(context(), Suffix(1), **bad)  # type: ignore[arg-type]


def test_a_cut_without_sets_has_no_forecasts_and_changes_no_bit() -> None:
    streams = Streams()
    model, untouched = ContextModel(context(), Suffix(2)), ContextModel(context(), Suffix(2))
    batch = streams.batch(random_stream(9, n=20))
    per_set = [f.name for f in fields(batch) if f.name not in {"serial", "start", "mark", "hashes"}]
    none = {name: getattr(batch, name)[:0] for name in [*per_set, "mark"]}
    empty = replace(batch, start=batch.start[:1], **none)
    assert walked(model, [empty]) == []
    assert walked(model, [batch]) == walked(untouched, [batch])
    assert same(model, untouched)


def test_registered_models_have_the_levels_of_their_names() -> None:
    models = [suffix_model(context(), order=3, floor=8), gap_model(context()), repeat_model(context())]
    assert [type(model.levels) for model in models] == [Suffix, GapAndLast, RepeatAndLast]
    assert (models[0].levels.n, models[0].table.floor) == (3, 8)


def test_a_level_learns_only_what_the_more_specific_one_lacked() -> None:
    """b follows (x, a) three times, and the context (a) hears of it the first time only."""
    model, streams = ContextModel(context(), Suffix(2)), Streams()
    stream: list[Happening] = [("u", float(i), [m]) for i, m in enumerate("xabxabxab")]
    batch = streams.batch(stream)
    model.walk(batch)
    one, two = Suffix(2).arrival(batch, seed=1)[2].tolist()
    assert model.table.successors_of(two) == {streams.marks["b"]: 3.0}
    assert model.table.successors_of(one) == {streams.marks["b"]: 1.0}


def test_more_marks_than_a_batch_carries_are_refused() -> None:
    with pytest.raises(ConfigError, match="order: expected 1 to 4, got 5"):
        Suffix(5)
