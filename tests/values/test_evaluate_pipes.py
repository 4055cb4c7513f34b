import pytest

from streamrec.errors import ConfigError
from streamrec.evaluate import evaluate
from streamrec.event import Event
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.fields import FieldNames
from streamrec.eventlog.memory import MemorySource
from streamrec.lane import Lane
from streamrec.outputs import Outputs
from streamrec.settings import load_settings
from streamrec.stream import Coded, Events

EVENTS = [Event(f"u{i % 7}", f"m{i * i % 5}", 1000.0 + 3.0 * i) for i in range(400)]


def figures(count: int | None, warmup: float = 0.0) -> dict:
    settings = load_settings(
        None, {"models.enabled": ["context_1", "gamma_poisson"], "cut.cut_events": 32}, {}
    )
    log = Coded(MemorySource.of_events(EVENTS), JsonCodec(FieldNames()), count)
    return evaluate(Events(log), Lane(settings, Outputs()), warmup)


def test_a_log_that_does_not_say_its_length_is_scored_as_a_whole_in_its_first_window():
    known, pipe = figures(len(EVENTS)), figures(None)
    assert pipe["digest"] == known["digest"]
    assert pipe["scored_marks"] == known["scored_marks"] > 0
    assert pipe["mixture"]["mark"]["nll"] == pytest.approx(known["mixture"]["mark"]["nll"], rel=1e-12)
    assert pipe["windows"][0]["mixture"]["mark_all"]["events"] == len(EVENTS)
    whole = [f["mixture"]["time"]["log_likelihood_open"] for f in (pipe, known)]
    assert whole[0] == pytest.approx(whole[1], rel=1e-9)


def test_a_share_of_an_unknown_length_is_refused():
    with pytest.raises(ConfigError, match="give a number of events"):
        figures(None, warmup=0.1)
