"""What 100 subscribers, 50 of them stalled, cost a training.

    python benchmarks/subscribers.py [--rounds N] [--seconds N]

One run trains all the while, and is followed by one subscriber. The crowd, a process of its own at the lowest
priority (the processor that clients use is elsewhere when they are on other machines), comes and goes: a round
is so many seconds with it and so many without it, in either order.
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

from mnist_size import data_of_mnists_size
from table import Row, markdown
from training import Followed, configs, serving

from lab_client import Client

NUM_READING = NUM_STALLED = 50
_SETTLE_S = 0.7  # a batch of metrics is on its way for a part of a second
_LEAST_ROUNDS = 2
_LONGEST_S = 120.0

_CROWD = """
import asyncio, os, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
import grpc.aio
from lab_rpc.v1 import training_service_pb2 as pb
address, run_id, after_seq, num_reading, num_stalled = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])

async def main():
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(10)]
    request = pb.WatchRunRequest(run_id=run_id, after_seq=after_seq).SerializeToString()
    def watch(index):
        return channels[index % 10].unary_stream("/lab_rpc.v1.TrainingService/WatchRun")(request)
    async def read(call, is_stalled):
        await call.read()
        ready.append(call)
        while not is_stalled and await call.read():
            pass
    ready = []
    num = num_reading + num_stalled
    tasks = [asyncio.ensure_future(read(watch(i), i < num_stalled)) for i in range(num)]
    while len(ready) < num:
        await asyncio.sleep(0.05)
    print("watching", flush=True)
    await asyncio.gather(*tasks)

asyncio.run(main())
"""


@contextlib.contextmanager
def crowd(address: str, run_id: str, after_seq: int) -> Iterator[None]:
    """Let the subscribers watch."""
    words = [address, run_id, str(after_seq), str(NUM_READING), str(NUM_STALLED)]
    with subprocess.Popen(
        [sys.executable, "-c", _CROWD, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "watching\n":
                raise SystemExit("the subscribers could not watch")
            yield
        finally:
            process.kill()


def _speed(followed: Followed, seconds: float) -> float:
    time.sleep(_SETTLE_S)
    begin = time.time()
    time.sleep(seconds)
    end = time.time()
    time.sleep(_SETTLE_S)
    return (followed.step_at(end) - followed.step_at(begin)) / seconds


def measure(rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Return the steps a second of each round, alone and watched."""
    alone: list[float] = []
    watched: list[float] = []
    with serving("cpu:1") as server, Client(server.address) as client:
        run = client.create("timed_mnist", configs()).start()
        followed, is_warm = Followed(run), threading.Event()
        thread = threading.Thread(target=followed.follow, args=(is_warm,))
        thread.start()
        is_warm.wait()
        began = time.monotonic()
        for index in range(rounds):
            if index >= _LEAST_ROUNDS and time.monotonic() - began > _LONGEST_S:
                break  # where others want the cores, the crowd comes in very slowly
            for is_watched in (bool(index % 2), not index % 2):
                if is_watched:
                    # as subscribers that have been there: the log of before is no part of it
                    with crowd(server.address, run.id, run.refresh().last_seq):
                        watched.append(_speed(followed, seconds))
                else:
                    alone.append(_speed(followed, seconds))
        run.stop()
        thread.join()
    return alone, watched


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the half width of its 95 % interval, by Student's t."""
    quantiles = {
        1: 12.71,
        2: 4.30,
        3: 3.18,
        4: 2.78,
        5: 2.57,
        7: 2.36,
        9: 2.26,
        11: 2.20,
        15: 2.13,
        19: 2.09,
        29: 2.05,
    }
    degrees = max(d for d in quantiles if d < len(values))
    width = quantiles[degrees] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), width


def rows(rounds: int = 12, seconds: float = 3.0) -> list[Row]:
    """Measure it."""
    with data_of_mnists_size():
        alone, watched = measure(rounds, seconds)
    slower, width = interval([100 * (1 - b / a) for a, b in zip(alone, watched, strict=True)])
    return [
        Row(
            f"slower training by {NUM_READING + NUM_STALLED} subscribers, {NUM_STALLED} stalled",
            f"{slower:.1f} ± {width:.1f} %",
            f"alone {statistics.median(alone):.1f}, watched {statistics.median(watched):.1f} steps/s, {len(alone)} pairs",
            None,
            "≤ 3 %",
            slower + width <= 3,
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    print(markdown(rows(arguments.rounds, arguments.seconds)))
