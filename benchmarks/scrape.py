"""What a scrape of /metrics costs with many runs that train.

    python benchmarks/scrape.py [--runs 50] [--metrics 20]

A real server with a slot for each run, and real trainers that do nothing; what they cost the server without
scrapes is measured first and taken off.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import urllib.request
from pathlib import Path

from live_server import LiveServer
from processes import cpu_s
from table import Row, at_most, markdown

from lab_client import Client

_NUM_SCRAPES = 100
EXPERIMENT = str(Path(__file__).with_name("idle_experiment.py"))


def rows(num_runs: int = 50, num_metrics: int = 20) -> list[Row]:
    """Measure the processor's time of a scrape."""
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as home,
        LiveServer(Path(home), "--slots", f"cpu:{num_runs}", "--experiments", EXPERIMENT) as server,
        Client(server.address) as client,
    ):
        assert server.process is not None
        pid = server.process.pid
        client.wait_ready()
        runs = [
            client.create("idle_experiment", {"num_metrics": num_metrics}).start()
            for _ in range(num_runs)
        ]
        for run in runs:
            next(iter(run.metrics()))
        text = _scrape(server.http_address)
        idle = cpu_s(pid)
        time.sleep(5)
        idle = (cpu_s(pid) - idle) / 5
        began, used = time.perf_counter(), cpu_s(pid)
        for _ in range(_NUM_SCRAPES):
            _scrape(server.http_address)
        took = time.perf_counter() - began
        used = cpu_s(pid) - used - idle * took
        for run in runs:
            run.stop()
    num_series = sum(not line.startswith("#") for line in text.splitlines())
    return [
        at_most(
            f"a scrape with {num_runs} live runs",
            1e3 * used / _NUM_SCRAPES,
            15,
            "ms of CPU",
            f"{num_series} series, {len(text) / 1000:.0f} kB, {1e3 * took / _NUM_SCRAPES:.0f} ms of wall time",
        )
    ]


def _scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        return str(answer.read(), "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--metrics", type=int, default=20)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.runs, arguments.metrics)))
