"""What 100 subscribers, 50 of them stalled, cost a training.

    python benchmarks/subscribers.py [--pairs N] [--seconds N]

One run trains all the while, and is followed by one subscriber, which notes when each step was. The crowd comes and
goes, in a process of its own that has the lowest priority while it is measured: the processor that clients use is
elsewhere when they are on other machines. A pair is two windows of so many seconds, with the crowd and without it,
next to each other and in either order, so that what changes slowly is in both. A window's speed is that of its steps;
the time between two epochs, in which the model is tested, does not count: it is in some windows and not in others.
Pairs are measured until the interval of their differences is narrow, or for two and a half minutes. It is Wilcoxon's,
about the Hodges-Lehmann estimate: some windows in which the machine did something else do not matter.

What the trainer waited for a core, which the kernel counts, tells how much of that is others that run.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnist_size import data_of_mnists_size
from processes import core_wait_s, cpu_s
from table import Row, markdown
from training import WARM_UP_STEPS, configs, serving, trainer_of

from lab_client import Client, Run
from lab_client.events import Metrics

NUM_READING = NUM_STALLED = 50
_LOG_S = (
    10.0  # so long it trains before: the stalled ones need a log that is longer than gRPC's buffers
)
_SETTLE_S = 0.4  # a batch of metrics is on its way for a part of a second
_LEAST_PAIRS = 12
_LEAST_STEPS = 10  # of a window whose speed says something
_NARROW_PERCENT = 1.0  # half the width of the interval that is narrow enough
_LONGEST_S = 150.0


@dataclass
class Steps:
    """When the steps of a run were.

    Attributes:
        saved_at: of each step, seconds since 1970.
        epoch_ends: the steps behind which the model was tested.
        last_seq: of the last event.
    """

    run: Run
    saved_at: dict[int, float] = field(default_factory=dict)
    epoch_ends: set[int] = field(default_factory=set)
    last_seq: int = 0
    is_warm: threading.Event = field(default_factory=threading.Event)

    def follow(self) -> None:
        """Read the run's events until it ends."""
        for event in self.run.events():
            self.last_seq = event.seq
            if not isinstance(event.body, Metrics):
                continue
            for point in event.body.points():
                if "saved_at" in point.values:
                    self.saved_at[point.step] = point.values["saved_at"]
                if "accuracy" in point.values:
                    self.epoch_ends.add(point.step)
            if len(self.saved_at) >= WARM_UP_STEPS:
                self.is_warm.set()

    def per_s(self, begin: float, end: float) -> float:
        """Return the steps a second between two times, and 0 where there are too few."""
        steps = [step for step, at in self.saved_at.items() if begin <= at <= end]
        took = [
            self.saved_at[step + 1] - self.saved_at[step]
            for step in steps[:-1]
            if step not in self.epoch_ends
        ]
        return len(took) / sum(took) if len(took) >= _LEAST_STEPS else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of the training.

    Attributes:
        steps_per_s: 0 where there were too few.
        server_cores: the share of a core that the server took.
        waited_cores: the time for which threads of the trainer waited for a core, in seconds a second.
        events_per_s: that the crowd's readers got.
    """

    steps_per_s: float
    server_cores: float
    waited_cores: float
    events_per_s: float = 0.0


class Crowd:
    """The subscribers, in another process."""

    def __init__(self, process: subprocess.Popen[str], run_id: str) -> None:
        self._process = process
        self.run_id = run_id
        self._is_there = False

    def is_to_be(self, *, there: bool, after_seq: int) -> None:
        """Subscribe, or end all subscriptions, unless that is so.

        They subscribe as those that have been there: the log of before is no part of what is measured.
        """
        if there == self._is_there:
            return
        self._is_there = there
        if not there:
            self._ask("go")
        elif self._ask(f"come {after_seq}") != "here":
            raise RuntimeError("the subscribers could not watch")

    def num_events(self) -> int:
        """Return how many events the readers have got since they came; 0 while they are away."""
        return int(self._ask("count")) if self._is_there else 0

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def crowd_of(address: str, run_id: str) -> Iterator[Crowd]:
    """Give a crowd that is not there yet."""
    words = [address, run_id, str(NUM_READING), str(NUM_STALLED)]
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("crowd.py")), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Crowd(process, run_id)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Pair:
    """Two windows next to each other."""

    alone: Window
    watched: Window

    @property
    def slower_percent(self) -> float:
        """By how much the training was slower with the crowd."""
        return 100 * (1 - self.watched.steps_per_s / self.alone.steps_per_s)


def measure(least: int, seconds: float) -> list[Pair]:
    """Train, and let the crowd come and go."""
    pairs: list[Pair] = []
    with serving("cpu:1") as server, Client(server.address) as client:
        steps = Steps(client.create("timed_mnist", configs()).start())
        thread = threading.Thread(target=steps.follow)
        thread.start()
        steps.is_warm.wait()
        time.sleep(_LOG_S)
        assert server.process is not None
        pids = server.process.pid, trainer_of(server.process.pid)
        with crowd_of(server.address, steps.run.id) as crowd:
            began = time.monotonic()
            is_watched = False
            while not _is_enough(pairs, least, time.monotonic() - began):
                windows = {}
                # each pair begins as the one before ended, so the crowd comes once for two of them
                for _ in range(2):
                    crowd.is_to_be(there=is_watched, after_seq=steps.last_seq)
                    windows[is_watched] = _window(crowd, steps, *pids, seconds)
                    is_watched = not is_watched
                is_watched = not is_watched
                if all(window.steps_per_s for window in windows.values()):
                    pairs.append(Pair(windows[False], windows[True]))
        steps.run.stop()
        thread.join()
    return pairs


def _is_enough(pairs: Sequence[Pair], least: int, took_s: float) -> bool:
    if len(pairs) < 2:
        if took_s > 2 * _LONGEST_S:
            raise SystemExit("the training makes too few steps: others want the cores")
        return False
    if len(pairs) < least:
        return took_s > _LONGEST_S  # where others want the cores, the crowd comes in slowly
    _, low, high = interval([pair.slower_percent for pair in pairs])
    return high - low < 2 * _NARROW_PERCENT or took_s > _LONGEST_S


def _window(crowd: Crowd, steps: Steps, server: int, trainer: int, seconds: float) -> Window:
    time.sleep(_SETTLE_S)
    num_events = crowd.num_events()
    begin, cpu, waited = time.time(), cpu_s(server), core_wait_s(trainer)
    time.sleep(seconds)
    end, cpu, waited = time.time(), cpu_s(server) - cpu, core_wait_s(trainer) - waited
    num_events = crowd.num_events() - num_events
    time.sleep(_SETTLE_S)
    took = end - begin
    return Window(steps.per_s(begin, end), cpu / took, waited / took, num_events / took)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the Hodges-Lehmann estimate of the center, and the ends of its 95 % interval by Wilcoxon."""
    num = len(values)
    means = sorted((values[i] + values[j]) / 2 for i in range(num) for j in range(i, num))
    spread = math.sqrt(num * (num + 1) * (2 * num + 1) / 24)
    rank = max(0, int(num * (num + 1) / 4 - 1.96 * spread))
    return statistics.median(means), means[rank], means[-1 - rank]


