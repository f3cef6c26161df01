"""What the service costs a training, and how soon it begins.

    python benchmarks/service.py speed     steps a second through the service, against loops without it
    python benchmarks/service.py start     start() to the first metric in the client, against a fresh process

`speed` takes turns: a run through the service with all writers and one subscriber, then the tutorial's own
loop and the best bare PyTorch loop (both from benchmarks/mnist.py), each a round of the same number of steps.
The whole of MNIST is read from LAB_DATA_PATH; without it all contenders take mnist_5k.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mnist
from live_server import LiveServer

from lab_client import Client
from lab_client.events import Metrics

WARM_UP_STEPS = 60


def served_round(client: Client, configs: dict[str, str | int], num_steps: int) -> float:
    """Train through the service; return the seconds of num_steps steps as a subscriber saw them."""
    run = client.create("mnist", configs).start()
    began = ended = 0.0
    first = last = 0
    for event in run.events():
        if not isinstance(event.body, Metrics) or not event.body.steps:
            continue
        now, step = event.time_unix_ns / 1e9, event.body.steps[-1]
        if first == 0 and step >= WARM_UP_STEPS:
            began, first = now, step
        elif first and step <= first + num_steps:
            ended, last = now, step
        elif first:
            break
    run.stop() if not run.state.is_terminal else None
    run.wait()
    return (ended - began) / (last - first) * num_steps


def speed(rounds: int, num_steps: int, threads: int) -> None:
    """Print steps a second of all contenders, and the ratios round by round."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[str, list[float]] = {"tutorial": [], "bare": [], "service": []}
    pipes, processes = {}, []
    for name in ("tutorial", "bare"):
        pipes[name], theirs = context.Pipe()
        processes.append(
            context.Process(target=mnist.serve, args=(name, threads, theirs), daemon=True)
        )
        processes[-1].start()
        pipes[name].recv()

    has_mnist = (Path(os.environ.get("LAB_DATA_PATH", "")) / "MNIST").is_dir()
    dataset = "mnist" if has_mnist else "mnist_5k"
    configs: dict[str, str | int] = {"dataset": dataset, "epochs": 1 if has_mnist else 20}
    with (
        tempfile.TemporaryDirectory() as home,
        LiveServer(Path(home), "--slots", "cpu:1") as server,
        Client(server.address) as client,
    ):
        served_round(client, configs, num_steps)  # what is imported on first use is not of interest
        for _ in range(rounds):
            for name, pipe in pipes.items():
                pipe.send(num_steps)
                seconds[name].append(pipe.recv().wall_s)
            seconds["service"].append(served_round(client, configs, num_steps))
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join(30)

    print(f"{dataset}: {rounds} rounds of {num_steps} steps, {threads} threads")
    for name, times in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(times, seconds["service"], strict=True)]
        print(
            f"{name:10} {num_steps / statistics.median(times):9.1f} steps/s"
            f"   the service is {statistics.median(ratios):5.2f} times as fast (median of rounds)"
        )


FRESH = """
import torch
from torch.nn import functional as F
from lab_server.experiments.mnist import Net
model = Net(5, 5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loss = F.cross_entropy(model(torch.zeros(64, 1, 28, 28)), torch.zeros(64, dtype=torch.int64))
loss.backward(); optimizer.step(); print(loss.item(), flush=True)
"""


def start(rounds: int) -> None:
    """Print the time from start() to the first metric, and that of a process that imports torch."""
    served: list[float] = []
    fresh: list[float] = []
    with (
        tempfile.TemporaryDirectory() as home,
        LiveServer(Path(home), "--slots", "cpu:1") as server,
        Client(server.address) as client,
    ):
        for _ in range(rounds):
            run = client.create("mnist", {"epochs": 1, "is_log_parameters": False})
            began = time.perf_counter()
            run.start()
            next(iter(run.metrics()))
            served.append(time.perf_counter() - began)
            run.wait()

            began = time.perf_counter()
            with subprocess.Popen([sys.executable, "-c", FRESH], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                process.stdout.readline()
                fresh.append(time.perf_counter() - began)
    print(f"{rounds} rounds")
    report("start() to the first metric", served)
    report("a fresh process to its first loss", fresh)
    ratios = [slow / quick for slow, quick in zip(fresh, served, strict=True)]
    print(f"ratio, median of rounds: {statistics.median(ratios):.1f}")


def report(what: str, times: Sequence[float]) -> None:
    print(f"{what:36} median {statistics.median(times):.3f} s, best {min(times):.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "start"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600, help="of a round of speed")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if arguments.what == "speed":
        speed(arguments.rounds, arguments.steps, arguments.threads)
    else:
        start(arguments.rounds)


if __name__ == "__main__":
    main()
