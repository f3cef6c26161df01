"""The tutorial's 2 x 2 grid of kernel sizes: through the service, and as the tutorial's script four times.

    python benchmarks/grid.py [--rounds N]

One epoch each of mnist_5k. The script is examples/mnist_tutorial.py, a process for each run, one after the
other; the service has two slots and is up, as a service is.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from live_server import LiveServer
from table import Row, at_least, markdown

from lab_client import Client

SCRIPT = Path(__file__).parents[1] / "examples" / "mnist_tutorial.py"
GRID = [{"conv1_kernal": k1, "conv2_kernal": k2} for k1, k2 in itertools.product((3, 5), (3, 5))]


def by_script(folder: Path) -> float:
    """Return the seconds of four runs of the script."""
    began = time.perf_counter()
    for configs in GRID:
        words = [f"{name}={value}" for name, value in configs.items()]
        subprocess.run(
            [sys.executable, str(SCRIPT), "dataset=mnist_5k", "epochs=1", *words],
            cwd=folder,
            env={**os.environ, "LAB_HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return time.perf_counter() - began


def by_service(client: Client) -> float:
    """Return the seconds of four runs through the service."""
    began = time.perf_counter()
    runs = [
        client.create("mnist", {"dataset": "mnist_5k", "epochs": 1, **configs}).start()
        for configs in GRID
    ]
    for run in runs:
        run.wait(check=True)
    return time.perf_counter() - began


def rows(rounds: int = 2) -> list[Row]:
    """Measure in turns."""
    script: list[float] = []
    service: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home) / "server", "--slots", "cpu:2") as server,
        Client(server.address) as client,
    ):
        client.wait_ready()
        by_service(client)
        for _ in range(rounds):
            script.append(by_script(Path(home)))
            service.append(by_service(client))
    return [
        at_least(
            "the tutorial's grid, 2 x 2",
            f"{statistics.median(service):.1f} s",
            f"its script four times, {statistics.median(script):.1f} s",
            statistics.median(a / b for a, b in zip(script, service, strict=True)),
            3,
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    print(markdown(rows(parser.parse_args().rounds)))
