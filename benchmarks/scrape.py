"""What a scrape of /metrics costs with many runs that train.

    python benchmarks/scrape.py [--runs 50] [--metrics 20]

The runs are in a real store, their trainers are children of this process, and the supervisor is the one
of the server's tests. Processor time and wall time, the best of many.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab_server.executors.local import LocalExecutor
from lab_server.messages import events
from lab_server.model.run import RunRequest, RunState
from lab_server.processes import proc
from tests.server.conftest import Surface, open_surface

_NUM_SCRAPES = 50


class _Column:
    def __init__(self, name: str) -> None:
        self.name, self.steps, self.values = name, [1], [0.5]


async def main(num_runs: int, num_metrics: int) -> None:
    """Print what a scrape costs."""
    trainers = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(num_runs)]  # noqa: ASYNC220
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with open_surface(Path(folder)) as surface:
                # the real way to look at processes, without a forkserver
                surface.exporter._executor.usages = LocalExecutor.usages.__get__(surface.executor)
                for trainer in trainers:
                    await _train(surface, trainer.pid, num_metrics)
                await _measure(surface)
    finally:
        for trainer in trainers:
            trainer.kill()
            trainer.wait()


async def _train(surface: Surface, pid: int, num_metrics: int) -> None:
    run = await surface.supervisor.create(
        RunRequest("mnist"), owner="", config_hash="", key=None, fingerprint=""
    )
    process = proc.identify(pid)
    run = await surface.supervisor.move(run, RunState.RUNNING, process=process, attempt=1)
    columns = [_Column(f"metric.{index}") for index in range(num_metrics)]
    await surface.supervisor.say(run, *events.encode_metrics(1, 1, columns))


async def _measure(surface: Surface) -> None:
    walls, cpus = [], []
    for _ in range(_NUM_SCRAPES):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        body, _ = await surface.exporter.scrape()
        walls.append(time.perf_counter() - begin)
        cpus.append(time.process_time() - begin_cpu)
    num_series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(f"{num_series} series, {len(body) / 1000:.0f} kB")
    print(
        f"processor time {min(cpus) * 1000:.1f} ms, wall time {min(walls) * 1000:.1f} ms a scrape"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--metrics", type=int, default=20)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.runs, arguments.metrics))
