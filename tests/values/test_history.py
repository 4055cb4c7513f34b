import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamrec.batch import N_LAST
from streamrec.event import TieSet
from streamrec.state.arena import Arena
from streamrec.state.history import History
from streamrec.state.vocabulary import Vocabulary

steps = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=4), st.floats(0, 1e6)
    ),
    min_size=1,
    max_size=40,
)


def sets_of(drawn) -> list[TieSet]:
    clock, out = 0.0, []
    for user, marks, gap in drawn:
        clock += gap
        out.append(TieSet(user, clock, tuple(sorted(marks))))
    return out


def batches(sets: list[TieSet], cut: int):
    history = History(Arena(), Vocabulary())
    return [history.batch(sets[i : i + cut]) for i in range(0, len(sets), cut)]


@given(steps)
def test_a_batch_says_what_a_plain_walk_over_the_sets_says(drawn):
    sets = sets_of(drawn)
    (batch,) = batches(sets, len(sets))
    seen: list[str] = []
    past: dict[str, list[TieSet]] = {}
    ids: dict[str, int] = {}
    for s, tie in enumerate(sets):
        mine = past.setdefault(tie.user, [])
        last = [m for t in mine for m in t.marks][-N_LAST:][::-1]
        assert batch.n_known[s] == len(seen)
        assert batch.length[s] == len(mine)
        assert batch.before[s].tolist() == [ids[m] for m in last] + [-1] * (N_LAST - len(last))
        expected = tie.time - mine[-1].time if mine else np.nan
        np.testing.assert_equal(batch.dt[s], expected)
        for mark in tie.marks:
            if mark not in ids:
                ids[mark] = len(ids)
                seen.append(mark)
        fresh = any(m not in [x for t in mine for x in t.marks][-N_LAST:] for m in tie.marks)
        assert batch.repeat_after[s] == (1 if fresh else 2)
        mine.append(tie)


@given(steps, st.integers(1, 7))
def test_the_size_of_cuts_changes_no_feature(drawn, cut):
    sets = sets_of(drawn)
    (whole,) = batches(sets, len(sets))
    parts = batches(sets, cut)
    for name in ("dt", "length", "before", "after", "gap", "gap_before", "repeat_before", "n_known", "timed"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_previous_links_the_sets_of_a_user_inside_a_cut():
    sets = [TieSet(u, t, ("m",)) for u, t in [("a", 1.0), ("b", 2.0), ("a", 3.0), ("a", 3.5)]]
    (batch,) = batches(sets, 4)
    assert batch.previous.tolist() == [-1, -1, 0, 2]


def test_a_further_set_is_not_timed():
    sets = [TieSet("a", 1.0, ("m",)), TieSet("a", 1.0, ("n",), further=True)]
    (batch,) = batches(sets, 2)
    assert batch.timed.tolist() == [False, False]
    assert batch.dt[1] == 0.0


def test_evicted_marks_leave_the_last_marks():
    arena, vocabulary = Arena(), Vocabulary()
    history = History(arena, vocabulary)
    history.batch([TieSet("a", 1.0, ("m",)), TieSet("a", 2.0, ("n",))])
    history.remap_marks(np.array([-1, 0]))
    assert arena["history.last"][arena.find("a")].tolist() == [0, -1, -1, -1]
