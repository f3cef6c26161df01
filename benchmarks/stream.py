"""How fast metrics come through the service, and what watchers cost a training.

    python benchmarks/stream.py points        metric points a second, from a spool to one client
    python benchmarks/stream.py subscribers   a training with 100 subscribers, 50 of them stalled

`points` gives a server the spool of a trainer that died, complete, and measures from the server's
start of reading it to the last point in the client: decoded, through the SDK. `subscribers` trains the
bundled MNIST experiment in turns with and without subscribers. These are a process of their own, of
the lowest priority: the CPU that clients use is elsewhere when they are on other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from live_server import LiveServer
from processes import cpu_s
from table import Row

from lab_client import Client

_SPEED_WARM_UP_S = 1.0


@dataclasses.dataclass
class Column:
    """A column as the tracker gives it to the spool writer."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]


async def make_home(home: Path, num_points: int, num_metrics: int, batch: int) -> float:
    """Make a home with a run whose trainer is gone, its spool full; return the seconds of encoding."""
    from lab_server.files.run_folder import RunFolder
    from lab_server.files.spool import SpoolWriter
    from lab_server.messages import events
    from lab_server.model.run import Run, RunRequest, RunState
    from lab_server.store import SqlStore

    folder = RunFolder(home / "runs" / "mnist" / "r1")
    folder.make()
    folder.pid_file(1).write_text('{"pid": 1, "start_ticks": 0}')
    num_steps = num_points // num_metrics
    encode_s = 0.0
    with SpoolWriter(folder.spool(1)) as spool:
        spool.append([events.encode_state(1, 1, RunState.RUNNING).payload])
        for first in range(0, num_steps, batch):
            steps = list(range(first, min(first + batch, num_steps)))
            values = [step * 0.001 for step in steps]
            columns = [Column(f"metric_{i}", steps, values) for i in range(num_metrics)]
            start = time.perf_counter()
            measured = events.encode_metrics(1, time.time_ns(), columns)
            spool.append(event.payload for event in measured)
            encode_s += time.perf_counter() - start
        spool.append([events.encode_state(1, 1, RunState.COMPLETED).payload])
    store = SqlStore(f"sqlite:///{home / 'lab.db'}")
    run = Run("r1", RunRequest("mnist"), state=RunState.STARTING, attempt=1, slot="cpu:0")
    await store.create(run, None)
    await store.close()
    return encode_s


@dataclasses.dataclass
class Rate:
    """Metric points a second: from the spool to one client, and what the trainer's side can encode."""

    to_client: float
    encoded: float


def points(num_points: int, num_metrics: int, batch: int, by_point: bool) -> Rate:
    """Return the points a second that one client gets."""
    folder = Path(tempfile.mkdtemp(prefix="lab-stream-"))
    try:
        encode_s = asyncio.run(make_home(folder, num_points, num_metrics, batch))
        server = LiveServer(folder, "--slots", "cpu:1")
        server.launch()
        received = 0
        first = 0.0
        with Client(server.address) as client:
            client.wait_ready()
            run = client.run("r1")
            start = time.perf_counter()
            if by_point:
                for point in run.metrics():
                    first = first or time.perf_counter()
                    received += len(point.values)
            else:
                for update in run.batches():
                    first = first or time.perf_counter()
                    if update.metrics is not None:
                        received += sum(len(c.values) for c in update.metrics.columns.values())
            seconds = time.perf_counter() - start
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert received == num_points, f"{received} of {num_points} points came"
    return Rate(received / seconds, num_points / encode_s)


def rows(num_points: int = 4_000_000) -> list[Row]:
    """Measure the two rates that have a bound, three times each in turns."""
    cases = {"in batches": (20, 100, False, 5.0), "point by point": (2, 10_000, True, 1.5)}
    rates: dict[str, list[float]] = {how: [] for how in cases}
    for _ in range(3):
        for how, (num_metrics, batch, by_point, _) in cases.items():
            rates[how].append(points(num_points, num_metrics, batch, by_point).to_client / 1e6)
    found = []
    for how, (num_metrics, batch, _, bound) in cases.items():
        rate = statistics.median(rates[how])
        found.append(
            Row(
                f"spool to one client, {how}",
                f"{rate:.2f} M points/s",
                f"{num_metrics} metrics, {batch} steps an event",
                None,
                f"≥ {bound:g} M points/s",
                rate >= bound,
            )
        )
    return found


