"""What a person sees: a live line while a log streams by, and the table at its end."""

import math
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamrec.lane import Lane
from streamrec.models.popularity import MEMBERS
from streamrec.processor import CutResult

REFRESH_S = 0.25
RECENT = 20
"""Drawings that the shown rate goes back."""

COLUMNS = ("accuracy", "hit@10", "mrr@10", "ln p\nmark", "ln f\nwait", "error\ns", "inside\n90 %")
LEGEND = """\
ln p mark   mean log-probability of the mark that came (nats, higher is better)
ln f wait   mean log-density, 1/s, of the time it took, silence charged (nats)
error s     mean distance of the median forecast from the time it took (seconds)
inside 90 % share of times inside the interval that should hold 90 % of them
* naive rule: beside the mixture, never in it
~ slept through some events, which are left out of its line"""


class Display:
    """A live view of a lane: rate, share done, running scores, leading experts, checkpoints.

    Parameters
    ----------
    lane : to look at
    total : events that will come in all; 0 if nobody knows
    console : where to draw
    """

    def __init__(self, lane: Lane, total: int, console: Console) -> None:
        self.lane, self.total = lane, total
        self._seen = deque([(time.perf_counter(), lane.n_events)], maxlen=RECENT)
        self.console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> "Display":
        if not Path(os.environ["NUMBA_CACHE_DIR"]).is_dir():
            self.console.print("compiling the kernels, once: this takes a minute or two")
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, result: CutResult) -> None:
        """Draw anew, a few times a second."""
        now = time.perf_counter()
        if now - self._drawn >= REFRESH_S:
            self._drawn = now
            self._seen.append((now, self.lane.n_events))
            self._live.update(self._view(result), refresh=True)

    def _rate(self) -> float:
        """Events per second of late; of the whole run while it is young."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / max(now - began, 1e-9)

    def _view(self, result: CutResult) -> Group:
        boards, done = self.lane.engine.boards, self.lane.n_events
        marks = boards.marks.report("mixture", "seen")
        times = boards.times.report("mixture", 0.0)
        share = f"{done / self.total:6.1%} of {self.total:,}" if self.total else f"{done:,}"
        saved = getattr(self.lane.writer, "n_saved", 0)
        weights = zip(result.marks.soft_weight.tolist(), result.marks.names[2:], strict=False)
        leading = sorted(weights, reverse=True)[:4]
        return Group(
            Text(f"events {share}   {self._rate():8,.0f} events/s   checkpoints {saved}"),
            Text(
                f"hit@10 {_shown(marks['hit@10'], '.4f')}   ln p mark {_shown(-marks['nll'], '.3f')}   "
                f"ln f wait {_shown(times['log_likelihood_issued'], '.3f')} (of those that ended)"
            ),
            Text("weights " + "  ".join(f"{name} {weight:.2f}" for weight, name in leading)),
        )


def score_table(figures: Mapping[str, Any], title: str) -> Group:
    """The mixture, the experts from best to worst, the naive rules; what the columns mean below it.

    Of the popularity bank only the best member and the bank's own mixture are shown. Fits 80 columns.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("forecaster", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("mixture", *_cells(figures["mixture"]), style="bold")
    for name, one in figures["layers"].items():
        table.add_row(f"  {name}", *_cells(one))
    table.add_section()
    for name, one in _ranked(_grouped(figures["experts"])):
        slept = any(one[k]["events"] < figures["mixture"][k]["events"] for k in ("mark", "time") if k in one)
        table.add_row(f"{name} ~" if slept else name, *_cells(one))
    table.add_section()
    for name, one in figures["naive"].items():
        table.add_row(f"{name} *", *_cells(one))
    return Group(table, Text(LEGEND))


def _grouped(experts: Mapping[str, Any]) -> dict[str, Any]:
    """Experts with the members of the popularity bank as one line, that of the best of them."""
    bank = {m.name for m in MEMBERS}
    rest = {name: one for name, one in experts.items() if name not in bank}
    members = _ranked({name: one for name, one in experts.items() if name in bank})
    return rest | {f"{name} (of {len(members)})": one for name, one in members[:1]}


def _ranked(experts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Best first: those with marks by ln p, then those with waiting times only by ln f."""
    return sorted(experts.items(), key=lambda item: _loss(item[1]))


def _loss(one: Mapping[str, Any]) -> tuple[bool, float]:
    figure = one["mark"]["nll"] if "mark" in one else -one["time"]["log_likelihood_open"]
    return "mark" not in one, math.inf if math.isnan(figure) else figure


def _cells(one: Mapping[str, Any]) -> list[str]:
    mark, wait = one.get("mark"), one.get("time")
    cells = [""] * len(COLUMNS)
    if mark:
        cells[:3] = [_shown(mark[k], ".4f") for k in ("accuracy", "hit@10", "mrr@10")]
        cells[3] = _shown(-mark["nll"], ".4f")
    if wait:
        cells[4] = _shown(wait["log_likelihood_open"], ".4f")
        cells[5] = _shown(wait["mae_median_s"], ",.1f" if wait["mae_median_s"] < 1e6 else ",.0f")
        cells[6] = _shown(wait["coverage90"], ".3f")
    return cells


def _shown(figure: float, form: str) -> str:
    return "-" if math.isnan(figure) else format(figure, form)
