"""The console writer: what is shown, where and when."""

from __future__ import annotations

import io
import itertools
import math
import re

import pytest

from lab_core.logger.sinks import Mode, Sink
from lab_core.tracker import Kind, Tracker
from lab_core.writers import Batch, ConsoleWriter, ScalarColumn
from lab_core.writers.console import number


def batch(step: int, **values: float) -> Batch:
    return Batch(tuple(ScalarColumn(n, [step], [v], [1.0], True) for n, v in values.items()))


def plain() -> tuple[io.StringIO, ConsoleWriter]:
    file = io.StringIO()
    return file, ConsoleWriter(lambda: 100, Sink(file))


def test_elsewhere_than_on_a_terminal_there_are_plain_lines() -> None:
    file, writer = plain()
    writer.write(batch(1, loss=0.5, accuracy=0.25))
    for step in range(2, 50):
        writer.write(batch(step, loss=0.5 / step))
    writer.write(batch(50, loss=0.125, accuracy=0.75))
    writer.close()
    assert file.getvalue().splitlines() == [
        "       1: loss 0.5  accuracy 0.25",
        "      50: loss 0.125  accuracy 0.75",
    ]


def test_lines_come_more_and_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("lab_core.writers.console.time.monotonic", lambda: now[0])
    file, writer = plain()
    for step in range(10 * 60 * 10):
        writer.write(batch(step, loss=1.0 / (step + 1)))
        now[0] += 0.1
    steps = [int(line.split(":")[0].replace(",", "")) for line in file.getvalue().splitlines()]
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert gaps[0] == pytest.approx(10, abs=1)
    assert gaps[-1] == pytest.approx(300, abs=1)
    assert len(gaps) < 40


def test_a_new_line_keeps_the_values_of_now_once() -> None:
    file, writer = plain()
    writer.write(batch(1, loss=0.5))
    writer.write(batch(2, loss=0.25))
    writer.new_line(2, {"loss": 0.25})
    writer.new_line(2, {"loss": 0.25})
    writer.close()
    assert file.getvalue().splitlines() == ["       1: loss 0.5", "       2: loss 0.25"]


def test_a_line_shows_what_was_saved_when_it_was_asked_for() -> None:
    file = io.StringIO()
    current = Tracker([ConsoleWriter(console=Sink(file))], get_step=lambda: 7)
    current.declare(Kind.SCALAR, "hidden")
    current.save(6, loss=6.0, hidden=1.0)
    current.save(7, loss=7.0)
    current.new_line()
    current.save(8, loss=8.0)
    with current:  # only now: all of it is one batch
        pass
    assert file.getvalue().splitlines() == ["       7: loss 7", "       8: loss 8"]


def test_a_line_never_repeats_a_value_of_an_earlier_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("lab_core.writers.console.time.monotonic", lambda: now[0])
    file, writer = plain()
    writer.write(batch(1, loss=0.5))
    writer.write(batch(10, loss=0.25, test_loss=0.75))
    now[0] += 100.0
    writer.write(batch(11, loss=0.125))
    now[0] += 100.0
    writer.write(batch(12, loss=0.0625))
    writer.close()
    assert file.getvalue().splitlines() == [
        "       1: loss 0.5",
        "      11: loss 0.125  test_loss 0.75",  # it is new, though of step 10
        "      12: loss 0.0625",
    ]


def test_an_epochs_line_shows_what_the_epoch_measured() -> None:
    file = io.StringIO()
    step = [0]
    current = Tracker([ConsoleWriter(console=Sink(file))], get_step=lambda: step[0])
    current.save(0, batch_size=64.0)
    for epoch in (1, 2):
        step[0] = epoch * 10
        current.save(loss=1.0 / epoch)
        if epoch == 1:
            current.save(accuracy=0.5)
        current.new_line()
    with current:
        pass
    assert file.getvalue().splitlines() == [
        "      10: batch_size 64  loss 1  accuracy 0.5",
        "      20: loss 0.5",
    ]


def test_only_what_is_to_be_printed_is_shown() -> None:
    file = io.StringIO()
    with Tracker([ConsoleWriter(console=Sink(file))]) as current:
        current.declare(Kind.SCALAR, "hidden")
        current.declare(Kind.QUEUE, "shown", 5, is_print=True)
        current.declare(Kind.TEXT, "note", is_print=True)
        current.declare(Kind.TEXT, "secret")
        current.save(1, hidden=1.0, shown=2.0, note="hello", secret="psst", undeclared=3.0)
    text = file.getvalue()
    assert "shown 2" in text
    assert "undeclared 3" in text
    assert "note hello" in text
    assert "hidden" not in text
    assert "psst" not in text


def test_nan_and_infinities_are_shown() -> None:
    file, writer = plain()
    writer.write(batch(1, a=math.nan, b=math.inf, c=-math.inf))
    assert file.getvalue() == "       1: a nan  b inf  c -inf\n"


def test_a_step_counts_from_the_batch_that_has_most() -> None:
    file, writer = plain()
    writer.write(Batch((*batch(10, loss=1.0).columns, *batch(8, accuracy=0.5).columns)))
    assert file.getvalue() == "      10: loss 1  accuracy 0.5\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (5.0, "5"),
        (-0.123456, "-0.12346"),
        (12345.678, "12,346"),
        (1e-7, "1.0000e-07"),
        (3e12, "3.0000e+12"),
        (1234567.0, "1,234,567"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    now = [1000.0]
    monkeypatch.setattr("lab_core.logger.sinks.time.monotonic", lambda: now[0])
    file = Terminal()
    console = Sink(file)
    assert console.mode is Mode.TERMINAL
    writer = ConsoleWriter(lambda: 100, console)
    writer.write(batch(0, loss=1.0))
    for step in range(10, 60, 10):
        now[0] += 2.0
        writer.write(batch(step, loss=1.0 / step))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
    assert "50/100" in shown
    assert "eta 0:00:10" in shown
    assert "loss 0.02" in shown
    console.print(["above the bar"])
    writer.close()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h")  # the cursor
    assert "50: loss 0.02" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_a_name_neither_moves_the_cursor_nor_fills_the_screen() -> None:
    file, writer = plain()
    writer.write(batch(1, **{"\x1b[2Jred\n": 0.5, "n" * 1000: 1.0}))
    writer.close()
    assert file.getvalue() == f"       1: ?[2Jred? 0.5  {'n' * 97}... 1\n"
