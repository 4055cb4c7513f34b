"""Heads of a torch model: a log-normal mixture with an exponential part and a defect, and marks.

    S(s) = Σ_c w_c Φ((μ_c − ln s)/σ_c) + w_e e^{−λ s} + w_d          Σ w_c + w_e + w_d = 1
    f(s) = Σ_c w_c φ((ln s − μ_c)/σ_c)/(σ_c s) + w_e λ e^{−λ s}       h = f / S,  Λ = −ln S

The exponential part keeps the hazard positive at s = 0 and the defect w_d is P(never again). The
network speaks in units of the stream's own log-gaps (mean m, deviation q): μ = m + q(base + raw),
ln λ = −m + q raw, ln σ = ln q + raw, so that one initial weight suits seconds and months alike.
Everything after the raw numbers is float64: the open time that a cut adds to a long wait is a tiny
difference of Λ.

Source: Shchur et al. (2020), arXiv 1909.12127; the cure part: Boag (1949), J. R. Stat. Soc. B 11.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrec.arrays import Floats

SHORTEST_S = 1e-12
"""Positive times below count as this."""

NARROWEST = 0.02
"""Least deviation of a component in ln s, so that no spike sits on a grid of recorded times."""


class Mixture(NamedTuple):
    """Parameters of N mixtures in float64: logs of the weights, centres, deviations and rates."""

    log_weight: Tensor
    mu: Tensor
    sigma: Tensor
    log_exponential: Tensor
    log_rate: Tensor
    log_defect: Tensor

    def at(self, index: Tensor) -> "Mixture":
        """The mixtures of those rows."""
        return Mixture(*(part[index] for part in self))


def raw_width(components: int) -> int:
    """Numbers that the network gives for one mixture: the width of the law."""
    return 3 * components + 3


def raw_bias(components: int) -> Floats:
    """Raw numbers with which a stream begins: broad, with a defect of 12 %."""
    narrower = np.full(components, -0.5)
    return np.concatenate([np.zeros(2 * components + 1), narrower, [0.0, -2.0]])


def parameters(raw: Tensor, mean: float, deviation: float) -> Tensor:
    """Rows of `waiting.log_normal.LogNormalMixture` out of raw numbers (N, 3C + 3), float64.

    C + 1 log-weights, C values μ, C values ln σ, ln λ, logit of the defect.
    """
    raw = raw.double().clamp(-12.0, 12.0)
    c = (raw.shape[1] - 3) // 3
    base = torch.linspace(-1.5, 1.5, c, dtype=torch.float64, device=raw.device)
    mu = (mean + deviation * (base + raw[:, c + 1 : 2 * c + 1])).clamp(-40.0, 40.0)
    sigma = NARROWEST + deviation * raw[:, 2 * c + 1 : 3 * c + 1].clamp(-6.0, 1.5).exp()
    log_rate = (deviation * raw[:, 3 * c + 1 : 3 * c + 2] - mean).clamp(-40.0, 40.0)
    return torch.cat([raw[:, : c + 1], mu, sigma.log(), log_rate, raw[:, 3 * c + 2 :]], dim=1)


def mixture(params: Tensor) -> Mixture:
    """The mixtures that rows of parameters (N, 3C + 3) stand for."""
    c = (params.shape[1] - 3) // 3
    defect = params[:, 3 * c + 2]
    alive = torch.nn.functional.logsigmoid(-defect)[:, None]
    log_w = torch.log_softmax(params[:, : c + 1], dim=1) + alive
    return Mixture(
        log_w[:, :c],
        params[:, c + 1 : 2 * c + 1],
        params[:, 2 * c + 1 : 3 * c + 1].exp(),
        log_w[:, c],
        params[:, 3 * c + 1],
        torch.nn.functional.logsigmoid(defect),
    )


def log_survival(mix: Mixture, s: Tensor) -> Tensor:
    """ln S(s), (N,); exactly 0 at s = 0.

    The defect's weight keeps the sum away from zero, so it needs no log-sum-exp.
    """
    begun, s = s > 0.0, s.clamp(min=SHORTEST_S)
    z = (s.log()[:, None] - mix.mu) / mix.sigma
    normal = (mix.log_weight.exp() * torch.erfc(z * 0.7071067811865476)).sum(dim=1) * 0.5
    exponential = (mix.log_exponential - mix.log_rate.exp() * s).exp()
    return (normal + exponential + mix.log_defect.exp()).log() * begun


def log_density(mix: Mixture, s: Tensor) -> Tensor:
    """ln f(s), (N,), in 1/s."""
    s = s.clamp(min=SHORTEST_S)
    log_s = s.log()
    z = (log_s[:, None] - mix.mu) / mix.sigma
    normal = mix.log_weight - 0.5 * z * z - mix.sigma.log() - log_s[:, None] - 0.9189385332046727
    exponential = mix.log_exponential + mix.log_rate - mix.log_rate.exp() * s
    return torch.logsumexp(torch.cat([normal, exponential[:, None]], dim=1), dim=1)


def log_hazard(mix: Mixture, s: Tensor) -> Tensor:
    """ln h(s), (N,), in 1/s."""
    return log_density(mix, s) - log_survival(mix, s)


def compensator(mix: Mixture, a: Tensor, b: Tensor) -> Tensor:
    """Λ(b) − Λ(a), (N,)."""
    return log_survival(mix, a) - log_survival(mix, b)
