"""Whether a run gets slower, larger or later as it grows: its last tenth against its first.

    python benchmarks/growth.py [--steps 1000000]

The steps of the run do nothing but measure two metrics, so all of its time is the service's. One subscriber
follows it, with the lag from the trainer's event to the client; the memory of server and trainer is read meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from live_server import LiveServer
from processes import memory_bytes
from table import Row, markdown
from training import trainer_of

from lab_client import Client, Run
from lab_client.events import Metrics

EXPERIMENT = str(Path(__file__).with_name("growth_experiment.py"))


@dataclass
class Grown:
    """A run as its subscriber saw it: step, time and lag of each event; step and memory at times."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    memory: list[tuple[int, float, float]] = field(
        default_factory=list
    )  # step, MB of server and trainer

    def follow(self, run: Run) -> None:
        """Read all events."""
        for event in run.events():
            if isinstance(event.body, Metrics) and event.body.steps:
                at = event.time_unix_ns / 1e9
                self.lags_ms.append(1e3 * (time.time() - at))
                self.times.append(at)
                self.steps.append(event.body.steps[-1])


def grow(num_steps: int) -> Grown:
    """Run it."""
    grown = Grown()
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home), "--slots", "cpu:1", "--experiments", EXPERIMENT) as server,
        Client(server.address) as client,
    ):
        assert server.process is not None
        pid = server.process.pid
        client.wait_ready()
        run = client.create("growth_experiment", {"num_steps": num_steps}).start()
        reader = threading.Thread(target=grown.follow, args=(run,))
        reader.start()
        trainer = 0
        while reader.is_alive():
            reader.join(0.5)
            if grown.steps and grown.steps[-1] < 0.99 * num_steps:
                trainer = trainer or trainer_of(pid)
                server_mb, trainer_mb = (memory_bytes(p) / 1e6 for p in (pid, trainer))
                grown.memory.append((grown.steps[-1], server_mb, trainer_mb))
    return grown


def rows(num_steps: int = 1_000_000) -> list[Row]:
    """Measure it."""
    grown = grow(num_steps)

    def is_in(tenth: int, step: int) -> bool:
        return tenth * num_steps / 10 < step <= (tenth + 1) * num_steps / 10

    def speed(tenth: int) -> float:
        reached = [
            pair for pair in zip(grown.steps, grown.times, strict=True) if is_in(tenth, pair[0])
        ]
        (first, began), (last, ended) = reached[0], reached[-1]
        return (last - first) / (ended - began) / 1e3

    def lags(tenth: int) -> list[float]:
        pairs = zip(grown.steps, grown.lags_ms, strict=True)
        return [lag_ms for step, lag_ms in pairs if is_in(tenth, step)]

    def lag(tenth: int) -> float:
        return statistics.median(lags(tenth))

    def server(tenth: int) -> float:
        return statistics.median(m[1] for m in grown.memory if is_in(tenth, m[0]))

    def trainer(tenth: int) -> float:
        return statistics.median(m[2] for m in grown.memory if is_in(tenth, m[0]))

    low, _, high = statistics.quantiles(lags(0), n=4)
    noise = {"lag": high - low}  # an event waits for the next batch, longer or shorter
    found = []
    figures: tuple[tuple[str, Callable[[int], float], str, bool], ...] = (
        ("steps", speed, "thousand/s", True),
        ("lag", lag, "ms", False),
        ("server's memory", server, "MB", False),
        ("trainer's memory", trainer, "MB", False),
    )
    for what, value, unit, is_more_better in figures:
        first, last = value(0), value(9)
        ratio = last / first if is_more_better else first / last
        found.append(
            Row(
                f"{what} in the last tenth of {num_steps:,} steps",
                f"{last:.4g} {unit}",
                f"first tenth, {first:.4g} {unit}"
                + (f"; half of its events differ by {noise[what]:.2g}" if what in noise else ""),
                ratio,
                "≥ 0.9 x",
                ratio >= 0.9 or abs(first - last) <= noise.get(what, 0),
            )
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    print(markdown(rows(parser.parse_args().steps)))
