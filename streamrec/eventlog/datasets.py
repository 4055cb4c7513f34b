"""Public data sets, fetched from their homes or mirrors and turned into common columns.

    home | mirror ──► member file ──► rows (time, user, mark) ──sort──► user,mark,time CSV ──sha256──► cache

Rows are sorted by (time, user, mark) as numbers, so that every mirror gives the same bytes whatever the order
of its rows, and the checksum of the converted file holds for all of them. Nothing of third parties is
part of this package.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO, Final

from streamrec.errors import ConfigError, DiskError

REACH_S: Final = 10.0
"""Longest wait for a home to answer, seconds."""

_PIP: Final = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Zip:
    """A zip file at an address, and the member that holds the data."""

    address: str
    member: str

    def __str__(self) -> str:
        return self.address

    def fetch(self, folder: Path) -> bytes:
        """The member's bytes; `folder` is for temporary files."""
        path = folder / "home.zip"
        with _open(self.address) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
        return _member(path, self.member)


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the Python index, and the member that holds the data; nothing is installed."""

    requirement: str
    member: str

    def __str__(self) -> str:
        return f"package {self.requirement}"

    def fetch(self, folder: Path) -> bytes:
        """The member's bytes, out of the package that pip downloads into `folder`."""
        done = subprocess.run(
            [*_PIP, "--dest", str(folder), self.requirement],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(f"pip: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise OSError("pip downloaded no wheel")
        return _member(wheels[0], self.member)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A public data set: where it is, under which terms, and what the converted file hashes to.

    Parameters
    ----------
    name, title : what it is called
    licence : the terms in a line; they are the user's to keep
    places : where to look, the home first
    sha256 : of the converted file
    """

    name: str
    title: str
    licence: str
    places: Sequence[Zip | Package]
    sha256: str


_MOVIELENS_100K = Dataset(
    name="movielens-100k",
    title="100,000 ratings of 1,682 films by 943 users, 1997-1998 (GroupLens)",
    licence="GroupLens: research use with acknowledgement; no redistribution and no commercial use without "
    "permission; see https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
    places=(
        Zip("https://files.grouplens.org/datasets/movielens/ml-100k.zip", "ml-100k/u.data"),
        Package("recbole==1.2.1", "recbole/dataset_example/ml-100k/ml-100k.inter"),
    ),
    sha256="f16fe5a01f8011810c6c08db5ce5cb5c58bf1842081743402e4479c1db2a160d",
)

DATASETS: Final = {dataset.name: dataset for dataset in (_MOVIELENS_100K,)}


def list_datasets() -> list[Dataset]:
    """All data sets, by name.

    Examples
    --------
    >>> [dataset.name for dataset in list_datasets()]
    ['movielens-100k']
    """
    return [DATASETS[name] for name in sorted(DATASETS)]


def get_dataset(name: str, progress: Progress) -> Path:
    """The converted file of a data set, out of the cache or fetched now.

    Parameters
    ----------
    name : one of `list_datasets()`
    progress : is told, line by line, what is being done and the licence

    Raises
    ------
    ConfigError
        If there is no such data set, or no place has it; the message says what was tried.
    DiskError
        If the cache cannot be written.

    Examples
    --------
    >>> get_dataset("movielens-1t", print)
    Traceback (most recent call last):
    ...
    streamrec.errors.ConfigError: data set movielens-1t: not known; choose among movielens-100k
    """
    if name not in DATASETS:
        raise ConfigError(f"data set {name}: not known; choose among {', '.join(sorted(DATASETS))}")
    dataset = DATASETS[name]
    progress(f"{name}: {dataset.title}")
    progress(f"licence: {dataset.licence}")
    path = cache_folder() / f"{name}.csv"
    if path.is_file() and _sha256(path.read_bytes()) == dataset.sha256:
        return path
    table = _fetch(dataset, progress)
    try:
        _write(path, table)
    except OSError as error:
        raise DiskError(
            f"{path}: cannot be written ({error.strerror}); set XDG_CACHE_HOME elsewhere"
        ) from error
    return path


def cache_folder() -> Path:
    """Where converted data sets are kept: `$XDG_CACHE_HOME/streamrec` or `~/.cache/streamrec`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "streamrec"


def convert(raw: bytes) -> bytes:
    r"""Tab-separated (user, item, rating, time) rows, with or without a header, as a sorted CSV.

    Raises
    ------
    ValueError
        If a row is not four columns with whole numbers for user, item and time.

    Examples
    --------
    >>> convert(b"7\t2\t5\t20\n7\t10\t1\t3\n7\t9\t1\t3\n").split()
    [b'user,mark,time', b'7,9,3', b'7,10,3', b'7,2,20']
    """
    rows = []
    for line in raw.decode("ascii").splitlines():
        if line and not line.startswith("user_id"):
            user, item, _, time = line.split("\t")
            rows.append((int(float(time)), int(user), int(item)))
    rows.sort()
    return "".join(["user,mark,time\n", *(f"{user},{item},{time}\n" for time, user, item in rows)]).encode()


def _fetch(dataset: Dataset, progress: Progress) -> bytes:
    """The converted table from the first place that has it whole."""
    tried = []
    for place in dataset.places:
        progress(f"trying {place}")
        try:
            with tempfile.TemporaryDirectory(prefix="streamrec-data-") as folder:
                table = convert(place.fetch(Path(folder)))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            tried.append(f"{place} ({error})")
            continue
        if _sha256(table) == dataset.sha256:
            return table
        tried.append(f"{place} (sha256 {_sha256(table)}, expected {dataset.sha256})")
    raise ConfigError(
        f"data set {dataset.name}: could not be had; tried {'; '.join(tried)}. "
        "Check the network, or bring your own file"
    )


def _open(address: str) -> IO[bytes]:
    """The answer of an address within `REACH_S`, the look-up of its name (which has no limit) included."""
    answers: Queue[IO[bytes] | OSError] = Queue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(address, timeout=REACH_S))
        except OSError as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=REACH_S)
    except Empty:
        raise OSError(f"no answer within {REACH_S:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _member(path: Path, member: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _write(path: Path, table: bytes) -> None:
    """Write beside and rename, so that nobody ever sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(table)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _sha256(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()
