"""Narrow waves go through a kernel, wide ones through torch: both are the same cell."""

import numpy as np
import pytest
import torch

from streamrec.nn import gru
from streamrec.nn.packing import pack


@pytest.fixture
def cell():
    draw = torch.Generator().manual_seed(0)
    shapes = (24, 5), (24, 8), (24,), (24,)
    return tuple(torch.randn(*shape, generator=draw) for shape in shapes)


def _advanced(cell, rows, few, monkeypatch):
    monkeypatch.setattr(gru, "FEW", few)
    draw = torch.Generator().manual_seed(1)
    waves = pack(rows)
    x = torch.randn(len(rows), 5, generator=draw)
    h = torch.randn(len(waves.users), 8, generator=draw)
    return (*gru.advance_waves(cell, x, h, waves), h)


@pytest.mark.parametrize("users", [1, 3, 40])
def test_the_kernel_steps_as_torch_does(cell, users, monkeypatch):
    rows = np.random.default_rng(users).integers(0, users, 60)
    by_torch = _advanced(cell, rows, 0, monkeypatch)
    by_kernel = _advanced(cell, rows, 1000, monkeypatch)
    mixed = _advanced(cell, rows, 8, monkeypatch)
    for wanted, one, two in zip(by_torch, by_kernel, mixed, strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(two, wanted, rtol=1e-5, atol=1e-6)


def test_batch_mates_change_nothing_beyond_rounding(cell, monkeypatch):
    rows = np.array([0, 1, 0, 2, 0, 1])
    together = _advanced(cell, rows, 1000, monkeypatch)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(6, 5, generator=draw)
    h = torch.randn(3, 8, generator=draw)
    mine = np.flatnonzero(rows == 0)
    alone = gru.advance_waves(cell, x[mine], h[:1].clone(), pack(rows[mine]))
    np.testing.assert_allclose(alone[1], together[1][mine], rtol=1e-6, atol=1e-6)


def test_a_state_that_is_no_number_stays_one(cell, monkeypatch):
    monkeypatch.setattr(gru, "FEW", 1000)
    h = torch.zeros(1, 8)
    h[0, 3] = float("nan")
    _, after = gru.advance_waves(cell, torch.zeros(1, 5), h, pack(np.array([0])))
    assert torch.isnan(after).any()
