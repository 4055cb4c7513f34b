"""A gated recurrent unit whose input is a set of marks and the gap before it.

    x  = [ mean of the marks' embeddings ; features of the gap ]
    r  = sigmoid(W_r x + U_r h + b_r),   u = sigmoid(W_u x + U_u h + b_u)
    n  = tanh(W_n x + b_n + r * (U_n h + c_n)),   h' = (1 - u) * n + u * h

Features of a gap dt (13 hats, the plain z, two flags): z = (ln max(dt, floor) - mean) / sd, with the
running mean and deviation of the stream's own log-gaps, so that milliseconds and months look alike.

Source: Cho et al. (2014), arXiv 1406.1078, in the form of torch.gru_cell.
"""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from streamrec.arrays import Floats, Floats32, Ints, Ints32
from streamrec.jit import kernel
from streamrec.nn.packing import Waves

N_HATS = 13
GAP_FEATURES = N_HATS + 3
"""Width of the features of one gap."""

FEW = 8
"""Waves of fewer sets are stepped one set at a time by a kernel: torch takes as long for one as for eight."""


def gap_features(dt: Floats, mean: float, sd: float, floor: float) -> Floats32:
    """Features of gaps in seconds, (N, GAP_FEATURES); NaN is a user's first set.

    Examples
    --------
    >>> gap_features(np.array([1.0, 0.0, np.nan]), 0.0, 1.0, 1e-6)[:, -3:].tolist()
    [[0.0, 0.0, 0.0], [-3.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    out = np.zeros((len(dt), GAP_FEATURES), np.float32)
    _fill_features(dt, mean, sd, floor, out)
    return out


@njit(cache=True)
def _fill_features(dt: Floats, mean: float, sd: float, floor: float, out: Floats32) -> None:
    for i in range(len(dt)):
        if np.isnan(dt[i]):
            out[i, N_HATS + 2] = 1.0
            continue
        z = min(max((np.log(max(dt[i], floor)) - mean) / sd, -3.0), 3.0)
        place = 2.0 * (z + 3.0)
        low = min(int(place), N_HATS - 2)
        out[i, low] = 1.0 - (place - low)
        out[i, low + 1] = place - low
        out[i, N_HATS] = z
        out[i, N_HATS + 1] = 1.0 if dt[i] == 0.0 else 0.0


def mean_embedding(rows: Tensor, ids: Ints32) -> Tensor:
    """Mean of the rows that each line of ids names, (N, e); a line of -1 gives zeros.

    The sum runs over the columns in order and padding adds exact zeros.
    """
    width = max(int((ids >= 0).sum(axis=1).max(initial=1)), 1)
    ids = ids[:, :width]
    there = ids >= 0
    index = torch.from_numpy(np.where(there, ids, 0).astype(np.int64)).to(rows.device)
    share = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
    weight = torch.from_numpy(share.astype(np.float32)).to(rows.device)
    if width == 1:
        return torch.nn.functional.embedding(index[:, 0], rows) * weight
    return (torch.nn.functional.embedding(index, rows) * weight[:, :, None]).sum(dim=1)


class _Step(torch.autograd.Function):
    """One step of the unit whose gradient is written out; the state that goes in gets none.

    With δ the gradient of h':  δu = δ (h − n) u (1 − u),  δn = δ (1 − u)(1 − n²),
    δr = δn (U_n h + c_n) r (1 − r), all before their sigmoid or tanh; the rest are products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, *cell: Tensor) -> Tensor:
        """State after the input."""
        w_in, w_recur, b_in, b_recur = cell
        d = h.shape[1]
        entering, recurring = torch.addmm(b_in, x, w_in.T), torch.addmm(b_recur, h, w_recur.T)
        r, u = (entering[:, : 2 * d] + recurring[:, : 2 * d]).sigmoid_().chunk(2, dim=1)
        n = torch.addcmul(entering[:, 2 * d :], r, recurring[:, 2 * d :]).tanh_()
        ctx.save_for_backward(x, h, w_in, r, u, n, recurring[:, 2 * d :])
        return torch.lerp(n, h, u)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients with respect to the input and the weights."""
        x, h, w_in, r, u, n, recurring = ctx.saved_tensors
        into_u = upstream[0] * u
        into_n = (upstream[0] - into_u) * (1.0 - n * n)
        into_u = into_u * (1.0 - u) * (h - n)
        into_r = into_n * recurring * r * (1.0 - r)
        entering = torch.cat([into_r, into_u, into_n], dim=1)
        recurring = torch.cat([into_r, into_u, into_n * r], dim=1)
        weights = entering.T @ x, recurring.T @ h, entering.sum(dim=0), recurring.sum(dim=0)
        return entering @ w_in, None, *weights


def gru_step(x: Tensor, h: Tensor, cell: tuple[Tensor, ...]) -> Tensor:
    """torch.gru_cell with a leaner gradient, and none into `h`."""
    state: Tensor = _Step.apply(x, h, *cell)  # type: ignore[no-untyped-call]
    return state


def advance_waves(cell: tuple[Tensor, ...], x: Tensor, h: Tensor, waves: Waves) -> tuple[Tensor, Tensor]:
    """Step the users' states through the sets of a cut.

    Parameters
    ----------
    cell : input weights (3d, x), recurrent weights (3d, d), two biases (3d,)
    x : (S, x) inputs of the sets
    h : (U, d) states of `waves.users` before their first set; changed in place
    waves : the packing

    Returns
    -------
    tuple of (S, d)
        States before and after every set.
    """
    before = torch.empty((len(waves.order), h.shape[1]), dtype=h.dtype, device=h.device)
    after = torch.empty_like(before)
    order = torch.from_numpy(waves.order).to(h.device)
    packed = x[order]
    wide = sum(n >= FEW or h.device.type != "cpu" for n in waves.sizes)
    at = 0
    for n in waves.sizes[:wide]:
        here = order[at : at + n]
        before[here] = h[:n]
        h[:n] = torch.gru_cell(packed[at : at + n], h[:n], *cell)
        after[here] = h[:n]
        at += n
    if wide < len(waves.sizes):
        entering = torch.addmm(cell[2], packed[at:], cell[0].T)
        arrays = (entering, cell[1].T.contiguous(), cell[3], h, before, after, torch.empty_like(cell[3]))
        sizes = np.array(waves.sizes[wide:], np.int64)
        _step_through(sizes, waves.order[at:], *(array.detach().numpy() for array in arrays))
    return before, after


@kernel
def _step_through(
    sizes: Ints, order: Ints, entering: Floats32, recur: Floats32, bias: Floats32,
    h: Floats32, before: Floats32, after: Floats32, said: Floats32,
) -> None:  # fmt: skip
    """Step the first users of h (U, d) through narrow waves, one set at a time.

    `entering` (T, 3d) is the input's part of the gates, `recur` (d, 3d) the weights that the state meets.
    """
    d, one, t = h.shape[1], np.float32(1.0), 0
    for n in sizes:
        for i in range(n):
            for j in range(3 * d):
                said[j] = bias[j]
            for k in range(d):
                part = h[i, k]
                for j in range(3 * d):
                    said[j] += part * recur[k, j]
            for j in range(d):
                before[order[t], j] = h[i, j]
                r = one / (one + np.exp(-(entering[t, j] + said[j])))
                u = one / (one + np.exp(-(entering[t, d + j] + said[d + j])))
                fresh = np.tanh(entering[t, 2 * d + j] + r * said[2 * d + j])
                h[i, j] = fresh + u * (h[i, j] - fresh)
                after[order[t], j] = h[i, j]
            t += 1
