"""How a run's progress is shown: a bar, plain lines where there is no terminal, or nothing."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TextIO

from lab_client.events import Event, Log, Metrics, Progress, StateChange, Truncate
from lab_client.metric_names import chosen, important
from lab_client.runs import RunInfo, RunState

_LINE_INTERVAL_S = 5.0
_TROUBLE_AFTER_S = 3.0  # a restart of the server or a cut is over before


class ProgressView:
    """Shows nothing, but keeps what there is to show; the other views add how.

    Args:
        info: the run as it was when the view was opened.
        metrics: globs of the metrics to show; the most important ones when there are none.
    """

    def __init__(self, info: RunInfo, metrics: Sequence[str] = ()) -> None:
        self.name = info.name or info.experiment
        self.globs = metrics
        self.step = info.step
        self.total_steps = info.total_steps
        self.steps_per_second = info.steps_per_second
        self.metrics: dict[str, float] = dict(info.metrics)
        self.state = info.state
        self.reason = info.reason
        self.trouble = ""

    def __enter__(self) -> ProgressView:
        self.show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def update(self, event: Event) -> None:
        """Take an event in."""
        match event.body:
            case Metrics(steps=steps, columns=columns):
                for name, column in columns.items():
                    if column.values:
                        self.metrics[name] = column.values[-1]
                if steps:
                    self.step = max(self.step, steps[-1])
            case Progress(step=step, total_steps=total, steps_per_second=speed):
                self.step = max(self.step, step)
                self.total_steps = total or self.total_steps
                self.steps_per_second = speed
            case Truncate(after_step=after, checkpoint_step=at):
                self.step = max(after, at or 0)
            case StateChange(state=state, reason=reason):
                self.state, self.reason = state, reason
            case Log(lines=lines):
                self.log(lines)
                return
            case _:
                return
        self.show()

    def no_answer(self, address: str, seconds: float) -> None:
        """Take in for how long the server has not answered; 0 when it does again."""
        before, self.trouble = self.trouble, ""
        if seconds >= _TROUBLE_AFTER_S:
            self.trouble = f"no answer from {address} for {seconds:.0f} s, reconnecting (the run is not affected)"
        if self.trouble != before:
            self.show()

    def waits(self, reason: str) -> None:
        """Take in what a queued run waits for."""
        self.reason = reason
        self.show()

    def log(self, lines: Sequence[str]) -> None:
        """Show what the run printed; most views leave that to `lab logs`."""

    def show(self) -> None:
        """Show what there is now."""

    def close(self) -> None:
        """Show the end."""


class BarView(ProgressView):
    """A tqdm bar, in a terminal or a notebook."""

    def __init__(self, info: RunInfo) -> None:
        super().__init__(info)
        self._bar = make_bar(
            total=self.total_steps or None, initial=self.step, desc=self._what(), unit="step"
        )

    def show(self) -> None:
        """Move the bar; tqdm itself limits how often it draws."""
        bar = self._bar
        if self.trouble:
            bar.bar_format = "{desc}: {n_fmt}/{total_fmt}"  # no speed, no time left
            bar.set_description_str(f"{self.name}, {self.trouble}")
            return
        bar.bar_format = None
        if self.total_steps and bar.total != self.total_steps:
            bar.reset(total=self.total_steps)
        bar.set_description_str(self._what(), refresh=False)
        bar.set_postfix(important(self.metrics), refresh=False)
        bar.update(self.step - bar.n)

    def _what(self) -> str:
        return self.name if self.state == "RUNNING" else f"{self.name} {self.state.lower()}"

    def close(self) -> None:
        """Draw the last state and leave it."""
        self._bar.refresh()
        self._bar.close()


class LinesView(ProgressView):
    """Plain lines, a few seconds apart."""

    def __init__(
        self,
        info: RunInfo,
        output: TextIO,
        now: Callable[[], float] = time.monotonic,
        metrics: Sequence[str] = (),
    ) -> None:
        super().__init__(info, metrics)
        self._output = output
        self._now = now
        self._next_line = now() + _LINE_INTERVAL_S
        self._shown_state = ""
        self._line = ""

    def show(self) -> None:
        """Write a line when the state changed, or when the last line is some seconds old."""
        if self.state != self._shown_state or self._now() >= self._next_line:
            self._write()

    def close(self) -> None:
        """Write the last state."""
        self._write()

    def _write(self) -> None:
        self._shown_state = self.state
        self._next_line = self._now() + _LINE_INTERVAL_S
        line = f"{self.name}: {self.trouble or self._facts()}"
        if line != self._line:
            print(line, file=self._output, flush=True)
        self._line = line

    def _facts(self) -> str:
        if self.state == RunState.QUEUED:
            return f"{self.state}{self.reason and f', {self.reason}'}"
        total = f"/{self.total_steps}" if self.total_steps else ""
        values = "".join(f" {k}={v:.4g}" for k, v in chosen(self.metrics, self.globs).items())
        return f"{self.state} step {self.step}{total}{values}"


def make_bar(**settings: Any) -> Any:
    """Return a bar of tqdm, for a terminal or a notebook."""
    from tqdm import TqdmExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmExperimentalWarning)
        from tqdm.auto import tqdm

    return tqdm(**settings)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})


def make_view(progress: bool, info: RunInfo) -> ProgressView:
    """Return the view that fits where the output goes; one that shows nothing when not asked to."""
    if not progress:
        return ProgressView(info)
    if sys.stderr.isatty() or in_notebook():
        return BarView(info)
    return LinesView(info, sys.stderr)
