"""What the neural expert is compared with: per-event loops that forecast an event, then learn it.

    TorchLoop   the same model, one event at a time: GRU of width 64, the same heads, one step of Adam
    RiverLoop   a classifier of river on (last mark, mark before, half decade of the gap); marks only

The torch loop charges an event for its own wait alone, not for sampled open users: less work than the
neural expert does, in favour of the loop.
"""

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from streamrec.batch import gap_bucket
from streamrec.event import Event
from streamrec.nn import heads
from streamrec.nn.gru import GAP_FEATURES, gap_features

WIDTH, EMBEDDING, COMPONENTS, TOP = 64, 32, 8, 10


class Scores(NamedTuple):
    """Sums over n events, the first of a user left out: hits at 1, ln p of marks, ln f of waits."""

    n: int = 0
    hits: float = 0.0
    log_p: float = 0.0
    log_f: float = 0.0

    def plus(self, hit: float, log_p: float, log_f: float, n: int = 1) -> "Scores":
        """With one more event, or with the sums of n."""
        return Scores(self.n + n, self.hits + hit, self.log_p + log_p, self.log_f + log_f)

    def means(self) -> dict[str, float]:
        """Per event."""
        n = max(self.n, 1)
        return {"accuracy": self.hits / n, "ln_p_mark": self.log_p / n, "ln_f_wait": self.log_f / n}


class Learner(Protocol):
    """Forecasts events, then learns them."""

    scores: Scores

    def take(self, events: list[Event]) -> None:
        """Test, then train, event by event or cut by cut."""
        ...


class _Net(nn.Module):
    def __init__(self, marks: int) -> None:
        super().__init__()
        self.enter = nn.Embedding(marks, EMBEDDING)
        self.cell = nn.GRUCell(EMBEDDING + GAP_FEATURES, WIDTH)
        self.wait = nn.Linear(WIDTH, heads.raw_width(COMPONENTS))
        self.leave = nn.Linear(WIDTH, marks)
        bias = torch.from_numpy(heads.raw_bias(COMPONENTS).astype(np.float32))
        self.wait.bias.data.copy_(bias)

    def forward(self, mark: Tensor, features: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.cell(torch.cat([self.enter(mark), features], dim=1), h)
        return h, self.wait(h), self.leave(h)


class _User(NamedTuple):
    h: Tensor
    mark: Tensor
    features: Tensor
    time: float


class TorchLoop:
    """A torch user's first version of a neural point process on a stream."""

    def __init__(self, marks: int, log_gap: tuple[float, float], rate: float = 2e-3) -> None:
        torch.manual_seed(0)
        self.net, self.log_gap, self.scores = _Net(marks), log_gap, Scores()
        self.adam = torch.optim.Adam(self.net.parameters(), lr=rate)
        self.users: dict[str, _User] = {}
        self.issued: dict[str, tuple[Tensor, Tensor]] = {}

    def take(self, events: list[Event]) -> None:
        """One optimiser step for each event; then its forecast of the next is issued."""
        for event in events:
            self._learn(event)

    def _learn(self, event: Event) -> None:
        mark, last = int(event.mark[1:]), self.users.get(event.user)
        h = torch.zeros(1, WIDTH)
        gap = math.nan
        if last is not None:
            gap = max(event.time - last.time, 1e-6)
            h, raw, logits = self.net(last.mark, last.features, last.h)
            mix = heads.mixture(heads.parameters(raw, *self.log_gap))
            log_p, log_f = torch.log_softmax(logits, dim=1), heads.log_density(mix, torch.tensor([gap]))
            loss = -log_p[0, mark] - log_f[0]
            self.adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.adam.step()
            hit = float(torch.topk(log_p, TOP).indices[0, 0] == mark)
            self.scores = self.scores.plus(hit, float(log_p[0, mark].detach()), float(log_f[0].detach()))
        features = torch.from_numpy(gap_features(np.array([gap]), *self.log_gap, 1e-6))
        user = _User(h.detach(), torch.tensor([mark]), features, event.time)
        self.users[event.user] = user
        with torch.no_grad():
            _, raw, logits = self.net(user.mark, user.features, user.h)
            self.issued[event.user] = raw, torch.topk(logits, TOP).indices


class RiverLoop:
    """One of river's classifiers, fed as its manual says."""

    def __init__(self, model: Any) -> None:
        self.model, self.scores = model, Scores()
        self.users: dict[str, tuple[str, str, float]] = {}

    def take(self, events: list[Event]) -> None:
        """predict_proba_one, then learn_one."""
        for event in events:
            last, before, then = self.users.get(event.user, ("", "", math.nan))
            if last:
                x = _features(last, before, event.time - then)
                p = self.model.predict_proba_one(x)
                hit = bool(p) and max(p, key=p.__getitem__) == event.mark
                log_p = math.log(max(p.get(event.mark, 0.0), 1e-6))
                self.scores = self.scores.plus(float(hit), log_p, math.nan)
                self.model.learn_one(x, event.mark)
            self.users[event.user] = event.mark, last, event.time


def _features(last: str, before: str, gap: float) -> dict[str, float]:
    bucket = int(gap_bucket(np.array([gap]))[0])
    return {f"last={last}": 1.0, f"before={before}": 1.0, f"gap={bucket}": 1.0}
