"""Metrics on the console: a bar with the time left on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lab_core.logger.bar import Bar
from lab_core.logger.sinks import Mode, Sink, sink
from lab_core.logger.styles import Part, Style
from lab_core.writers.base import Batch, ScalarColumn

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_MAX_NAME_CHARS = 100


class ConsoleWriter:
    """Shows the indicators declared with `is_print`.

    On a terminal and in a notebook, one bar with the last values; `new_line` keeps them as a line.
    Elsewhere lines: the first at once, then ever more seldom, and those that `new_line` asks for. A
    line shows what was measured since the line before, so that no old value stands at a new step.

    Args:
        total_steps: returns the step at which the run will be done, or None; unknown unless given.
        console: where to show them; the process's console unless given.
    """

    name = "console"

    def __init__(
        self,
        total_steps: Callable[[], int | None] | None = None,
        console: Sink | None = None,
    ) -> None:
        self._total_steps = total_steps or (lambda: None)
        self._sink = console or sink()
        self._is_plain = self._sink.mode is Mode.PLAIN
        self._values: dict[str, float] = {}
        self._step = 0
        self._bar: Bar | None = None
        self._fresh: set[str] = set()  # measured since the last line
        self._shown: tuple[int, dict[str, float]] = (-1, {})  # by the last line
        self._told: dict[str, tuple[int, float]] = {}  # the last line with each name: step, value
        self._pause_s = _FIRST_PAUSE_S
        self._next_line_s = 0.0

    def write(self, batch: Batch) -> None:
        """Take the last values, and show them when it is time."""
        for column in batch.columns:
            self._step = max(self._step, column.steps[-1])
            if column.is_print:
                self._values[column.name] = column.values[-1]
                if not self._is_shown(column):
                    self._fresh.add(column.name)
        for text in batch.texts:
            if text.is_print:
                self._sink.print(
                    [
                        (f"{text.step:>8,}: ", Style.subtle),
                        (shown_name(text.name), Style.key),
                        f" {text.text}",
                    ]
                )
        if self._is_plain:
            now = time.monotonic()
            if now >= self._next_line_s and self._fresh:
                self._next_line_s = now + self._pause_s
                self._pause_s = min(self._pause_s * 1.5, _LONGEST_PAUSE_S)
                self.new_line(self._step, self._fresh_values())
        else:
            self._show_bar()

    def new_line(self, step: int, values: Mapping[str, float]) -> None:
        """Keep values as a line, unless the last line says just that."""
        if not values:
            return
        self._fresh.clear()
        self._told.update((name, (step, value)) for name, value in values.items())
        last_step, shown = self._shown
        if step != last_step or not values.items() <= shown.items():
            self._shown = step, dict(values)
            self._sink.print(line(step, values))

    def close(self) -> None:
        """Keep the last values as a line, and take the bar away."""
        self.new_line(self._step, self._fresh_values())
        if self._bar is not None:
            self._sink.remove_bar(self._bar)
            self._bar = None

    def _fresh_values(self) -> dict[str, float]:
        return {name: value for name, value in self._values.items() if name in self._fresh}

    def _is_shown(self, column: ScalarColumn) -> bool:
        # lines that were asked for come before the batch with what they show
        step, value = self._told.get(column.name, (-1, 0.0))
        return column.steps[-1] <= step and value == column.values[-1]

    def _show_bar(self) -> None:
        bar = self._bar
        if bar is None:
            bar = self._bar = Bar("step", start_done=self._step)
            self._sink.add_bar(bar)
        bar.total = self._total_steps()
        bar.done = self._step
        bar.detail = "  ".join(
            f"{shown_name(name)} {number(value)}" for name, value in self._values.items()
        )
        self._sink.refresh()


def line(step: int, values: Mapping[str, float]) -> list[Part]:
    """Return a line with the values at a step."""
    parts: list[Part] = [(f"{step:>8,}: ", Style.subtle)]
    for name, value in values.items():
        parts += [(shown_name(name), Style.key), " ", (number(value), Style.value), "  "]
    return parts[:-1]


def shown_name(name: str) -> str:
    """Return a name for the console: what would move its cursor replaced, and a long one shortened."""
    text = name if name.isprintable() else "".join(c if c.isprintable() else "?" for c in name)
    return text if len(text) <= _MAX_NAME_CHARS else f"{text[: _MAX_NAME_CHARS - 3]}..."


def number(value: float) -> str:
    """Return a number with five significant digits; NaN and infinities unchanged."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4e}" if abs(value) < 1e-4 or abs(value) >= 1e9 else f"{value:,.5g}"
