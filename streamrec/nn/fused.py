"""The waiting loss of a cut and its gradient in one pass, by hand.

    L = Σ pieces  weight [ln S(a) − ln S(b)]  −  Σ events  ln h(s)

over rows of law parameters (waiting/log_normal.py). With T_k the survival of part k, w its weight among
those who come back, d the defect, S0 = Σ w T, S = d + (1 − d) S0, and z = (ln s − μ)/σ:

    ∂ln S = (1 − d)/S · ∂S0      ∂S0/∂logit_k = w_k (T_k − S0)    ∂S0/∂μ = w φ(z)/σ    ∂S0/∂ln σ = w φ(z) z
                                 ∂S0/∂ln r = −w_e r s e^{−rs}     ∂ln S/∂logit d = d (1 − d)(1 − S0)/S
    ∂ln f/∂logit_k = ρ_k − w_k   ∂μ: ρ z/σ   ∂ln σ: ρ (z² − 1)    ∂ln r: ρ_e (1 − r s)    ∂logit d: −d

with ρ_k the share of part k in the density. Autograd of nn/heads.py is the oracle in the tests; on other
devices than the CPU it is what runs.
"""

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from streamrec.arrays import Floats, Floats32, Ints
from streamrec.nn import heads
from streamrec.nn.hazard import Pieces
from streamrec.nn.heads import NARROWEST

Unit = tuple[float, float]
"""Mean and deviation of the stream's log-gaps."""

EULER = 0.5772156649015329
_ROOT_HALF = math.sqrt(0.5)
_ROOT_TAU_INVERSE = 1.0 / math.sqrt(2.0 * math.pi)
_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@njit(cache=True)
def _derived(p: Floats, out: Floats) -> None:
    """Weights, 1/σ, rate, defect and 1 − defect of one law, in the places of what they come from."""
    c = (len(p) - 3) // 3
    top, total = p[: c + 1].max(), 0.0
    for k in range(c + 1):
        out[k] = math.exp(p[k] - top)
        total += out[k]
    for k in range(c + 1):
        out[k] /= total
    for k in range(c):
        out[2 * c + 1 + k] = math.exp(-p[2 * c + 1 + k])
    out[3 * c + 1] = math.exp(p[3 * c + 1])
    out[3 * c + 2] = 1.0 / (1.0 + math.exp(-p[3 * c + 2]))
    out[3 * c + 3] = 1.0 / (1.0 + math.exp(p[3 * c + 2]))


@njit(cache=True)
def _add_log_survival(p: Floats, q: Floats, s: float, factor: float, grad: Floats, upper: Floats) -> float:
    """ln S(s) of one law p with `_derived` q; adds factor times its gradient to `grad`."""
    c = (len(p) - 3) // 3
    s = max(s, 1e-12)
    log_s, rate, defect, alive = math.log(s), q[3 * c + 1], q[3 * c + 2], q[3 * c + 3]
    late = math.exp(-rate * s)
    s0 = q[c] * late
    for k in range(c):
        upper[k] = 0.5 * math.erfc((log_s - p[c + 1 + k]) * q[2 * c + 1 + k] * _ROOT_HALF)
        s0 += q[k] * upper[k]
    total = defect + alive * s0
    scale = factor * alive / total
    for k in range(c):
        z = (log_s - p[c + 1 + k]) * q[2 * c + 1 + k]
        bell = q[k] * _ROOT_TAU_INVERSE * math.exp(-0.5 * z * z)
        grad[k] += scale * q[k] * (upper[k] - s0)
        grad[c + 1 + k] += scale * bell * q[2 * c + 1 + k]
        grad[2 * c + 1 + k] += scale * bell * z
    grad[c] += scale * q[c] * (late - s0)
    grad[3 * c + 1] -= scale * q[c] * rate * s * late
    grad[3 * c + 2] += factor * defect * alive * (1.0 - s0) / total
    return math.log(total)


@njit(cache=True)
def _add_log_density(p: Floats, q: Floats, s: float, factor: float, grad: Floats, term: Floats) -> float:
    """ln f(s) of one law p with `_derived` q; adds factor times its gradient to `grad`."""
    c = (len(p) - 3) // 3
    s = max(s, 1e-12)
    log_s, rate = math.log(s), q[3 * c + 1]
    for k in range(c):
        z = (log_s - p[c + 1 + k]) * q[2 * c + 1 + k]
        term[k] = math.log(q[k]) - 0.5 * z * z - p[2 * c + 1 + k] - log_s - _LOG_ROOT_TAU
    term[c] = math.log(q[c]) + p[3 * c + 1] - rate * s
    top, total = term.max(), 0.0
    for k in range(c + 1):
        term[k] = math.exp(term[k] - top)
        total += term[k]
    for k in range(c):
        share = factor * term[k] / total
        z = (log_s - p[c + 1 + k]) * q[2 * c + 1 + k]
        grad[k] += share - factor * q[k]
        grad[c + 1 + k] += share * z * q[2 * c + 1 + k]
        grad[2 * c + 1 + k] += share * (z * z - 1.0)
    share = factor * term[c] / total
    grad[c] += share - factor * q[c]
    grad[3 * c + 1] += share * (1.0 - rate * s)
    grad[3 * c + 2] -= factor * q[3 * c + 2]
    return float(top + math.log(total) + math.log(q[3 * c + 3]))


