"""Caps on users and marks, seen from outside: results name the marks that they are about."""

from streamrec.event import TieSet
from streamrec.models.base import Context, build
from streamrec.processor import Engine
from streamrec.settings import load_settings
from streamrec.state.columns import Columns
from streamrec.waiting.risk import RiskQueue

CAPPED = {
    "models.enabled": ["context_1", "gamma_poisson"],
    "state.max_marks": 16,
    "state.mark_floor": 4,
    "state.max_users": 16,
    "state.user_floor": 4,
}


def test_marks_are_found_by_the_ids_of_the_result_also_after_a_cut_that_broke_the_cap():
    engine = Engine(load_settings(None, CAPPED, {}))
    broken = 0
    for cut in range(12):
        marks = [f"m{cut}-{i}" for i in range(5)]
        sets = [TieSet(f"u{cut}-{i}", 100.0 * cut + i, (mark,)) for i, mark in enumerate(marks)]
        result = engine.process(sets)
        assert [engine.vocabulary.mark_of(m) for m in result.batch.mark.tolist()] == marks
        published = result.marks.published
        listed = published.mark[-1, : published.n[-1]].tolist()
        assert marks[-1] in [engine.vocabulary.mark_of(m) for m in listed]
        broken += engine.vocabulary.n_marks > 16
        assert engine.vocabulary.n_marks <= 16 + len(marks)
        assert engine.arena.n_users <= 16 + len(sets)
    assert broken > 1


def test_the_idle_time_that_is_set_reaches_the_recurrent_model():
    arena = Columns(4, {})
    risk = RiskQueue(arena, max_idle_s=3600.0)
    model = build("recurrent", Context("recurrent", arena, 1, 0, risk))
    assert model.max_idle_s == 3600.0
