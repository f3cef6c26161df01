"""What a page that watches a training costs it: windows with and without the page take turns in one training."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from live_server import LiveServer
from table import Row

from lab_client import Client
from lab_client.events import Progress

PAIRS = 12
WINDOW_S = 8.0
SETTLE_S = 2.0
MAX_HALF = 2.0  # per cent, of the interval
WORK = 20_000
"""Of the training's step, about a millisecond of Python."""

# of Student's distribution with PAIRS - 1 degrees of freedom, for 95 %
_T = 2.201


def cost_to_training(browser: Any, folder: Path, experiment: Path) -> list[Row]:
    """Measure the training's speed while a run's page watches it, against that of the windows beside.

    The browser is there all the time, on a blank page in the other windows: what it takes of the
    machine's cores to draw is not what watching costs the training.
    """
    arguments = ("--slots", "cpu:1", "--experiments", str(experiment), "--on-shutdown", "stop")
    with LiveServer(folder / "trains", *arguments) as server, Client(server.address) as client:
        client.wait_ready()
        configs = {"printed_kb": 0, "step_s": 0.0, "work": WORK}
        run = client.create("watched_experiment", configs).start()
        next(event for event in run.events() if event.kind == "metrics")
        page = browser.new_context().new_page()
        windows: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for index in range(PAIRS):
            # the order changes, so that a drift of the machine counts for neither
            for is_watched in (False, True) if index % 2 else (True, False):
                if is_watched:
                    page.goto(f"http://{server.http_address}/runs/{run.id}")
                    page.get_by_text("live", exact=True).wait_for()
                else:
                    page.goto("about:blank")
                time.sleep(SETTLE_S)
                began = time.time()
                time.sleep(WINDOW_S)
                windows[is_watched].append((began, time.time()))
        page.close()
        run.stop().wait(check=False)
        told = [
            (event.time_unix_ns / 1e9, event.body.step)
            for event in run.events()
            if isinstance(event.body, Progress)
        ]
    without, watched = (_speeds(told, windows[is_watched]) for is_watched in (False, True))
    return [_row(without, watched)]


def _speeds(
    told: Sequence[tuple[float, int]], windows: Sequence[tuple[float, float]]
) -> list[float]:
    """Return the steps a second in each window, from what the run told of its progress."""
    times, steps = (np.array(column, float) for column in zip(*told, strict=True))
    return [
        float(np.interp(end, times, steps) - np.interp(begin, times, steps)) / (end - begin)
        for begin, end in windows
    ]


def _row(without: Sequence[float], watched: Sequence[float]) -> Row:
    slower = [100 * (1 - w / o) for o, w in zip(without, watched, strict=True)]
    mean = statistics.mean(slower)
    half = _T * statistics.stdev(slower) / math.sqrt(len(slower))
    return Row(
        f"time that a page takes from the training it watches, of {PAIRS} pairs of windows",
        f"{mean:+.2f} % ± {half:.2f} % (95 %)",
        f"without it {statistics.mean(without):.0f} steps/s",
        None,
        "none that can be measured",
        # a machine that is too busy to tell says nothing
        mean - half <= 0 if half < MAX_HALF else None,
    )
