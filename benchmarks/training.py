"""What the service costs a training: its speed, the processor's time around it, and the delay of metrics.

    python benchmarks/training.py [--rounds N] [--steps N]

Contenders take turns, in processes of their own that are idle meanwhile. Runs through the service have
every writer on and one subscriber each. MNIST is read from LAB_DATA_PATH; without it all take as many digits, which
are those of mnist_5k over and over.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mnist
from live_server import LiveServer
from mnist_size import data_of_mnists_size, has_mnist
from processes import cpu_s, thread_cpu_s
from table import Row, at_least, at_most, markdown

from lab_client import Client, Run
from lab_client.events import Metrics

WARM_UP_STEPS = 60
TIMED = str(Path(__file__).with_name("timed_mnist.py"))


@dataclass
class Followed:
    """A run as its subscriber saw it.

    Attributes:
        times: when the trainer sent an event with metrics, seconds since 1970.
        steps: the last step in it.
        delays_s: from each step to the client.
        num_events: of any kind, while measured.
    """

    run: Run
    times: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)
    num_events: int = 0

    def follow(self, is_warm: threading.Event) -> None:
        """Read the run's events until it ends."""
        for event in self.run.events():
            now = time.time()
            self.num_events += 1
            if not isinstance(event.body, Metrics) or not event.body.steps:
                continue
            self.times.append(event.time_unix_ns / 1e9)
            self.steps.append(event.body.steps[-1])
            if self.steps[-1] >= WARM_UP_STEPS:
                is_warm.set()
            saved = event.body.columns.get("saved_at")
            if saved is not None and is_warm.is_set():
                self.delays_s += [now - at for at in saved.values]

    def step_at(self, at: float) -> float:
        """Return the step reached at a time, between two events by interpolation."""
        i = bisect.bisect_left(self.times, at, lo=1, hi=len(self.steps))
        if i == len(self.steps):
            return self.steps[-1]
        part = (at - self.times[i - 1]) / max(self.times[i] - self.times[i - 1], 1e-9)
        return self.steps[i - 1] + part * (self.steps[i] - self.steps[i - 1])


@dataclass
class Served:
    """Runs through the service over some seconds.

    Attributes:
        steps_per_s: of all runs together.
        server_cores: the share of one core that the server took.
        own_threads_cores: the share that the first trainer's threads for us took: tracker and watcher.
        events_per_s: of all runs.
    """

    steps_per_s: float
    server_cores: float
    own_threads_cores: float
    events_per_s: float
    delays_s: list[float]


def serve_round(server: LiveServer, num_runs: int, seconds: float) -> Served:
    """Train num_runs runs at once for so many seconds, after they are all warm."""
    assert server.process is not None
    with contextlib.ExitStack() as stack:
        followed, warm, threads = [], [], []
        for _ in range(num_runs):
            client = stack.enter_context(Client(server.address))
            run = client.create("timed_mnist", configs()).start()
            followed.append(Followed(run))
            warm.append(threading.Event())
            threads.append(threading.Thread(target=followed[-1].follow, args=(warm[-1],)))
            threads[-1].start()
        for event in warm:
            event.wait()
        trainer = trainer_of(server.process.pid)
        begin, cpu, own = time.time(), cpu_s(server.process.pid), thread_cpu_s(trainer, "lab-")
        num_events = sum(f.num_events for f in followed)
        time.sleep(seconds)
        end = time.time()
        cpu, own = cpu_s(server.process.pid) - cpu, thread_cpu_s(trainer, "lab-") - own
        num_events = sum(f.num_events for f in followed) - num_events
        time.sleep(0.3)  # what was measured before `end` has come
        for f in followed:
            f.run.stop()
        for thread in threads:
            thread.join()
    took = end - begin
    return Served(
        sum(f.step_at(end) - f.step_at(begin) for f in followed) / took,
        cpu / took,
        own / took,
        num_events / took,
        [delay for f in followed for delay in f.delays_s],
    )


def configs() -> dict[str, str | int]:
    """Return what all runs are trained with: long enough not to end by themselves."""
    return {"dataset": "mnist" if has_mnist() else "mnist_5k", "epochs": 1000}


def trainer_of(server_pid: int) -> int:
    """Return a trainer's pid: server, forkserver, generation and trainer are parents of each other."""

    def children(pid: int) -> list[int]:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    return next(
        trainer
        for forkserver in children(server_pid)
        for generation in children(forkserver)
        for trainer in children(generation)
    )


@contextlib.contextmanager
def serving(slots: str) -> Iterator[LiveServer]:
    """Give a server with these slots."""
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home), "--slots", slots, "--experiments", TIMED) as server,
    ):
        yield server


