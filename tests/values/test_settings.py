from pathlib import Path

import pytest

from streamrec.errors import ConfigError
from streamrec.settings import Settings, load_settings, shaping_fingerprint


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "streamrec.toml"
    path.write_text(text)
    return path


def test_flags_outrank_the_environment_and_the_environment_the_file(tmp_path):
    path = write(tmp_path, "[cut]\ncut_events = 7\npoll_events = 8\n[order]\nlateness_s = 1.5\n")
    environ = {"STREAMREC_CUT__CUT_EVENTS": "9", "STREAMREC_CUT__POLL_EVENTS": "10"}
    settings = load_settings(path, {"cut.cut_events": 11}, environ)
    assert (settings.cut.cut_events, settings.cut.poll_events, settings.order.lateness_s) == (11, 10, 1.5)


def test_a_list_may_be_given_as_text():
    environ = {
        "STREAMREC_KAFKA__BOOTSTRAP": "a:1,b:2",
        "STREAMREC_MODELS__ENABLED": "context_1",
        "STREAMREC_FORECAST__WITHIN_S": "60,3600",
    }
    settings = load_settings(None, None, environ)
    assert settings.kafka.bootstrap == ("a:1", "b:2")
    assert settings.models.enabled == ("context_1",)
    assert settings.forecast.within_s == (60.0, 3600.0)


def test_a_section_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="kafka"):
        load_settings(None, {"kafka": 3}, {})


def test_all_problems_are_listed_at_once_with_their_path():
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {"cut.cut_evnts": 1, "order.lateness_s": -1.0, "http.port": 70_000}, {})
    text = str(caught.value)
    assert text.count("\n") == 2
    assert "cut.cut_evnts" in text and "do you mean cut.cut_events?" in text
    assert "order.lateness_s" in text and "http.port" in text


def test_a_file_that_is_missing_or_not_toml_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read"):
        load_settings(tmp_path / "nothing.toml", None, {})
    with pytest.raises(ConfigError, match="not a TOML file"):
        load_settings(write(tmp_path, "[cut\n"), None, {})


def test_nan_is_refused():
    with pytest.raises(ConfigError, match="finite"):
        load_settings(None, {"forecast.horizon_s": float("nan")}, {})


def test_floors_above_half_of_the_caps_are_refused():
    with pytest.raises(ConfigError, match="user_floor"):
        load_settings(None, {"state.max_users": 100, "state.user_floor": 90}, {})


def test_the_fingerprint_moves_with_shaping_fields_only():
    plain = shaping_fingerprint(Settings())
    assert shaping_fingerprint(load_settings(None, {"cut.cut_events": 64, "http.port": 1}, {})) == plain
    assert shaping_fingerprint(load_settings(None, {"models.seed": 1}, {})) != plain


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings().cut.cut_events = 3  # type: ignore[misc]


def test_variables_that_are_not_settings_are_left_alone():
    environ = {"STREAMREC_FAILPOINT": "after_read", "STREAMREC_DATA": "x", "PATH": "y"}
    assert load_settings(None, None, environ) == Settings()
