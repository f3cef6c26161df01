"""Lines on the console, and the console itself."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab_core import logger, monit
from lab_core.errors import LabError
from lab_core.logger import Text
from lab_core.logger.bar import Bar
from lab_core.logger.bars import count, eta
from lab_core.logger.sinks import Mode, Sink, set_sink


def test_log_takes_a_text_a_style_or_parts(out: io.StringIO) -> None:
    logger.log("plain")
    logger.log("styled", Text.success)
    logger.log([("accuracy: ", Text.key), "97", ("%", Text.subtle)])
    logger.log(("one part", Text.meta))
    logger.log()
    assert out.getvalue() == "plain\nstyled\naccuracy: 97%\none part\n\n"


def test_inspect_shows_what_values_are(out: io.StringIO) -> None:
    logger.inspect({"a": 1, "long": "text"}, [np.zeros((2, 3))])
    logger.inspect(x=np.float32(1), y="z" * 300)
    logger.inspect(list(range(25)))
    text = out.getvalue()
    assert "   a: 1\nlong: text\n" in text
    assert "0: ndarray [2, 3] float64\n" in text
    assert "z" * 197 + "...\n" in text
    assert "... 5 more of 25" in text


def test_markup_in_a_message_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    set_sink(None)
    logger.log("[bold]not bold[/bold] :smile:")
    assert capsys.readouterr().out == "[bold]not bold[/bold] :smile:\n"


def test_a_reader_that_went_away_does_not_end_the_training() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    console = Sink(Gone())
    console.print(["hello"])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def visible(file: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_on_a_terminal_lines_go_above_the_bars(terminal: Terminal) -> None:
    console = Sink(terminal)
    bar = Bar("Train", 10)
    console.add_bar(bar)
    bar.done = 5
    console.refresh(is_forced=True)
    console.print(["a line"])
    console.remove_bar(bar)
    shown = visible(terminal)
    assert "5/10" in shown
    assert shown.index("a line") < shown.rindex("Train")
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1


def test_an_exception_gives_the_terminal_back(terminal: Terminal) -> None:
    set_sink(Sink(terminal))
    try:
        with contextlib.suppress(KeyboardInterrupt), monit.section("Work"):
            monit.progress(0.5)
            raise KeyboardInterrupt
    finally:
        set_sink(None)
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")
    assert "Work...[STOPPED]" in visible(terminal)


def test_what_the_code_prints_goes_above_the_bars_too(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    console = Sink()
    bar = Bar("Train", 10)
    console.add_bar(bar)
    print("printed by the user")
    console.remove_bar(bar)
    assert sys.stdout is terminal
    assert "printed by the user" in visible(terminal)


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_dumb_terminal_and_a_pipe_get_plain_lines(
    term: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO() if term is None else Terminal()
    monkeypatch.setenv("TERM", term or "xterm")
    assert Sink(file).mode is Mode.PLAIN


def test_in_a_notebook_one_output_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, what: str) -> None:
            shown.append(what)

    def display(what: str, display_id: bool) -> Handle:
        shown.append("NEW " + what)
        return Handle()

    fake: Any = SimpleNamespace(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    console = Sink(mode=Mode.NOTEBOOK)
    bar = Bar("Train <1>", 10, detail="loss 0.5")
    console.add_bar(bar)
    bar.done = 5
    console.refresh(is_forced=True)
    console.remove_bar(bar)
    assert [s.startswith("NEW ") for s in shown] == [True, False, False]
    assert "Train &lt;1&gt;" in shown[1]
    assert "5/10" in shown[1]
    assert "loss 0.5" in shown[1]


def test_the_time_left_is_that_of_the_speed_so_far() -> None:
    bar = Bar("Train", total=100, done=50, start_done=40, start_s=1000.0)
    assert eta(bar, 1010.0) == "0:00:50"
    assert eta(Bar("Train", total=None, done=50), 1010.0) == "-:--:--"
    assert eta(Bar("Train", total=100), 1010.0) == "-:--:--"
    assert eta(Bar("Train", total=10**7, done=1, start_s=0.0), 1.0) == "2777:46:39"
    assert eta(Bar("Train", total=10, done=20, start_s=0.0), 1.0) == "0:00:00"


def test_how_far_it_is_in_words() -> None:
    assert count(Bar("x", total=1.0, done=0.5)) == "50%"
    assert count(Bar("x", total=2000, done=1500)) == "1,500/2,000"
    assert count(Bar("x", done=1500)) == "1,500"


def test_a_process_that_ends_in_a_loop_gives_the_terminal_back() -> None:
    script = """
import io, sys
from lab_core import monit
from lab_core.logger.sinks import Sink, set_sink

class Terminal(io.StringIO):
    def isatty(self):
        return True
    def flush(self):
        sys.__stdout__.write(self.getvalue())
        self.truncate(0)
        self.seek(0)

set_sink(Sink(Terminal()))
for i in monit.iterate("Train", 10):
    left_open = monit.section("Left open")
    left_open.__enter__()
    sys.exit(3)
"""
    environment = {**os.environ, "TERM": "xterm-256color"}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 3, run.stderr
    assert run.stdout.count("\x1b[?25l") == run.stdout.count("\x1b[?25h") == 1


def test_log_takes_any_value_and_tells_of_what_is_no_style(out: io.StringIO) -> None:
    logger.log(5)
    logger.log(None)
    logger.log(np.zeros(2))
    assert out.getvalue() == "5\nNone\n[0. 0.]\n"
    with pytest.raises(LabError, match="a part of a line is a text, or a text and a style"):
        logger.log("a", "b")  # type: ignore[arg-type]
    with pytest.raises(LabError, match="a part of a line is a text, or a text and a style"):
        logger.log([("a", "b")])
