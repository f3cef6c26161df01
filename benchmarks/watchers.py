"""What a crowd of watchers costs the server in memory, and whether it gives it back.

    python benchmarks/watchers.py                         1,000 watchers, a third of them stalled
    python benchmarks/watchers.py --watchers 300 --stalled 300 --rounds 3
    python benchmarks/watchers.py --follower              on the server that does not own the run

Each watcher has a connection of its own and watches one run from its first event: 4 MB of log, then what
is measured. A stalled one takes one message and no more. The server's resident memory is read before
they come, while they are there, and ten seconds after they are gone. A follower is the second of two
servers on one PostgreSQL, so that it reads the run's log from there.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from live_server import LiveServer
from local_postgres import MISSING, start_postgres
from processes import cpu_s, memory_bytes
from table import Row, at_most, markdown

from lab_client import Client

EXPERIMENT = Path(__file__).with_name("watched_experiment.py")
AFTER_S = 10.0
MAX_MB = 100.0
MAX_PERCENT = 20.0

WATCHERS = """
import asyncio, sys
import grpc.aio
from lab_rpc.v1 import training_service_pb2 as pb

address, run_id, num, num_stalled, last_seq = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
request = pb.WatchRunRequest(run_id=run_id).SerializeToString()

async def watch(index, ready):
    options = [("grpc.use_local_subchannel_pool", 1)]
    if index < num_stalled:
        # else gRPC itself reads megabytes ahead, and the server notices no stall
        options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        call = channel.unary_stream("/lab_rpc.v1.TrainingService/WatchRun")(request)
        if index < num_stalled:
            await call.read()
            ready.set()
            await asyncio.Event().wait()
        while True:
            data = await call.read()
            events = pb.WatchRunResponse.FromString(data).events
            if events and events[-1].seq >= last_seq:
                ready.set()

async def main():
    readies = [asyncio.Event() for _ in range(num)]
    tasks = [asyncio.create_task(watch(*each)) for each in enumerate(readies)]
    for ready in readies:
        await ready.wait()
    print("watching", flush=True)
    await asyncio.gather(*tasks)

asyncio.run(main())
"""


@dataclasses.dataclass
class Crowd:
    """The server's memory in bytes while a crowd watched, and after it left; and what it took."""

    peak: int
    settled: int
    after: int
    server_cpu_s: float
    seconds: float


class Peak:
    """The largest resident memory of a process over some time."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_done.wait(0.02):
            self.bytes = max(self.bytes, memory_bytes(self._pid))


def crowd(server: LiveServer, run_id: str, num: int, num_stalled: int, last_seq: int) -> Crowd:
    """Let a crowd watch a run up to a seq and some seconds longer, then leave at once."""
    assert server.process is not None
    pid = server.process.pid
    begin, cpu = time.monotonic(), cpu_s(pid)
    arguments = [server.address, run_id, str(num), str(num_stalled), str(last_seq)]
    with Peak(pid) as peak:
        watchers = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-c", WATCHERS, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert watchers.stdout is not None
        assert watchers.stdout.readline() == "watching\n"
        seconds, cpu = time.monotonic() - begin, cpu_s(pid) - cpu
        time.sleep(5)
        settled = memory_bytes(pid)
        watchers.kill()
        watchers.communicate()
    time.sleep(AFTER_S)
    return Crowd(peak.bytes, settled, memory_bytes(pid), cpu, seconds)


@contextlib.contextmanager
def servers(is_of_follower: bool) -> Iterator[LiveServer]:
    """Start what is watched: the server that trains, or one that follows it."""
    flags = ["--slots", "cpu:1", "--max-streams", "100000", "--experiments", str(EXPERIMENT)]
    with contextlib.ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="lab-watchers-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        if not is_of_follower:
            yield stack.enter_context(LiveServer(home, *flags))
            return
        postgres = start_postgres()
        if postgres is None:
            raise SystemExit(MISSING)
        stack.callback(postgres.remove)
        flags += ["--store", postgres.new_url()]
        stack.enter_context(LiveServer(home, *flags))
        yield stack.enter_context(LiveServer(home, *flags))


def measure(
    num: int, num_stalled: int, rounds: int, is_of_follower: bool = False
) -> tuple[int, list[Crowd]]:
    """Return the server's memory before any crowd, and what each crowd made of it."""
    with servers(is_of_follower) as server, Client(server.address) as client:
        assert server.process is not None
        client.wait_ready()
        run = client.create("watched_experiment").start()
        next(iter(run.metrics()))
        last_seq = run.refresh().last_seq
        crowd(server, run.id, 10, 0, last_seq)  # imports, threads, caches
        before = memory_bytes(server.process.pid)
        found = []
        for _ in range(rounds):
            found.append(crowd(server, run.id, num, num_stalled, last_seq))
            print(_in_words(before, found[-1]), file=sys.stderr, flush=True)
        run.stop()
        return before, found


def _in_words(before: int, crowd: Crowd) -> str:
    def more(value: int) -> str:
        return f"{(value - before) / 1e6:+.1f} MB"

    return (
        f"before {before / 1e6:.1f} MB; peak {more(crowd.peak)}, with all of them there"
        f" {more(crowd.settled)}, {AFTER_S:g} s after {more(crowd.after)}"
        f" ({100 * (crowd.after / before - 1):+.0f} %); {crowd.seconds:.1f} s until all had read the"
        f" log, {crowd.server_cpu_s:.1f} s of the server's CPU"
    )


def rows(
    num: int = 1000, num_stalled: int = 333, rounds: int = 2, is_of_follower: bool = False
) -> list[Row]:
    """Measure both bounds."""
    before, found = measure(num, num_stalled, rounds, is_of_follower)
    what = f"{num:,} watchers{' of a follower' * is_of_follower}, {num_stalled} stalled"
    peak = statistics.median(crowd.peak - before for crowd in found) / 1e6
    after = 100 * (statistics.median(crowd.after for crowd in found) / before - 1)
    return [
        at_most(f"server's memory, {what}", peak, MAX_MB, "MB more"),
        at_most(f"{AFTER_S:g} s after they left", after, MAX_PERCENT, "% more"),
    ]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=333)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--follower", action="store_true", help="watch the second of two servers")
    given = parser.parse_args()
    print(markdown(rows(given.watchers, given.stalled, given.rounds, given.follower)))


if __name__ == "__main__":
    main()
