"""Start a server, train MNIST on it, watch the run and its gauges, stop the server.

python examples/demo.py [--epochs N] [--home DIR]
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

import lab_client
from lab_client.events import Metrics, Progress

READY = re.compile(r"lab-server ready grpc=(?P<grpc>\S+) http=(?P<http>\S+)")
SHOWN = re.compile(
    r'lab_run_(step|steps_per_second)\{|lab_run_metric\{.*metric="(\w+_loss|accuracy)"'
)


@dataclass(frozen=True)
class Server:
    """Where the demo's server listens."""

    grpc: str
    http: str


@contextmanager
def server(home: Path) -> Iterator[Server]:
    """Run a server on free ports; at exit, stop it and its trainers."""
    command = [
        *(sys.executable, "-m", "lab_server", "serve"),
        *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--home", str(home)),
        *("--on-shutdown", "stop"),
    ]
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "server.log").open("ab") as log:
        # In a new session, so that Ctrl-C in the terminal reaches only this script, which stops the server.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        if ready is None:
            raise SystemExit(f"the server did not start; see {home / 'server.log'}")
        yield Server(ready["grpc"], ready["http"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def run_series(http: str) -> list[str]:
    """Return some samples of runs on the server's /metrics page."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return [line for line in lines if SHOWN.match(line)]


@dataclass
class Watched:
    """What was seen of a run: the last values, and samples of the metrics page meanwhile."""

    values: dict[str, float]
    scraped: list[str]


def watch(run: lab_client.Run, http: str) -> Watched:
    """Show a run in a bar until it has ended."""
    seen = Watched({}, [])
    values = seen.values
    with tqdm(unit="step", dynamic_ncols=True, disable=None) as bar:
        for event in run.events():
            match event.body:
                case Progress(total_steps=total_steps) if bar.total != total_steps:
                    bar.total = total_steps
                case Metrics() as metrics:
                    for point in metrics.points():
                        values.update(point.values)
                        bar.update(point.step - bar.n)
                        if "accuracy" in point.values:
                            tqdm.write(
                                f"  step {point.step:4d}   test loss {values['test_loss']:.4f}"
                                f"   accuracy {values['accuracy']:.4f}"
                            )
                            seen.scraped = run_series(http) or seen.scraped
                    bar.set_postfix(train_loss=f"{values['train_loss']:.4f}")
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--home", type=Path, default=Path(".demo"), help="where the runs are kept")
    arguments = parser.parse_args()
    configs = {
        "dataset": "mnist_5k",
        "epochs": arguments.epochs,
        "learning_rate": 0.05,
        "momentum": 0.9,
    }

    print("Starting lab-server ...", flush=True)
    with (
        server(arguments.home.resolve()) as address,
        # on a slow or busy machine the first import of torch takes minutes
        lab_client.Client(address.grpc, timeout_s=600) as client,
    ):
        print(f"  grpc {address.grpc}   metrics http://{address.http}/metrics")
        print("Importing torch, once for all runs to come ...", flush=True)
        client.experiment("mnist")

        begin = time.perf_counter()
        run = client.create("mnist", configs, name="demo").start()
        print(f"Run {run.id}: mnist {configs}", flush=True)
        seen = watch(run, address.http)
        ended = run.wait()
        duration_s = time.perf_counter() - begin

        if ended.state != "COMPLETED":
            raise SystemExit(f"the run did not complete: {ended.reason}")

        print("\nFrom /metrics, while it trained:")
        for line in seen.scraped:
            print(f"  {line}")
        print(
            f"\n{ended.state}: accuracy {seen.values['accuracy']:.4f} on 1,000 test digits, after"
            f" {ended.step} steps in {duration_s:.1f} s"
        )
        print(f"Its files: {ended.folder}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nInterrupted; the server and the run were stopped.") from None
