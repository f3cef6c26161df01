"""What 100 subscribers, 50 of them stalled, cost a training.

    python benchmarks/subscribers.py [--pairs N] [--seconds N]

One run trains all the while, and is followed by one subscriber. The crowd comes and goes, in a process of its own
that has the lowest priority while it is measured: the processor that clients use is elsewhere when they are on other
machines. A pair is two windows of so many seconds, with the crowd and without it, next to each other and in either
order, so that what changes slowly is in both. Pairs are measured until the interval of their differences is narrow,
or for two minutes. It is Wilcoxon's, about the Hodges-Lehmann estimate: some windows in which the
machine did something else do not matter.
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
from dataclasses import dataclass
from pathlib import Path

from mnist_size import data_of_mnists_size
from processes import cpu_s
from table import Row, markdown
from training import Followed, configs, serving

from lab_client import Client

NUM_READING = NUM_STALLED = 50
_LOG_S = (
    10.0  # so long it trains before: the stalled ones need a log that is longer than gRPC's buffers
)
_SETTLE_S = 0.4  # a batch of metrics is on its way for a part of a second
_LEAST_PAIRS = 12
_NARROW_PERCENT = 1.0  # half the width of the interval that is narrow enough
_LONGEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of the training.

    Attributes:
        begin: seconds since 1970.
        end: as `begin`.
        server_cores: the share of a core that the server took.
        num_events: that the crowd's readers got.
    """

    begin: float
    end: float
    server_cores: float
    num_events: int = 0


class Crowd:
    """The subscribers, in another process."""

    def __init__(self, process: subprocess.Popen[str], run_id: str) -> None:
        self._process = process
        self.run_id = run_id

    def come(self, after_seq: int) -> None:
        """Subscribe; as those that have been there: the log of before is no part of what is measured."""
        if self._ask(f"come {after_seq}") != "here":
            raise RuntimeError("the subscribers could not watch")

    def num_events(self) -> int:
        """Return how many events the readers have got since they came."""
        return int(self._ask("count"))

    def go(self) -> None:
        """End all subscriptions."""
        self._ask("go")

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
    """Two windows next to each other, with their steps a second."""

    alone: Window
    watched: Window
    alone_steps_per_s: float
    watched_steps_per_s: float

    @property
    def slower_percent(self) -> float:
        """By how much the training was slower with the crowd."""
        return 100 * (1 - self.watched_steps_per_s / self.alone_steps_per_s)


def measure(least: int, seconds: float) -> list[Pair]:
    """Train, and let the crowd come and go."""
    pairs: list[Pair] = []
    with serving("cpu:1") as server, Client(server.address) as client:
        run = client.create("timed_mnist", configs()).start()
        followed, is_warm = Followed(run), threading.Event()
        thread = threading.Thread(target=followed.follow, args=(is_warm,))
        thread.start()
        is_warm.wait()
        time.sleep(_LOG_S)
        assert server.process is not None
        pid = server.process.pid
        with crowd_of(server.address, run.id) as crowd:
            began = time.monotonic()
            while not _is_enough(pairs, least, time.monotonic() - began):
                windows = {}
                for is_watched in (bool(len(pairs) % 2), not len(pairs) % 2):
                    windows[is_watched] = _window(
                        crowd if is_watched else None, followed, pid, seconds
                    )
                speeds = {key: _speed(followed, window) for key, window in windows.items()}
                pairs.append(Pair(windows[False], windows[True], speeds[False], speeds[True]))
        run.stop()
        thread.join()
    return pairs


def _is_enough(pairs: Sequence[Pair], least: int, took_s: float) -> bool:
    if len(pairs) < 2:
        return False
    if len(pairs) < least:
        return took_s > _LONGEST_S  # where others want the cores, the crowd comes in slowly
    _, low, high = interval([pair.slower_percent for pair in pairs])
    return high - low < 2 * _NARROW_PERCENT or took_s > _LONGEST_S


def _window(crowd: Crowd | None, followed: Followed, pid: int, seconds: float) -> Window:
    if crowd is not None:
        crowd.come(followed.last_seq)
    time.sleep(_SETTLE_S)
    num_events = crowd.num_events() if crowd is not None else 0
    begin, cpu = time.time(), cpu_s(pid)
    time.sleep(seconds)
    end, cpu = time.time(), cpu_s(pid) - cpu
    if crowd is not None:
        num_events = crowd.num_events() - num_events
        crowd.go()
    time.sleep(_SETTLE_S)
    return Window(begin, end, cpu / (end - begin), num_events)


def _speed(followed: Followed, window: Window) -> float:
    took = window.end - window.begin
    return (followed.step_at(window.end) - followed.step_at(window.begin)) / took


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the Hodges-Lehmann estimate of the center, and the ends of its 95 % interval by Wilcoxon."""
    num = len(values)
    means = sorted((values[i] + values[j]) / 2 for i in range(num) for j in range(i, num))
    spread = math.sqrt(num * (num + 1) * (2 * num + 1) / 24)
    rank = max(0, int(num * (num + 1) / 4 - 1.96 * spread))
    return statistics.median(means), means[rank], means[-1 - rank]


def rows(least: int = _LEAST_PAIRS, seconds: float = 1.5) -> list[Row]:
    """Measure it."""
    with data_of_mnists_size():
        pairs = measure(least, seconds)
    slower, low, high = interval([pair.slower_percent for pair in pairs])
    events_per_s = statistics.median(pair.watched.num_events / seconds for pair in pairs)
    alone, watched = (
        100 * statistics.median(window.server_cores for window in windows)
        for windows in ([p.alone for p in pairs], [p.watched for p in pairs])
    )
    return [
        Row(
            f"slower training by {NUM_READING + NUM_STALLED} subscribers, {NUM_STALLED} stalled",
            f"{slower:.1f} % ({low:.1f} to {high:.1f})",
            f"{statistics.median(p.alone_steps_per_s for p in pairs):.1f} steps/s alone, {len(pairs)} pairs;"
            f" the readers got {events_per_s:.0f} events/s; server {alone:.1f}, watched {watched:.1f} % of a core",
            None,
            "≤ 3 %",
            high <= 3,
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=_LEAST_PAIRS, help="at least so many")
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.pairs, arguments.seconds)))