@njit(cache=True)
def loss_and_gradient(
    params: Floats, wait: Ints, a: Floats, b: Floats, weight: Floats, events: Ints, s: Floats
) -> tuple[float, Floats]:
    """Loss, and its gradient with respect to `params` (N, 3C + 3)."""
    n, width = params.shape
    grad, derived, scratch = np.zeros((n, width)), np.empty((n, width + 1)), np.empty(width // 3)
    for i in range(n):
        _derived(params[i], derived[i])
    loss = 0.0
    for j in range(len(wait)):
        i, f = wait[j], weight[j]
        if a[j] > 0.0:
            loss += f * _add_log_survival(params[i], derived[i], a[j], f, grad[i], scratch)
        loss -= f * _add_log_survival(params[i], derived[i], b[j], -f, grad[i], scratch)
    for j in range(len(events)):
        i = events[j]
        loss -= _add_log_density(params[i], derived[i], s[j], -1.0, grad[i], scratch)
        loss += _add_log_survival(params[i], derived[i], s[j], 1.0, grad[i], scratch)
    return loss, grad


@njit(cache=True)
def law_rows(raw: Floats32, mean: float, deviation: float) -> Floats:
    """Rows of the law out of the network's raw numbers (N, 3C + 3): `heads.parameters` in one pass."""
    n, width = raw.shape
    c = (width - 3) // 3
    params = np.empty((n, width))
    for i in range(n):
        for j in range(width):
            x = min(max(float(raw[i, j]), -12.0), 12.0)
            if c < j <= 2 * c:
                base = -1.5 + 3.0 * (j - c - 1) / (c - 1) if c > 1 else -1.5
                x = min(max(mean + deviation * (base + x), -40.0), 40.0)
            elif 2 * c < j <= 3 * c:
                x = math.log(NARROWEST + deviation * math.exp(min(max(x, -6.0), 1.5)))
            elif j == 3 * c + 1:
                x = min(max(deviation * x - mean, -40.0), 40.0)
            params[i, j] = x if raw[i, j] == raw[i, j] else np.nan
    return params


@njit(cache=True)
def _to_raw(raw: Floats32, params: Floats, grad: Floats, deviation: float) -> None:
    """Turn a gradient with respect to the law's rows into one with respect to the raw numbers."""
    n, width = raw.shape
    c = (width - 3) // 3
    for i in range(n):
        for j in range(width):
            x = raw[i, j]
            if x < -12.0 or x > 12.0:
                grad[i, j] = 0.0
            elif 2 * c < j <= 3 * c:
                flat = x < -6.0 or x > 1.5
                grad[i, j] *= 0.0 if flat else 1.0 - NARROWEST * math.exp(-params[i, j])
            elif c < j <= 2 * c or j == 3 * c + 1:
                grad[i, j] *= deviation if abs(params[i, j]) < 40.0 else 0.0


@njit(cache=True)
def idle_edge(params: Floats) -> Floats:
    """About the 95 % quantile of the waiting time given that it ends, seconds, (N,).

    The normal approximation in ln s; only a boundary between strata, so any function of the past does.
    """
    n, width = params.shape
    c = (width - 3) // 3
    edge = np.empty(n)
    for i in range(n):
        top, total, mean, square = params[i, : c + 1].max(), 0.0, 0.0, 0.0
        for k in range(c + 1):
            w = math.exp(params[i, k] - top)
            centre = params[i, c + 1 + k] if k < c else -params[i, 3 * c + 1] - EULER
            spread = math.exp(2.0 * params[i, 2 * c + 1 + k]) if k < c else math.pi**2 / 6.0
            total += w
            mean += w * centre
            square += w * (spread + centre * centre)
        mean /= total
        spread = math.sqrt(max(square / total - mean * mean, 0.0))
        edge[i] = math.exp(min(max(mean + 1.6449 * spread, -60.0), 60.0))
    return edge


class _Fused(torch.autograd.Function):
    """The loss as a node of autograd whose gradient was made on the way."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, unit: Unit, pieces: Pieces, events: Ints, s: Floats) -> Tensor:
        """Loss as a scalar."""
        numbers = raw.detach().numpy()
        params = law_rows(numbers, *unit)
        loss, gradient = loss_and_gradient(params, *pieces, events, s)
        _to_raw(numbers, params, gradient, unit[1])
        ctx.save_for_backward(torch.from_numpy(gradient.astype(np.float32)))
        return torch.tensor(loss, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient with respect to the raw numbers."""
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0], None, None, None, None


def waiting_loss(raw: Tensor, unit: Unit, pieces: Pieces, events: Ints, s: Floats) -> Tensor:
    """Charge of the pieces minus the log-hazards of the events, summed over the cut.

    Parameters
    ----------
    raw : (N, 3C + 3) float32, the network's numbers
    unit : mean and deviation of the log-gaps
    pieces : with `wait` an index into raw
    events : (E,) index into raw
    s : (E,) seconds at which they ended
    """
    if raw.device.type == "cpu":
        loss: Tensor = _Fused.apply(raw, unit, pieces, events, s)  # type: ignore[no-untyped-call]
        return loss
    return plain_waiting_loss(raw, unit, pieces, events, s)


def plain_waiting_loss(raw: Tensor, unit: Unit, pieces: Pieces, events: Ints, s: Floats) -> Tensor:
    """The same by autograd."""
    mix = heads.mixture(heads.parameters(raw, *unit))
    wait, a, b, weight, ended, at = (
        torch.from_numpy(np.ascontiguousarray(part)).to(raw.device) for part in (*pieces, events, s)
    )
    charge = (heads.compensator(mix.at(wait), a, b) * weight).sum()
    return charge - heads.log_hazard(mix.at(ended), at).sum()
