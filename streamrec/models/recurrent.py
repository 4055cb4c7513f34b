"""A recurrent marked point process, learned online: what comes next and when, from one state per user.

    h_n   = GRU(h_{n-1}, [marks of set n, gap before it])
    when  S(s | h_n): log-normal mixture with an exponential part and a defect     (nn/heads.py)
    what  p(i | h_n) ∝ count_i exp(h_n · leave_i + bias_i + g(h_n) 1[i in set n])      (nn/mark_head.py)

A user's row holds the state *before* its last set, and that set's marks and gap (lazy update): the cell
is applied to it when the row is asked next, so that every set costs one recorded step, and the recurrent
weights get a gradient through it (truncated after one step) without a replay of the past. Learning
therefore needs no waves: all sets of a cut and all sampled users are one batch.

The loss of a cut is Σ over its sets of [−ln h(dt)] + the charge of nn/hazard.py + Σ −ln p(mark).
Minus the log-density of the gaps that ended, on stored states, is *not* a loss that may be used: states
carry the fingerprint of the weights that wrote them, the newest weights learn to read their age from it,
and the score at arrival beats the truth while the issued forecasts become useless. If a cut moves no
partition's clock, the dense gradient of its waiting terms is carried to the next that does.

A gap of zero counts as half the smallest positive gap seen (1e-6 s before any) wherever a logarithm is
taken.

Cost of an event, cuts of 128, d = 64, one core of a shared machine (median; best cut): 50; 41 µs with 100
marks, 125; 81 µs with 1,682. Shares with 100 marks: backward pass 23 %, forward pass of the loss 23 % (a
third of it the waiting loss), stepping through the waves 14 %, arrays of the loss and drawing users 10 %,
logits and lists 9 %, optimisers and finiteness 8 %, writing rows 3 %. Half of the rows that learning steps
through are the M sampled users.

Source: Shchur et al. (2020), arXiv 1909.12127 (IFTPP). Departures: hazard loss over all open users,
exponential part, defect, one-step truncation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrec.arrays import Array, Bools, Floats, Floats32, Ints, Ints32
from streamrec.batch import Batch
from streamrec.errors import InvariantError
from streamrec.models.base import Context, Walk
from streamrec.nn import hazard
from streamrec.nn.fused import idle_edge
from streamrec.nn.gru import advance_waves, gap_features
from streamrec.nn.hazard import Opened, Pieces, Sample
from streamrec.nn.mark_head import MarkTable, halves, lists, named_among, softmax_candidates
from streamrec.nn.network import STEEPEST, Network, Work
from streamrec.nn.packing import Waves, grown, known_after, pack, running_clock, set_inputs, set_of_mark
from streamrec.nn.threads import pin_threads
from streamrec.state.columns import Column, Columns
from streamrec.waiting.log_normal import LogNormalMixture

SET_MARKS = 8
"""Marks that stand for a set; a larger one is represented by those of smallest hash."""

AWAKE_AFTER = 20
COPY_EVERY = 1000
ROLL_BACK_AFTER = 3

COUNTERS = ("cuts", "rows", "skipped", "streak", "rolled_back")
"""Cuts learned, rows ever used, updates skipped in all and in a row, returns to the copy."""


class Trace(NamedTuple):
    """What `walk` leaves for `learn`: W = U + S waits, those of the cut's users and those its sets open.

    Parameters
    ----------
    serial : of the batch
    waves : its packing
    h : (W, d) state before the set that opened the wait
    ids : (W, SET_MARKS) marks of that set
    features : (W, GAP_FEATURES) of the gap before that set
    blank : (W,) there was no such set: a new user
    opened : when and where the waits began
    arrival : (S,) the wait that each set ended
    """

    serial: int
    waves: Waves
    h: Tensor
    ids: Ints32
    features: Floats32
    blank: Bools
    opened: Opened
    arrival: Ints


class Recurrent:
    """GRU with a log-normal-mixture head for the time and a softmax for the marks.

    Parameters
    ----------
    context : name, arena, number of backgrounds, seed
    width : d, size of a user's state
    embedding : width of a mark's embedding
    components : log-normals in the mixture
    rate : step of Adam for the dense weights
    table_rate : step of row-wise Adagrad for the marks' rows
    sampled : M, open users charged per cut beside the cut's own
    max_idle_s : a user who waits longer is no longer at risk; that of the risk queue by default

    Examples
    --------
    >>> arena = Columns(4, {})
    >>> model = Recurrent(Context("recurrent", arena, n_backgrounds=1, seed=0), width=8, components=2)
    >>> arena["recurrent.h"].shape, model.law.width, model.awake
    ((4, 8), 9, False)
    """

    gives_marks = True

    def __init__(
        self, context: Context, width: int = 64, embedding: int = 32, components: int = 8,
        rate: float = 6e-3, table_rate: float = 0.1, sampled: int = 256, max_idle_s: float | None = None,
    ) -> None:  # fmt: skip
        pin_threads()
        self.name, self.arena, self.seed = context.name, context.arena, context.seed
        self.n_backgrounds = context.n_backgrounds
        self.rate, self.table_rate, self.sampled = rate, table_rate, sampled
        idle = getattr(context.risk, "max_idle_s", np.inf) if max_idle_s is None else max_idle_s
        self.max_idle_s = float(idle)
        self.law = LogNormalMixture(components)
        self.marks = MarkTable(embedding, width, context.seed)
        self.network = Network(width, embedding, components, context.seed)
        self.counters = np.zeros(len(COUNTERS), np.int64)
        self.mark_losses = np.zeros(2)  # running means: the network's, popularity's
        self.clock = np.full(1, -np.inf)
        self.charged = np.full(1, -np.inf)
        self._trace: Trace | None = None
        for column, spec in _columns(width).items():
            self.arena.add(f"{self.name}.{column}", spec)

    def tables(self) -> Mapping[str, Columns]:
        """The rows of the marks; the users' rows are the arena's."""
        return {f"{self.name}.marks": self.marks.columns}

    def scalars(self) -> Mapping[str, Array]:
        """Weights, moments, copy, clocks, statistics and counters."""
        net = self.network
        own: dict[str, Array] = {"clock": self.clock.copy(), "charged": self.charged.copy()}
        own |= {"counters": self.counters.copy(), "mark_losses": self.mark_losses.copy()}
        own |= {"gaps": net.gaps.state.copy(), "carried": net.carried.cpu().numpy().copy()}
        return {**net.weights.scalars(), **own, "carried_sets": np.array(net.carried_sets)}

    def load_scalars(self, arrays: Mapping[str, Array]) -> None:
        """Take back what `scalars` gave."""
        net = self.network
        net.weights.load_scalars(arrays)
        net.carried.copy_(torch.from_numpy(np.asarray(arrays["carried"])))
        net.carried_sets = float(arrays["carried_sets"])
        net.gaps.state[:] = arrays["gaps"]
        self.counters[:], self.mark_losses[:] = arrays["counters"], arrays["mark_losses"]
        self.clock, self.charged = arrays["clock"].copy(), arrays["charged"].copy()
        self._trace = None

    def counter(self, name: str) -> int:
        """One of COUNTERS."""
        return int(self.counters[COUNTERS.index(name)])

    @property
    def awake(self) -> bool:
        """Twenty cuts are learned, the last update was sound, and marks cost at most popularity + 0.5."""
        settled = self.counter("cuts") >= AWAKE_AFTER and self.counter("streak") == 0
        return bool(settled and self.mark_losses[0] <= self.mark_losses[1] + 0.5)

    def remap_marks(self, new_id: Ints) -> None:
        """Move the marks' rows, and rename them where they are a user's last input."""
        self.marks.remap(new_id)
        column, n = self._column("ids"), self.counter("rows")
        ids = column[:n]
        renamed = np.where(ids >= 0, new_id[np.maximum(ids, 0)], -1).astype(np.int32)
        changed = np.flatnonzero((renamed != ids).any(axis=1))
        column[changed] = renamed[changed]
        self.arena.touched[changed] = 1

    def walk(self, batch: Batch) -> Walk:
        """Forecast every set of the cut in order with the weights as they stand, and let the rows go on."""
        if batch.n_sets == 0:
            return self._nothing()
        self.marks.fit(batch.hashes)
        n = int(batch.partition.max()) + 1
        self.clock, self.charged = grown(self.clock, n, -np.inf), grown(self.charged, n, -np.inf)
        with torch.no_grad():
            trace, states = self._advance(batch)
            wait = self.network.sound_parameters(states)
            logits = self._logits(states, trace.ids, batch.n_marks)
        self._trace = trace
        self._store(trace, wait, batch)
        issued = len(trace.waves.users) + np.arange(batch.n_sets)
        known = np.concatenate([batch.n_known, known_after(batch)])
        both = lists(logits, np.concatenate([trace.arrival, issued]), known, self.n_backgrounds)
        return Walk(*halves(both, batch.n_sets), wait[issued], wait[trace.arrival])

    def learn(self, batch: Batch) -> None:
        """One optimiser step for the cut that `walk` has just answered.

        Raises
        ------
        InvariantError
            If the cut was not walked before.
        """
        if batch.n_sets == 0:
            return
        trace, self._trace = self._trace, None
        if trace is None or trace.serial != batch.serial:
            raise InvariantError(
                f"{self.name}: cut {batch.serial} is to be learned, but the cut walked last is "
                f"{trace.serial if trace else 'none'}; call walk(batch) just before learn(batch)"
            )
        self._step(self._work(batch, trace, hazard.generator(self.seed, batch.serial)))
        self.marks.count(batch.mark)
        self.network.gaps.measure(batch.dt[batch.timed])
        self.charged = self.clock.copy()
        self.counters[0] += 1
        if self.counters[0] % COPY_EVERY == 0:
            self.network.weights.keep_copy()

    def _nothing(self) -> Walk:
        none = np.empty(0, np.int64)
        marks = lists(torch.zeros((0, 1)), none, none, self.n_backgrounds)
        return Walk(marks, marks, np.empty((0, self.law.width)), np.empty((0, self.law.width)))

    def _column(self, name: str) -> Array:
        column: Array = self.arena[f"{self.name}.{name}"]
        return column

    def _waits(self, rows: Ints | slice) -> Opened:
        return Opened(*(self._column(name)[rows] for name in Opened._fields))

    def _stored(self, rows: Ints) -> Tensor:
        """States of rows; what broken weights wrote there counts as zero."""
        h = self._column("h")[rows]
        if not np.isfinite(h.sum()):
            h = np.nan_to_num(h, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.from_numpy(h).to(self.network.device)

    def _features(self, dt: Array) -> Floats32:
        gaps = self.network.gaps
        return gap_features(dt.astype(np.float64), gaps.mean, gaps.deviation, gaps.floor)

    def _advance(self, batch: Batch) -> tuple[Trace, Tensor]:
        """Read the users' rows, step through the sets, and give the state after every wait's opening."""
        waves, net = pack(batch.row), self.network
        users, u = waves.users, len(waves.users)
        ids = np.concatenate(
            [self._column("ids")[users], set_inputs(batch.start, batch.mark, batch.hashes, SET_MARKS)]
        )
        features = np.concatenate([self._features(self._column("gap")[users]), self._features(batch.dt)])
        reached = running_clock(batch.partition, batch.time, self.clock)
        stored = self._waits(users)
        opened = Opened(
            np.concatenate([stored.last, batch.time]),
            np.concatenate([stored.since, reached]),
            np.concatenate([stored.partition, batch.partition]),
        )
        blank = np.isnan(opened.last)
        old = self._stored(users)
        x = net.inputs(ids, features, self.marks.tensor("enter", net.device))
        now = net.states(x[:u], old, blank[:u])
        before, after = advance_waves(net.cell_weights(), x[u:], now.clone(), waves)
        arrival = np.where(batch.previous >= 0, u + batch.previous, waves.slot)
        trace = Trace(batch.serial, waves, torch.cat([old, before]), ids, features, blank, opened, arrival)
        return trace, torch.cat([now, after])

    def _store(self, trace: Trace, params: Floats, batch: Batch) -> None:
        """Write the rows of the cut's users: the state before their last set, and that set."""
        users, last = trace.waves.users, trace.waves.last
        waits = len(users) + last
        self._column("h")[users] = trace.h[torch.from_numpy(waits)].cpu().numpy()
        self._column("ids")[users] = trace.ids[waits]
        self._column("gap")[users] = batch.dt[last]
        for name, column in trace.opened._asdict().items():
            self._column(name)[users] = column[waits]
        self._column("edge")[users] = idle_edge(params[waits])
        self.arena.touched[users] = 1
        self.counters[1] = max(self.counters[1], int(users.max()) + 1)
        np.maximum.at(self.clock, batch.partition, batch.time)

    def _logits(self, states: Tensor, ids: Ints32, n_marks: int) -> Tensor:
        """Logits of all marks, (N, K); popularity where not finite."""
        prior = torch.from_numpy(self.marks.log_prior(n_marks)).to(states.device)
        logits = torch.addmm(prior, states, self.marks.tensor("leave", states.device)[:n_marks].T)
        line, column = np.nonzero(ids >= 0)
        at = torch.from_numpy(line), torch.from_numpy(ids[line, column].astype(np.int64))
        logits[at] = logits[at] + self.network.said(states)[1][at[0]]  # a mark named twice gains once
        if bool(torch.isfinite(logits.sum())):
            return logits
        plain = torch.nan_to_num(prior, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(torch.isfinite(logits).all(dim=1, keepdim=True), logits, plain)

    def _work(self, batch: Batch, trace: Trace, random: np.random.Generator) -> Work:
        """Everything that the loss of a cut needs, as arrays."""
        sample = self._sample(batch, random)
        rows, drawn = sample.rows, self._waits(sample.rows)
        known = ~trace.blank[trace.arrival]
        scored = batch.timed & known
        events = trace.arrival[scored]
        candidates, offset = softmax_candidates(self.marks, batch.mark, int(batch.n_known[0]), random)
        hit = batch.mark < batch.n_known[0]
        again_set, again = named_among(candidates, trace.ids[trace.arrival])
        return Work(
            h=torch.cat([trace.h, self._stored(rows)]),
            ids=np.concatenate([trace.ids, self._column("ids")[rows]]),
            features=np.concatenate([trace.features, self._features(self._column("gap")[rows])]),
            blank=np.concatenate([trace.blank, np.zeros(len(rows), bool)]),
            arrival=trace.arrival,
            events=events,
            event_s=batch.time[scored] - trace.opened.last[events],
            pieces=self._pieces(trace, trace.arrival[known], batch.time[known], drawn, sample.weight),
            candidates=candidates,
            offset=offset,
            target_set=set_of_mark(batch.start)[hit],
            target=np.searchsorted(candidates, batch.mark[hit]),
            again_set=again_set,
            again=again,
            moved=bool((self.clock > self.charged).any()),
        )

    def _sample(self, batch: Batch, random: np.random.Generator) -> Sample:
        used = slice(0, self.counter("rows"))
        clocks = self.charged, self.clock
        return hazard.sample_open(
            self._waits(used), self._column("edge")[used], batch.row, clocks, self.sampled, random
        )

    def _pieces(self, trace: Trace, ended: Ints, end: Floats, drawn: Opened, weight: Floats) -> Pieces:
        """What the cut is charged for: waits that its sets ended, those they left open, those drawn."""
        w, tails = len(trace.ids), len(trace.waves.users) + trace.waves.last
        mine, left = hazard.select(trace.opened, ended), hazard.select(trace.opened, tails)
        others = w + np.arange(len(weight))
        charged, clock, longest = self.charged, self.clock, self.max_idle_s
        return hazard.join(
            [
                hazard.completed(ended, mine, end, charged, longest),
                hazard.still_open(tails, left, charged, clock, longest),
                hazard.still_open(others, drawn, charged, clock, longest, weight),
            ]
        )

    def _step(self, work: Work) -> None:
        """Gradients of both losses, and one update of everything if they are finite."""
        net, table = self.network, self.marks.columns
        named = np.unique(work.ids[work.ids >= 0]).astype(np.int64)
        local = np.where(work.ids >= 0, np.searchsorted(named, work.ids), -1).astype(np.int32)
        leaves: dict[str, tuple[Ints, Tensor]] = {
            "enter": (named, _leaf(table["enter"][named], net.device)),
            "leave": (work.candidates, _leaf(table["leave"][work.candidates], net.device)),
            "bias": (work.candidates, _leaf(np.zeros(len(work.candidates), np.float32), net.device)),
        }
        waiting, marks = net.losses(work._replace(ids=local), *(leaf for _, leaf in leaves.values()))
        self._note(marks.detach(), work)
        net.backward(waiting, marks.sum(), len(work.arrival), work.moved)
        updates = [(name, rows, g) for name, (rows, leaf) in leaves.items() if (g := leaf.grad) is not None]
        norm = net.steepness()
        if not np.isfinite(norm + sum(float(g.abs().sum()) for _, _, g in updates)):
            self._skip()
            return
        self.counters[3] = 0
        scale = min(1.0, STEEPEST / max(norm, 1e-12))
        net.weights.step(self.rate, scale)
        for name, rows, g in updates:
            self.marks.update(name, rows, g.mul_(scale).cpu().numpy(), self.table_rate)

    def _note(self, marks: Tensor, work: Work) -> None:
        """Bring the running means of the mark losses up to date."""
        if len(work.target) == 0:
            return
        plain = torch.log_softmax(torch.from_numpy(work.offset), dim=0)[torch.from_numpy(work.target)]
        now = np.array([float(marks.mean()), -float(plain.mean())])
        if np.isfinite(now).all():
            self.mark_losses += (0.05 if self.mark_losses[1] else 1.0) * (now - self.mark_losses)

    def _skip(self) -> None:
        """A gradient was not finite: count it, and after several in a row return to the copy."""
        self.counters[2:4] += 1
        self.network.drop_carried()
        if self.counters[3] < ROLL_BACK_AFTER:
            return
        self.network.weights.roll_back()
        self.marks.forget_broken()
        self.counters[3] = 0
        self.counters[4] += 1


def _leaf(rows: Floats32, device: torch.device) -> Tensor:
    return torch.from_numpy(rows).to(device).requires_grad_()


def _columns(width: int) -> dict[str, Column]:
    return {
        "h": Column(np.float32, (width,)),
        "ids": Column(np.int32, (SET_MARKS,), -1),
        "gap": Column(np.float32, (), np.nan),
        "last": Column(np.float64, (), np.nan),
        "since": Column(np.float64, (), np.nan),
        "partition": Column(np.int32),
        "edge": Column(np.float32),
    }