def rows(least: int = _LEAST_PAIRS, seconds: float = 2.0) -> list[Row]:
    """Measure it."""
    with data_of_mnists_size():
        pairs = measure(least, seconds)
    slower, low, high = interval([pair.slower_percent for pair in pairs])
    alone, watched = [pair.alone for pair in pairs], [pair.watched for pair in pairs]
    num = NUM_READING + NUM_STALLED
    return [
        Row(
            f"slower training by {num} subscribers, {NUM_STALLED} stalled",
            f"{slower:.1f} % ({low:.1f} to {high:.1f})",
            f"{statistics.median(w.steps_per_s for w in alone):.1f} steps/s alone, {len(pairs)} pairs;"
            f" the readers got {statistics.median(w.events_per_s for w in watched):.0f} events/s",
            None,
            "≤ 3 %",
            high <= 3,
        ),
        *(
            Row(
                f"{what}, with {num} subscribers",
                f"{_percent(watched, name)} % of a core",
                f"alone, {_percent(alone, name)} % of a core",
            )
            for what, name in (
                ("trainer's wait for a core", "waited_cores"),
                ("server's processor time", "server_cores"),
            )
        ),
    ]


def _percent(windows: Sequence[Window], name: str) -> str:
    return f"{100 * statistics.median(getattr(window, name) for window in windows):.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=_LEAST_PAIRS, help="at least so many")
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.pairs, arguments.seconds)))