def one_run(rounds: int, num_steps: int) -> list[Row]:
    """One run with all threads, against the best bare loop and the tutorial's."""
    threads = len(os.sched_getaffinity(0))
    speeds: dict[str, list[float]] = {"tutorial": [], "bare": []}
    served: list[Served] = []
    with mnist.contenders(["tutorial", "bare"], threads) as peers, serving("cpu:1") as server:
        serve_round(server, 1, 1.0)  # what is imported on first use is not of interest
        for _ in range(rounds):
            for name, contender in peers.items():
                speeds[name].append(num_steps / contender.run(num_steps).wall_s)
            served.append(serve_round(server, 1, num_steps / speeds["bare"][-1]))
    ours = [s.steps_per_s for s in served]
    bare, tutorial = (_ratio(ours, speeds[name]) for name in ("bare", "tutorial"))
    peer = f"best bare loop, {_median(speeds['bare']):.1f} steps/s"
    rows = [
        at_least("training, one run", _rate(ours), peer, bare, 0.95),
        at_least(
            "training, one run",
            _rate(ours),
            f"tutorial's loop, {_median(speeds['tutorial']):.1f} steps/s",
            tutorial,
            2.4,
        ),
    ]
    delays_ms = sorted(1e3 * d for s in served for d in s.delays_s)
    share = _median([s.server_cores for s in served])
    events_per_s = _median([s.events_per_s for s in served])
    at = f"at {_median(ours):.0f} steps/s, {events_per_s:.1f} events/s"
    return [
        *rows,
        at_most("server's processor time", 100 * share, 4, "% of a core", at),
        at_most("server's processor time an event", 1e3 * share / events_per_s, 0.5, "ms", at),
        at_most(
            "trainer's own threads",
            100 * _median([s.own_threads_cores for s in served]),
            1,
            "% of a core",
            at,
        ),
        at_most("step to client, median", _percentile(delays_ms, 50), 150, "ms", at),
        at_most("step to client, 99th percentile", _percentile(delays_ms, 99), 300, "ms", at),
    ]


def two_runs(rounds: int, num_steps: int) -> list[Row]:
    """Two runs of one thread each, against two bare loops side by side."""
    bare: list[float] = []
    served: list[float] = []
    with bare_loops(2) as peers, serving("cpu:2") as server:
        serve_round(server, 2, 1.0)
        for _ in range(rounds):
            bare.append(side_by_side(peers, num_steps))
            served.append(serve_round(server, 2, 2 * num_steps / bare[-1]).steps_per_s)
    peer_text = f"two bare loops, {_median(bare):.1f} steps/s"
    return [
        at_least(
            "training, two runs on two slots",
            _rate(served),
            peer_text,
            _ratio(served, bare),
            0.95,
        )
    ]


def four_runs(rounds: int, seconds: float) -> list[Row]:
    """Twice as many trainers as cores, against as many as cores; and bare loops likewise."""
    cores = len(os.sched_getaffinity(0))
    few: list[float] = []
    many: list[float] = []
    few_bare: list[float] = []
    many_bare: list[float] = []
    with (
        bare_loops(2 * cores) as peers,
        serving(f"cpu:{cores}") as fitting,
        serving(f"cpu:{2 * cores}") as crowded,
    ):
        speed = side_by_side(peers, 20)
        for _ in range(rounds):
            few.append(serve_round(fitting, cores, seconds).steps_per_s)
            many.append(serve_round(crowded, 2 * cores, seconds).steps_per_s)
            num_steps = round(seconds * speed / cores)
            few_bare.append(side_by_side(peers[:cores], num_steps))
            many_bare.append(side_by_side(peers, num_steps // 2))
    what, bare_what = f"{2 * cores} runs on {cores} cores", f"{2 * cores} bare loops"
    fewer = f"{cores} bare loops, {_median(few_bare):.1f} steps/s"
    peer = f"{bare_what}, {_median(many_bare):.1f} steps/s"
    return [
        at_least(
            f"training, {what}",
            _rate(many),
            f"{cores} runs, {_median(few):.1f} steps/s",
            _ratio(many, few),
            1.0,
        ),
        # what the machine itself loses
        Row(f"{bare_what} there", _rate(many_bare), fewer, _ratio(many_bare, few_bare)),
        at_least(f"training, {what}", _rate(many), peer, _ratio(many, many_bare), 0.95),
    ]


@contextlib.contextmanager
def bare_loops(num: int) -> Iterator[list[mnist.Contender]]:
    """Give so many best bare loops of one thread each."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(mnist.contenders(["bare"], 1))["bare"] for _ in range(num)]


def side_by_side(loops: Sequence[mnist.Contender], num_steps: int) -> float:
    """Return the steps a second of loops that run at the same time, all together."""
    for loop in loops:
        loop.begin(num_steps)
    return sum(num_steps / loop.end().wall_s for loop in loops)


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _rate(values: Sequence[float]) -> str:
    return f"{_median(values):.1f} steps/s"


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def rows(rounds: int = 4, num_steps: int = 300) -> list[Row]:
    """Measure all of it."""
    with data_of_mnists_size():
        return [
            *one_run(rounds, num_steps),
            *two_runs(rounds, num_steps),
            *four_runs(max(3, rounds - 1), 3.0),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300, help="of a round, at most an epoch")
    arguments = parser.parse_args()
    print(markdown(rows(arguments.rounds, arguments.steps)))
