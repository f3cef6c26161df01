"""A run, live in the terminal: a bar and plots; plain lines where there is no terminal."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab_client.cli.context import console, print_json, with_main_metrics
from lab_client.cli.plot import plot
from lab_client.cli.render import STYLES, number
from lab_client.errors import InvalidState
from lab_client.events import Checkpoint, Event, Metrics, StateChange, Truncate
from lab_client.history import History
from lab_client.metric_names import chosen
from lab_client.runs import RunInfo, RunState
from lab_client.sync.run import Run
from lab_client.views.progress import LinesView, ProgressView

_MOST_POINTS = 4000
_FEWEST_POINTS = 4  # fewer are read faster than drawn
_MOST_PLOTS = 2
_MOST_CHOSEN_PLOTS = 4


class PrintedLines(LinesView):
    """Plain lines, with what the run prints between them."""

    def log(self, lines: Sequence[str]) -> None:
        """Print what the run printed."""
        for line in lines:
            typer.echo(printable(line))


def printable(line: str) -> str:
    """Return a line without what would move a terminal's cursor or colour it."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)


class LiveView(ProgressView):
    """A screenful about a run.

    Args:
        info: the run when the view was opened.
        past: its metrics until then.
        metrics: globs of the metrics to show; the most important ones when there are none.
    """

    def __init__(self, info: RunInfo, past: History, metrics: Sequence[str] = ()) -> None:
        super().__init__(info, metrics)
        self.above: Console | None = None
        self._id = info.id
        self._checkpoint: int | None = info.checkpoint_step
        self._series: dict[str, deque[tuple[int, float]]] = {
            item.name: deque(zip(item.steps, item.values, strict=True), _MOST_POINTS)
            for item in past.values()
        }

    def update(self, event: Event) -> None:
        """Take an event in."""
        match event.body:
            case Metrics() as metrics:
                for point in metrics.points():
                    for name, value in point.values.items():
                        series = self._series.setdefault(name, deque(maxlen=_MOST_POINTS))
                        series.append((point.step, value))
            case Truncate(after_step=after):
                for name, series in self._series.items():
                    kept = (item for item in series if item[0] <= after)
                    self._series[name] = deque(kept, _MOST_POINTS)
            case Checkpoint(step=step, damage=""):
                self._checkpoint = step
        super().update(event)

    def log(self, lines: Sequence[str]) -> None:
        """Print lines above what is drawn."""
        if self.above is not None:
            for line in lines:
                self.above.print(Text(printable(line)))

    def __rich__(self) -> RenderableType:
        """Draw it; rich asks a few times a second."""
        style = STYLES.get(RunState(self.state), "")
        head = Text.assemble((self.name, "bold"), f"  {self._id}  ", (self.state, style))
        if self.reason:
            head.append(f"  {self.reason}", style="dim")
        bar = Table.grid(padding=(0, 1))
        total = self.total_steps or None
        left_s = (
            (self.total_steps - self.step) / self.steps_per_second if self.steps_per_second else 0
        )
        facts = f"{self.step}/{self.total_steps or '?'}"
        if not self.trouble:
            facts += f"  {self.steps_per_second:.4g} steps/s"
        if not self.trouble and total and left_s > 0 and self.state == RunState.RUNNING:
            facts += f"  {left_s:.0f} s left"
        if self._checkpoint is not None:
            facts += f"  checkpoint {self._checkpoint}"
        bar.add_row(
            ProgressBar(total=total or 1, completed=self.step if total else 0, width=40), facts
        )
        parts: list[RenderableType] = [head, bar]
        if self.trouble:
            parts.append(Text(self.trouble, style="yellow"))
        shown = chosen(dict(self.metrics), self.globs)
        parts.append(Text("  ".join(f"{name} {number(value)}" for name, value in shown.items())))
        drawn = [name for name in shown if len(self._series.get(name, ())) >= _FEWEST_POINTS][
            : _MOST_CHOSEN_PLOTS if self.globs else _MOST_PLOTS
        ]
        for name in drawn:
            # copied at once: rich draws in a thread of its own, while events come
            values = [value for _, value in tuple(self._series[name])]
            num_missing = sum(not math.isfinite(value) for value in values)
            note = f" ({num_missing} of {len(values)} values are not finite)" if num_missing else ""
            parts.append(Text("\n".join([f"\n{name}{note}", *plot(values)]), style="cyan"))
        return Group(*parts)


def show_live(run: Run, metrics: Sequence[str] = ()) -> RunInfo:
    """Show a run and what it prints until it has ended, and return how it is then.

    Args:
        run: the run.
        metrics: globs of the metrics to show; the most important ones when there are none.

    Raises:
        InvalidState: if it was never started.
    """
    info = run.refresh()
    if info.state is RunState.CREATED:
        raise InvalidState(f"run {run.id} was not started, so there is nothing to watch")
    if not sys.stdout.isatty():
        with PrintedLines(info, sys.stdout, metrics=metrics) as lines:
            _follow(run, lines)
    else:
        view = LiveView(info, run.history(max_points=500), metrics)
        with Live(view, console=console(), refresh_per_second=8) as live:
            view.above = live.console
            _follow(run, view)
    ended = run.refresh()
    if ended.state is RunState.FAILED:
        _tell_traceback(run)
    return ended


def print_states(run: Run) -> RunInfo:
    """Print a run as a line of JSON now, at each change of its state, and at its end."""
    info = run.refresh()
    print_json(with_main_metrics(info), one_line=True)
    if info.state.is_terminal:
        return info
    for event in run.events(after_seq=info.last_seq):
        if isinstance(event.body, StateChange) and not event.body.state.is_terminal:
            before, info = info, run.refresh()
            if info.state != before.state and not info.state.is_terminal:
                print_json(with_main_metrics(info), one_line=True)
    info = run.refresh()
    print_json(with_main_metrics(info), one_line=True)
    return info


def _follow(run: Run, view: ProgressView) -> None:
    if not run.info.state.is_terminal:
        run.show_progress(view)


def _tell_traceback(run: Run) -> None:
    last = None
    for event in run.events(after_seq=max(0, run.info.last_seq - 1), follow=False):
        last = event.body
    if isinstance(last, StateChange) and last.traceback:
        typer.echo(last.traceback, err=True)
