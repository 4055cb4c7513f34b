"""What a person sees: a live line while a log streams by, and the table at its end."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamrec.lane import Lane
from streamrec.processor import CutResult

REFRESH_S = 0.25


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
        self.began, self.events_before = time.perf_counter(), lane.n_events
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self) -> "Display":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, result: CutResult) -> None:
        """Draw anew, a few times a second."""
        now = time.perf_counter()
        if now - self._drawn >= REFRESH_S:
            self._drawn = now
            self._live.update(self._view(result, now - self.began), refresh=True)

    def _view(self, result: CutResult, seconds: float) -> Group:
        boards, done = self.lane.engine.boards, self.lane.n_events
        marks = boards.marks.report("mixture", "seen")
        times = boards.times.report("mixture", 0.0)
        share = f"{done / self.total:6.1%} of {self.total:,}" if self.total else f"{done:,}"
        rate = (done - self.events_before) / max(seconds, 1e-9)
        saved = getattr(self.lane.writer, "n_saved", 0)
        weights = sorted(zip(result.marks.soft_weight, result.marks.names[2:], strict=False), reverse=True)[
            :4
        ]
        return Group(
            Text(f"events {share}   {rate:8,.0f} events/s   checkpoints {saved}"),
            Text(
                f"hit@10 {marks['hit@10']:.4f}   ln p(mark) {-marks['nll']:.3f}   "
                f"ln f(wait) {times['log_likelihood_issued']:.3f}"
            ),
            Text("weights " + "  ".join(f"{name} {weight:.2f}" for weight, name in weights)),
        )


def score_table(figures: Mapping[str, Any], title: str) -> Table:
    """The mixture beside every expert and every naive rule."""
    table = Table(title=title, title_justify="left")
    table.add_column("forecaster")
    for name in ("accuracy", "hit@10", "mrr@10", "ln p(mark)", "ln f(wait)", "MAE s", "cover 90"):
        table.add_column(name, justify="right")
    table.add_row("mixture", *_cells(figures["mixture"]), style="bold")
    for kind in ("experts", "naive"):
        table.add_section()
        for name, one in figures[kind].items():
            table.add_row(name if kind == "experts" else f"{name} (naive)", *_cells(one))
    return table


def _cells(one: Mapping[str, Any]) -> list[str]:
    mark, wait = one.get("mark"), one.get("time")
    cells = [f"{mark[k]:.4f}" for k in ("accuracy", "hit@10", "mrr@10")] if mark else ["", "", ""]
    cells += [f"{-mark['nll']:.4f}"] if mark else [""]
    if not wait:
        return [*cells, "", "", ""]
    return [
        *cells,
        f"{wait['log_likelihood_open']:.4f}",
        f"{wait['mae_median_s']:,.1f}",
        f"{wait['coverage90']:.3f}",
    ]
