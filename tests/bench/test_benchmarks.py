"""Every benchmark runs with its smallest sizes and prints JSON; the pages are made of figures alone."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = ("models", "neural", "checkpoint", "latency", "bank", "flat", "topic")


@pytest.fixture(scope="module")
def found():
    return {name: _printed(name) for name in MODULES}


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def _printed(name):
    command = [sys.executable, str(BENCH / f"{name}.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_prints_one_json_with_its_name_and_machine(found, name):
    assert found[name]["bench"] == name
    assert found[name]["machine"].keys() >= {"cpu", "python", "torch", "numpy", "numba"}


def test_every_cost_has_a_range_around_its_median(found):
    spreads = [*found["models"]["17"]["us_per_event"].values(), *found["neural"]["us_per_event"].values()]
    assert all(0 <= one["min"] <= one["median"] <= one["max"] for one in spreads)


def test_parts_of_the_bank_add_up_to_the_whole(found):
    cost = found["models"]["17"]["us_per_event"]
    parts = sum(one["min"] for name, one in cost.items() if name != "[all]")
    assert parts <= cost["[all]"]["max"]


def test_the_page_of_benchmarks_judges_by_the_figures(found, bench):
    bases = bench("bases")
    figures = {"date": "today", "commit": "0", "machine": {}, "small": True, **_stripped(found)}
    text = bases.page(figures)
    for base in bases.bases(figures):
        assert f"| {base.what} | {base.base} | {base.reached} | {'met' if base.met else 'not met'} |" in text


def test_a_base_is_met_up_to_its_limit_and_not_beyond(bench):
    base = bench("bases").Base
    assert base.most("pause", 10, 10, "ms").met and not base.most("pause", 10, 10.1, "ms").met
    assert base.least("rate", 10, 10, "/s").met and not base.least("rate", 10, 9.9, "/s").met


def _stripped(found):
    return {n: {k: v for k, v in one.items() if k not in ("bench", "machine")} for n, one in found.items()}
