"""The naive rules for marks say exactly what their formulas say."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mark_streams import Happening, Streams, as_dict, random_stream

from streamrec.errors import ConfigError
from streamrec.models.base import Context, Model
from streamrec.models.most_popular import MostPopular, RecentPopular
from streamrec.models.repeat_last import KEPT, RepeatLast
from streamrec.state.columns import Columns

Forecast = tuple[dict[int, float], list[float]]


def repeat_last() -> tuple[RepeatLast, Columns]:
    rows = Columns(16, {})
    return RepeatLast(Context("repeat_last", rows, n_backgrounds=2, seed=0)), rows


def walked(model: Model, stream: Sequence[Happening], cut: int = 64) -> tuple[list[Forecast], list[Forecast]]:
    arrival: list[Forecast] = []
    issued: list[Forecast] = []
    for batch in Streams().batches(stream, cut):
        walk = model.walk(batch)
        for lists, found in ((walk.marks_arrival, arrival), (walk.marks_issued, issued)):
            assert lists is not None
            pairs = [as_dict(lists, f) for f in range(batch.n_sets)]
            found += [(marks, background.tolist()) for marks, background in pairs]
    return arrival, issued


def reference(stream: Sequence[Happening]) -> tuple[list[Forecast], list[Forecast]]:
    ids: dict[str, int] = {}
    last: dict[str, list[int]] = {}
    hits = trials = 0
    arrival: list[Forecast] = []
    issued: list[Forecast] = []

    def say(user: str) -> Forecast:
        listed, n = last.get(user, [])[:KEPT], len(last.get(user, []))
        share = (hits + 0.5) / (trials + 1) / n if n else 0.0
        return dict.fromkeys(listed, share), [1 - len(listed) * share, 0.0, 0.0]

    for user, _, raw in stream:
        arrival.append(say(user))
        marks = [ids.setdefault(m, len(ids)) for m in sorted(raw)]
        if user in last:
            trials += len(marks)
            hits += sum(m in last[user][:KEPT] for m in marks)
        last[user] = list(dict.fromkeys(marks))
        issued.append(say(user))
    return arrival, issued


@given(seed=st.integers(0, 10_000), cut=st.sampled_from([1, 7, 200]))
@settings(max_examples=25, deadline=None)
def test_repeat_last_is_its_formula_at_any_cut(seed: int, cut: int) -> None:
    stream = random_stream(seed, n=120)
    assert walked(repeat_last()[0], stream, cut) == reference(stream)


def test_a_set_larger_than_a_row_keeps_gives_the_others_share_to_the_background() -> None:
    many = [f"m{i:02}" for i in range(40)]
    stream: list[Happening] = [("u", 1.0, many), ("u", 2.0, many)]
    arrival, issued = walked(repeat_last()[0], stream)
    assert (arrival, issued) == reference(stream)
    marks, background = arrival[1]
    assert list(marks) == list(range(KEPT))
    assert background[0] == pytest.approx(1 - KEPT * 0.5 / 40)
    assert sum(issued[1][0].values()) + sum(issued[1][1]) == pytest.approx(1.0, abs=1e-12)


def test_tied_marks_share_one_rank_in_whatever_order_they_came() -> None:
    stream: list[Happening] = [("u", 1.0, ["b", "a", "c", "a"])]
    turned: list[Happening] = [("u", 1.0, ["a", "c", "a", "b"])]
    first, second = walked(repeat_last()[0], stream), walked(repeat_last()[0], turned)
    assert first == second
    assert len(set(first[1][0][0].values())) == 1
    assert len(first[1][0][0]) == 3


def test_repeat_last_goes_on_from_touched_rows_and_scalars() -> None:
    stream, streams = random_stream(1, n=200), Streams()
    batches = list(streams.batches(stream, 20))
    (straight, rows), (copy, copied) = repeat_last(), repeat_last()
    for batch in batches[:5]:
        straight.walk(batch)
        copied.put(*rows.take_touched())
    copy.load_scalars(straight.scalars())
    for batch in batches[5:]:
        straight.walk(batch)
        copy.walk(batch)
    assert all(np.array_equal(rows[c], copied[c]) for c in rows)
    assert copy.repeat_probability == straight.repeat_probability


def test_a_remap_renames_kept_marks_drops_gone_ones_and_touches_the_rows() -> None:
    (rule, rows), streams = repeat_last(), Streams()
    rule.walk(streams.batch([("u", 1.0, ["a", "b", "c"]), ("v", 2.0, ["b"])]))
    rows.take_touched()
    rule.remap_marks(np.array([1, -1, 0]))
    assert rows["repeat_last.marks"][0, :3].tolist() == [1, 0, -1]
    assert rows["repeat_last.n"][:3].tolist() == [2, 0, 0]
    assert np.flatnonzero(rows.touched).tolist() == [0, 1]


@pytest.mark.parametrize(("rule", "column"), [(MostPopular, 0), (RecentPopular, 1)])
def test_popularity_rules_put_all_mass_on_their_member_of_the_bank(
    rule: type[MostPopular], column: int
) -> None:
    arrival, issued = walked(rule(Context("popular", None, n_backgrounds=3, seed=0)), random_stream(2, n=30))
    wanted = [1.0 if j == column else 0.0 for j in range(4)]
    assert arrival == issued == [({}, wanted)] * 30


def test_a_bank_without_that_member_is_refused() -> None:
    with pytest.raises(ConfigError, match="popular: background: expected below 1, got 1"):
        RecentPopular(Context("popular", None, n_backgrounds=1, seed=0))
