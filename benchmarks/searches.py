"""Searches: how long a proposal takes in a long search, what halving saves, and what kills change.

    python benchmarks/searches.py asks              # 10,000 trials of a toy
    python benchmarks/searches.py halving           # against full training, side by side, on mnist_5k
    python benchmarks/searches.py kills --kills 200 # SIGKILL of a real server at random moments

Each prints what it measured, and ends with an error when what must hold does not.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

from lab_client import Client, Halving, Search, choice, log_uniform, uniform
from lab_client.errors import LabError
from lab_server.model import search as model
from lab_server.model.domain import Choice, Domain, FloatRange, IntRange
from lab_server.model.search_log import Asked, Created, LogEntry, Told
from lab_server.search import sampling
from lab_server.search.fold import Search as Fold

EXPERIMENTS = Path(__file__).parents[1] / "tests" / "experiments.py"
SPACE = {"x": uniform(-1, 1), "rate": log_uniform(0.01, 1)}
KILLS_A_SEARCH = 20
LATEST_KILL_S = 1.5
KINDS: dict[str, dict[str, Any]] = {
    "grid": {"space": {"x": choice(0.1, 0.2, 0.3, 0.4), "rate": choice(0.1, 0.5, 0.9)}},
    "tpe": {"space": SPACE, "max_trials": 16},
    "halving": {"space": SPACE, "max_trials": 12, "halving": Halving(3, 3)},
    # learns from the undisturbed one by TPE
    "warm start": {"space": SPACE, "max_trials": 8},
}


def asks(num_trials: int) -> None:
    """Tell trials to a search and measure its proposals, with as many trials as it has got.

    CPU time counts: it is that of the proposal, whatever else the machine does.
    """
    space: dict[str, Domain] = {
        "rate": FloatRange(1e-5, 1e-1, is_log=True),
        "kernel": Choice((3, 5)),
        "width": IntRange(1, 64),
    }
    spec = model.SearchSpec(
        "toy",
        space,
        model.Objective("loss", model.Direction.MINIMIZE),
        model.Budget(num_trials),
        model.Sampler.TPE,
        seed=1,
    )
    sampling.propose(_filled(spec, 20), 20, 20)  # imports
    print("trials  an ask, of 20: median CPU  median wall  least wall (ms)  search in memory (MiB)")
    for num in (100, 1000, num_trials):
        tracemalloc.start()
        search = _filled(spec, num)
        held_mib = tracemalloc.get_traced_memory()[0] / 2**20
        tracemalloc.stop()
        cpu_ms, wall_ms = [], []
        for _ in range(20):
            began, began_cpu = time.perf_counter(), time.process_time()
            sampling.propose(search, num, num)
            cpu_ms.append(1000 * (time.process_time() - began_cpu))
            wall_ms.append(1000 * (time.perf_counter() - began))
        cpu, wall = statistics.median(cpu_ms), statistics.median(wall_ms)
        least = min(wall_ms)
        print(f"{num:6}  {cpu:25.1f}  {wall:11.1f}  {least:15.1f}  {held_mib:22.1f}")
    assert cpu < 100, "an ask takes less than 100 ms"


def _filled(spec: model.SearchSpec, num_trials: int) -> Fold:
    rng = random.Random(7)
    search = Fold("toy", "", [LogEntry(1, 0, Created(spec))])
    for number in range(num_trials):
        params = {
            "rate": 10 ** rng.uniform(-5, -1),
            "kernel": rng.choice((3, 5)),
            "width": rng.randint(1, 64),
        }
        value = (math.log10(params["rate"]) + 3) ** 2 + params["width"] / 64
        for entry in (
            Asked(number, params, number, sampler="toy"),
            Told(number, 0, model.TrialState.COMPLETED, value, 10),
        ):
            search.apply(LogEntry(search.last_seq + 1, 0, entry))
    return search


class Server:
    """A server that can be killed and started again on the same home and port."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lab_server", "serve", "--home", str(self._home)),
                *("--grpc", self.address or "127.0.0.1:0", "--http", "127.0.0.1:0"),
                *("--slots", "cpu:2", "--experiments", str(EXPERIMENTS)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "grpc=" in line, f"the server did not start: {line!r}"
        self.address = line.split("grpc=")[1].split()[0]

    def kill(self) -> None:
        """SIGKILL; trainers go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it as an operator does."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=60)


def search_of(client: Client, kind: str, seed: int, earlier: str = "") -> Search:
    """Begin a search of a kind; a warm start is from an earlier one."""
    arguments = dict(KINDS[kind])
    return client.search(
        "valley",
        arguments.pop("space"),
        minimize="loss",
        parallel=2,
        seed=seed,
        lockstep=True,
        warm_start=[earlier] if kind == "warm start" else (),
        **arguments,
    )


def outcome(client: Client, study: Search) -> tuple[Any, ...]:
    """Return all that must be the same."""
    trials = [
        (t.number, dict(t.params), t.seed, t.state, t.rung, t.value, t.step) for t in study.trials()
    ]
    runs = [r.id for r in client.runs() if r.info.trial and r.info.trial.search_id == study.id]
    promoted = [(e.trial, e.rung) for e in study.watch() if e.kind == "promoted"]
    taken = study.refresh().num_taken_over
    best = study.best
    info = study.info
    return trials, promoted, best and best.number, info.state, info.reason, len(runs), taken


def kills(num_kills: int, seed: int) -> None:
    """Kill a server at random while searches run, and compare them with undisturbed ones."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        client = Client(server.address, reconnect_timeout_s=300, retry_timeout_s=60, timeout_s=120)
        expected, earlier = {}, ""
        for kind in KINDS:
            study = search_of(client, kind, seed, earlier)
            study.wait(300)
            earlier = study.id if kind == "tpe" else earlier
            expected[kind] = outcome(client, study)
        num_done, num_searches, began = Counter[str](), Counter[str](), time.monotonic()
        while num_done.total() < num_kills:
            kind = min(KINDS, key=lambda name: num_searches[name])
            study = search_of(client, kind, seed, earlier)
            num_of_this = 0
            # a bound: a server that is killed as soon as it is ready gets nowhere
            while num_of_this < KILLS_A_SEARCH and not study.refresh().state.is_terminal:
                time.sleep(rng.uniform(0.0, LATEST_KILL_S))
                server.kill()
                num_of_this += 1
                server.start()
            study.wait(300)
            found = outcome(client, study)
            assert found == expected[kind], f"{kind}, {found}\nundisturbed: {expected[kind]}"
            num_searches[kind] += 1
            num_done[kind] += num_of_this
            print(f"{num_done.total():4} kills; {kind}: {num_of_this} kills, ended the same")
        took_s = time.monotonic() - began
        print(f"{num_done.total()} kills in {num_searches.total()} searches, {took_s:.0f} s:")
        for kind in KINDS:
            print(f"  {kind}: {num_done[kind]} kills in {num_searches[kind]} searches")
        print("every search ended with the same trials, values, promotions, winner and runs")
        client.close()
        server.stop()


def halving(seed: int) -> None:
    """Search the same 18 configs with and without halving, and compare winners and steps.

    The best value of a trial counts: at a constant learning rate the accuracy after an epoch goes up and
    down by more than the configs differ, so that the last one says little at a rung.
    """
    space = {
        "learning_rate": log_uniform(1e-3, 1e-1),
        "momentum": uniform(0.0, 0.95),
        "conv1_kernal": choice(3, 5),
        "dataset": "mnist_5k",
        "epochs": 9,
    }
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        with Client(server.address, timeout_s=120) as client:
            found = {}
            for name, early in (("full training", None), ("halving", Halving(63, 3))):
                began = time.monotonic()
                study = client.search(
                    "mnist",
                    space,
                    maximize="accuracy",
                    max_trials=18,
                    parallel=2,
                    sampler="quasi_random",
                    seed=seed,
                    reduction="best",
                    halving=early,
                )
                study.wait(check=True)
                best = study.best
                assert best is not None
                assert best.value is not None
                took_s = time.monotonic() - began
                steps = study.info.num_steps
                print(
                    f"{name:14} {steps:6} steps  {took_s:5.0f} s  accuracy {best.value:.4f}  trial {best.number}"
                )
                found[name] = best.value, steps
        server.stop()
    (full, full_steps), (halved, halved_steps) = found.values()
    print(f"halving takes {full_steps / halved_steps:.2f} times fewer steps")
    noise = 2 * math.sqrt(full * (1 - full) / 1000)  # of 1,000 test images, two standard errors
    assert halved >= full - noise, "the winner is as good, within noise"
    assert full_steps >= 2.5 * halved_steps


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["asks", "halving", "kills"])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        if arguments.what == "asks":
            asks(arguments.trials)
        elif arguments.what == "halving":
            halving(arguments.seed)
        else:
            kills(arguments.kills, arguments.seed)
    except (AssertionError, LabError) as error:
        raise SystemExit(f"benchmarks/searches.py: {error}") from None


if __name__ == "__main__":
    main()
