"""Files that a lane writes are one process's alone; the next owner of the lane waits until they are free."""

from pathlib import Path
from typing import Any

import pytest

from streamrec.daemon.observer import Unobserved
from streamrec.daemon.workshop import Plain
from streamrec.errors import DiskError
from streamrec.eventlog.codec import JsonCodec
from streamrec.eventlog.sinks import JsonLinesSink, TakenError
from streamrec.eventlog.topics import Clients
from streamrec.outputs import Outputs
from streamrec.settings import KafkaSettings, load_settings
from streamrec.verbs.consuming import Targets
from streamrec.verbs.opening import field_names


def test_a_lane_whose_file_is_taken_is_tried_again_and_opened_when_it_is_free(tmp_path: Path) -> None:
    settings = load_settings(None, {"models.enabled": ["gamma_poisson"]}, {})
    path = tmp_path / "forecasts.jsonl"
    shop = Plain(
        settings,
        tmp_path / "state",
        lambda _: Outputs(JsonLinesSink(path)),
        JsonCodec(field_names(settings.input)),
        lambda: 0.0,
        Unobserved(),
    )
    zombie = JsonLinesSink(path)
    with pytest.raises(DiskError, match=r"another process writes to this file.*tried again"):
        shop.restore(0)
    zombie.close()
    shop.restore(0).close()


def test_outputs_of_which_one_is_taken_keep_the_other_one_free(tmp_path: Path) -> None:
    files: dict[str, Any] = {name: tmp_path / f"{name}.jsonl" for name in ("sink", "letters")}
    clients = Clients(KafkaSettings())
    targets = Targets(f"jsonl:{files['sink']}", str(files["letters"]), load_settings(None, {}, {}), clients)
    zombie = JsonLinesSink(files["letters"])
    for _ in range(2):
        with pytest.raises(TakenError, match="letters"):
            targets.plain(0)
    zombie.close()
    targets.plain(0).close()
