"""What a page that watches a training costs it: windows with and without the page take turns in one training.

The browser has the lowest priority (SCHED_IDLE) throughout: it draws on another machine, mostly. So what is measured is
what the service costs; what the browser takes is a row of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from live_server import LiveServer
from processes import core_wait_s, cpu_s
from subscribers import interval
from table import Row
from training import trainer_of

from lab_client import Client
from lab_client.events import Progress

PAIRS = 60
WINDOW_S = 2.0  # short, and many: what the machine does otherwise is in both of a pair, or in few
SETTLE_S = 0.7
MAX_HALF = 1.0  # per cent, of the interval; a wider one says nothing
WORK = 20_000
"""Of the training's step, about a millisecond of Python."""


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of the training.

    Attributes:
        begin: seconds since 1970.
        end: as `begin`.
        server_s: the seconds of a processor that the server took.
        browser_s: those that the browser took.
        waited_s: for so long threads of the trainer could have run and had no core.
    """

    begin: float
    end: float
    server_s: float
    browser_s: float
    waited_s: float

    @property
    def length_s(self) -> float:
        """How long it was."""
        return self.end - self.begin


def browser_processes() -> list[psutil.Process]:
    """Return the processes of the browser, which this process has started."""
    return [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]


def browser_cpu_s() -> float:
    """Return the CPU seconds that the browser's living processes have used."""
    return sum(cpu_s(process.pid) for process in browser_processes())


def idle_browser() -> None:
    """Give the browser the lowest priority; its next processes and threads have it from their parents."""
    for process in browser_processes():
        for thread in process.threads():
            os.sched_setscheduler(thread.id, os.SCHED_IDLE, os.sched_param(0))


def cost_to_training(browser: Any, folder: Path, experiment: Path) -> list[Row]:
    """Measure the training's speed while a run's page watches it, against that of the windows beside."""
    arguments = ("--slots", "cpu:1", "--experiments", str(experiment), "--on-shutdown", "stop")
    pairs: list[dict[bool, Window]] = []
    with LiveServer(folder / "trains", *arguments) as server, Client(server.address) as client:
        client.wait_ready()
        configs = {"printed_kb": 0, "step_s": 0.0, "work": WORK}
        run = client.create("watched_experiment", configs).start()
        next(event for event in run.events() if event.kind == "metrics")
        page = browser.new_context().new_page()
        idle_browser()
        assert server.process is not None
        pids = server.process.pid, trainer_of(server.process.pid)
        for index in range(PAIRS):
            pair = {}
            # the order changes, so that a drift of the machine counts for neither
            for is_watched in (False, True) if index % 2 else (True, False):
                if is_watched:
                    page.goto(f"http://{server.http_address}/runs/{run.id}")
                    page.get_by_text("live", exact=True).wait_for()
                else:
                    page.goto("about:blank")
                time.sleep(SETTLE_S)
                pair[is_watched] = _window(*pids)
            pairs.append(pair)
        page.close()
        run.stop().wait(check=False)
        told = [
            (event.time_unix_ns / 1e9, event.body.step)
            for event in run.events()
            if isinstance(event.body, Progress)
        ]
    return _rows(told, pairs)


def _window(server: int, trainer: int) -> Window:
    def used() -> tuple[float, float, float]:
        return cpu_s(server), browser_cpu_s(), core_wait_s(trainer)

    begin, before = time.time(), used()
    time.sleep(WINDOW_S)
    end, after = time.time(), used()
    return Window(begin, end, *(b - a for a, b in zip(before, after, strict=True)))


def _rows(told: Sequence[tuple[float, int]], pairs: Sequence[dict[bool, Window]]) -> list[Row]:
    times, steps = (np.array(column, float) for column in zip(*told, strict=True))

    def speed(window: Window) -> float:
        """Return the steps a second, from what the run told of its progress."""
        begin, end = np.interp([window.begin, window.end], times, steps)
        return float(end - begin) / window.length_s

    slower = [100 * (1 - speed(pair[True]) / speed(pair[False])) for pair in pairs]
    estimate, low, high = interval(slower)
    half = (high - low) / 2
    what = f"time that a run's page takes from the training, of {PAIRS} pairs of windows"
    return [
        Row(
            what,
            f"{estimate:+.2f} % ({low:+.2f} to {high:+.2f}, 95 %)",
            f"without it {median(speed(pair[False]) for pair in pairs):.0f} steps/s",
            None,
            f"none: the interval is within ± {MAX_HALF:g} % of its middle, and has 0 in it",
            low <= 0 if half <= MAX_HALF else None,
        ),
        Row("trainer's wait for a core, more with that page", _more(pairs, "waited_s")),
        Row("server's processor time for that page", _more(pairs, "server_s")),
        Row("browser's processor time for that page", _more(pairs, "browser_s")),
    ]


def _more(pairs: Sequence[dict[bool, Window]], name: str) -> str:
    shares = [
        100 * (getattr(pair[True], name) - getattr(pair[False], name)) / WINDOW_S for pair in pairs
    ]
    return f"{median(shares):.2f} % of a core"
