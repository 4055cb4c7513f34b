"""The dense part of the recurrent expert: cell, waiting head, and the losses of a cut.

x → GRU → h;   (raw, gain) = h · head + head_bias;   raw → law parameters
logits = h · leave + prior + gain on the marks of the set before
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrec.arrays import Bools, Floats, Floats32, Ints, Ints32
from streamrec.nn import heads
from streamrec.nn.fused import law_rows, waiting_loss
from streamrec.nn.gru import GAP_FEATURES, gru_step, mean_embedding
from streamrec.nn.hazard import Pieces, generator
from streamrec.nn.log_gaps import LogGaps
from streamrec.nn.optim import FlatWeights

STEEPEST = 5.0
"""Norm to which the dense gradient is clipped."""

FIRST_WEIGHTS = 2**63
"""Serial from which the first weights are drawn; no cut has it."""


class Work(NamedTuple):
    """One cut as the loss sees it: N waits (of its users, of its sets, of sampled users) and what names them.

    Parameters
    ----------
    h : (N, d) state before the set that opened the wait
    ids : (N, ·) marks of that set, -1 for none
    features : (N, GAP_FEATURES) of the gap before that set
    blank : (N,) there was no such set
    arrival : (S,) wait that each set ended
    events, event_s : (E,) waits whose ending is scored, and how long they were
    pieces : what is charged
    candidates, offset : (C,) marks of the softmax and what is added to their logits
    target_set, target : (T,) set of a mark and its place among the candidates
    again_set, again : (R,) candidates that were in the user's set before, no pair twice
    moved : some partition's clock moved
    """

    h: Tensor
    ids: Ints32
    features: Floats32
    blank: Bools
    arrival: Ints
    events: Ints
    event_s: Floats
    pieces: Pieces
    candidates: Ints
    offset: Floats32
    target_set: Ints
    target: Ints
    again_set: Ints
    again: Ints
    moved: bool


class Network:
    """Cell and waiting head with their weights.

    Parameters
    ----------
    width : d
    embedding : width of a mark's embedding
    components : log-normals of the law
    seed : of the first weights
    """

    def __init__(self, width: int, embedding: int, components: int, seed: int) -> None:
        self.components = components
        self.gaps = LogGaps()
        self.weights = FlatWeights(first_weights(width, embedding + GAP_FEATURES, components, seed))
        self.carried = torch.zeros_like(self.weights.flat)
        self.carried_sets = 0.0

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.weights.flat.device

    def cell_weights(self) -> tuple[Tensor, ...]:
        """What torch.gru_cell takes after input and state."""
        return tuple(self.weights[name] for name in ("in", "recur", "in_bias", "recur_bias"))

    def states(self, x: Tensor, h: Tensor, blank: Bools) -> Tensor:
        """States after the sets that opened N waits; zero where there was none, (N, d)."""
        there = torch.from_numpy((~blank).astype(np.float32))[:, None].to(x.device)
        return gru_step(x, h, self.cell_weights()) * there

    def inputs(self, ids: Ints32, features: Floats32, rows: Tensor) -> Tensor:
        """What enters the cell: mean of the rows that `ids` name, and the gap's features."""
        return torch.cat([mean_embedding(rows, ids), torch.from_numpy(features).to(rows.device)], dim=1)

    @property
    def unit(self) -> tuple[float, float]:
        """Mean and deviation of the log-gaps."""
        return self.gaps.mean, self.gaps.deviation

    def said(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Raw numbers of the waiting law, (N, 3C + 3), and what a mark of the last set gains, (N,)."""
        head = torch.addmm(self.weights["head_bias"], states, self.weights["head"])
        return head[:, :-1].contiguous(), head[:, -1]

    def parameters(self, states: Tensor) -> Floats:
        """Rows of the waiting law, (N, 3C + 3) float64."""
        return law_rows(self.said(states)[0].cpu().numpy(), *self.unit)

    def sound_parameters(self, states: Tensor) -> Floats:
        """The same, with the law of the first bias where a row is not finite."""
        params = self.parameters(states)
        if np.isfinite(params.sum()):
            return params
        plain = law_rows(heads.raw_bias(self.components).astype(np.float32)[None], *self.unit)
        return np.where(np.isfinite(params).all(axis=1, keepdims=True), params, plain)

    def losses(self, work: Work, enter: Tensor, leave: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Summed waiting loss of the cut, and −ln p of each target among the candidates.

        Parameters
        ----------
        work : the cut; its ids are indices into `enter`
        enter, leave, bias : rows of the marks
        """
        states = self.states(self.inputs(work.ids, work.features, enter), work.h, work.blank)
        raw, gain = self.said(states)
        waiting = waiting_loss(raw, self.unit, work.pieces, work.events, work.event_s)
        arrival, target_set, target, again_set, again = (
            torch.from_numpy(index).to(self.device)
            for index in (work.arrival, work.target_set, work.target, work.again_set, work.again)
        )
        offset = torch.from_numpy(work.offset).to(self.device)
        logits = torch.addmm(offset + bias, states.index_select(0, arrival), leave.T)
        gained = gain.index_select(0, arrival).index_select(0, again_set)
        logits = logits.index_put((again_set, again), gained, accumulate=True)
        log_p = torch.log_softmax(logits, dim=1).index_select(0, target_set)
        return waiting, -log_p.gather(1, target[:, None])[:, 0]

    def backward(self, waiting: Tensor, marks: Tensor, sets: int, moved: bool) -> None:
        """Leave the gradient of the mean loss per set; carry the waiting part if time stood still."""
        gradient = self.weights.gradient
        gradient.zero_()
        if moved:
            all_sets = sets + self.carried_sets
            torch.autograd.backward([waiting / all_sets + marks / sets])
            gradient.add_(self.carried, alpha=1.0 / all_sets)
            self.drop_carried()
            return
        torch.autograd.backward([waiting / sets], retain_graph=True)
        self.carried.add_(gradient, alpha=float(sets))
        self.carried_sets += sets
        gradient.zero_()
        torch.autograd.backward([marks / sets])

    def drop_carried(self) -> None:
        """Nothing is carried any more."""
        self.carried.zero_()
        self.carried_sets = 0.0

    def steepness(self) -> float:
        """Norm of the dense gradient."""
        return float(torch.linalg.vector_norm(self.weights.gradient))


def first_weights(width: int, inputs: int, components: int, seed: int) -> dict[str, Floats32]:
    """Weights by name to begin with, a function of the seed."""
    random = generator(seed, FIRST_WEIGHTS)

    def uniform(*shape: int) -> Floats32:
        values: Floats32 = (random.uniform(-1, 1, shape) * width**-0.5).astype(np.float32)
        return values

    return {
        "in": uniform(3 * width, inputs),
        "recur": uniform(3 * width, width),
        "in_bias": np.zeros(3 * width, np.float32),
        "recur_bias": np.zeros(3 * width, np.float32),
        "head": uniform(width, heads.raw_width(components) + 1) * np.float32(0.1),
        "head_bias": np.append(heads.raw_bias(components), 0.0).astype(np.float32),
    }