SUBSCRIBERS = """
import asyncio, sys
import grpc.aio
address, run_id, num_reading, num_stalled = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
from lab_rpc.v1 import training_service_pb2 as pb

async def main():
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(10)]
    request = pb.WatchRunRequest(run_id=run_id).SerializeToString()
    def watch(index):
        return channels[index % 10].unary_stream("/lab_rpc.v1.TrainingService/WatchRun")(request)
    async def read(index):
        async for _ in watch(index):
            pass
    stalled = [watch(index) for index in range(num_stalled)]
    for call in stalled:
        await call.read()
    readers = [asyncio.ensure_future(read(index)) for index in range(num_reading)]
    print("watching", flush=True)
    await asyncio.gather(*readers)

asyncio.run(main())
"""


@dataclasses.dataclass
class Speed:
    """A training over some seconds: its speed, and the share of one core that the server took."""

    steps_per_s: float
    server_cores: float


def speed(server: LiveServer, num_reading: int, num_stalled: int, seconds: float) -> Speed:
    """Return how fast a training is, over some seconds, with subscribers or without."""
    assert server.process is not None
    with Client(server.address) as client:
        run = client.create("mnist", {"epochs": 10_000, "dataset": "mnist_5k"}).start()
        steps = (point.step for point in run.metrics(names=["train_loss"]))
        next(steps)
        watchers = None
        if num_reading + num_stalled:
            watchers = subprocess.Popen(
                [
                    *(
                        "nice",
                        "-n",
                        "19",
                        sys.executable,
                        "-c",
                        SUBSCRIBERS,
                        server.address,
                        run.id,
                    ),
                    *(str(num_reading), str(num_stalled)),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert watchers.stdout is not None
            assert watchers.stdout.readline() == "watching\n"
        time.sleep(_SPEED_WARM_UP_S)
        first, begin, cpu = run.refresh().step, time.perf_counter(), cpu_s(server.process.pid)
        time.sleep(seconds)
        last, end, cpu = run.refresh().step, time.perf_counter(), cpu_s(server.process.pid) - cpu
        run.stop()
        run.wait()
        if watchers is not None:
            watchers.communicate()
    return Speed((last - first) / (end - begin), cpu / (end - begin))


def subscribers(rounds: int, seconds: float) -> None:
    """Print how much slower a training is with 100 subscribers, 50 of them stalled."""
    folder = Path(tempfile.mkdtemp(prefix="lab-stream-"))
    server = LiveServer(folder, "--slots", "cpu:1", "--grace-s", "5")
    try:
        server.start()
        alone: list[Speed] = []
        watched: list[Speed] = []
        speed(server, 0, 0, 1.0)
        for index in range(rounds):
            # in turns, and each first as often, so that a machine that slows down slows both
            order = [(alone, 0), (watched, 50)]
            for figures, num in order if index % 2 else order[::-1]:
                figures.append(speed(server, num, num, seconds))
            print(
                f"alone    {_in_words([alone[-1]])}\nwatched  {_in_words([watched[-1]])}",
                flush=True,
            )
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    slower = [1 - b.steps_per_s / a.steps_per_s for a, b in zip(alone, watched, strict=True)]
    print(
        f"medians of {rounds}: alone {_in_words(alone)}; with 100 subscribers, 50 of them stalled,"
        f" {_in_words(watched)}; slower by {100 * statistics.median(slower):.1f} % (median of pairs)"
    )


def _in_words(speeds: Sequence[Speed]) -> str:
    steps_per_s = statistics.median(s.steps_per_s for s in speeds)
    cores = statistics.median(s.server_cores for s in speeds)
    return f"{steps_per_s:.1f} steps/s, server {100 * cores:.1f} % of a core"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["points", "subscribers"])
    parser.add_argument("--points", type=int, default=8_000_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    if arguments.what == "subscribers":
        subscribers(arguments.rounds, arguments.seconds)
        return
    for num_metrics, batch, by_point in (
        (2, 10_000, False),
        (20, 100, False),
        (2, 100, False),
        (2, 10_000, True),
    ):
        rate = points(arguments.points, num_metrics, batch, by_point)
        how = "point by point" if by_point else "in batches"
        print(
            f"{num_metrics} metrics, {batch} steps an event, {how}: {rate.to_client / 1e6:6.2f} M points/s"
            f" to the client; the trainer's side: {rate.encoded / 1e6:6.2f} M points/s"
        )


if __name__ == "__main__":
    main()
