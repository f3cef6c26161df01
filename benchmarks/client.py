"""What the client costs: to import, on disk, and a metric point that it reads.

python benchmarks/client.py [--points N] [--rows ROWS]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

import lab_client
from lab_rpc.v1 import event_pb2
from lab_rpc.v1 import training_service_pb2 as pb

THIN = ("lab-train", "grpcio", "protobuf", "googleapis-common-protos", "grpcio-status", "tqdm")
IMPORTS = {
    "import grpc": "import grpc",
    "import lab_client": "import lab_client",
    "from lab_client import Client": "from lab_client import Client",
    "from lab_client import experiment": "from lab_client import experiment",
}


def import_ms(code: str, cache: str) -> float:
    """Return the processor time that a fresh interpreter needs for an import, in milliseconds."""
    timed = f"import time; t = time.process_time(); {code}; print(time.process_time() - t)"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    result = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, check=True, env=environment
    )
    return 1000 * float(result.stdout)


def imports(num_rounds: int) -> None:
    """Compare imports, interleaved so that a busy machine is busy for all of them."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as cache:  # compiled once, for all alike, as pip does
        for code in IMPORTS.values():
            import_ms(code, cache)
        for _ in range(num_rounds):
            for name, code in IMPORTS.items():
                times[name].append(import_ms(code, cache))
    base = statistics.median(times["import grpc"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:36} {median:7.1f} ms   {median / base:5.2f} x import grpc")


def installed_size() -> None:
    """Print what a thin install puts on disk; of lab-train itself, what its wheel packs for it."""
    total = 0
    for name in THIN:
        distribution = importlib.metadata.distribution(name)
        files = distribution.files or []
        size = sum(path.stat().st_size for f in files if (path := Path(str(f.locate()))).is_file())
        if name == "lab-train":
            root = Path(__file__).parents[1]
            packages = ("client/lab_client", "protos/lab_rpc")
            size = sum(
                p.stat().st_size for folder in packages for p in (root / folder).rglob("*.py*")
            )
        total += size
        print(f"{name:36} {size / 1e6:7.2f} MB")
    print(f"{'thin install':36} {total / 1e6:7.2f} MB")


class Spool:
    """A server that streams one run's log from memory, encoded once: the client is what is timed."""

    def __init__(self, num_points: int, rows: int) -> None:
        names = ("train_loss", "accuracy")
        num_events = num_points // (rows * len(names))
        events = []
        for seq in range(1, num_events + 1):
            steps = range((seq - 1) * rows, seq * rows)
            columns = [
                event_pb2.MetricColumn(name=name, values=[0.5 + step * 1e-9 for step in steps])
                for name in names
            ]
            event = event_pb2.RunEvent(seq=seq, attempt=1, time_unix_ns=10**18 + seq)
            event.metrics.CopyFrom(event_pb2.Metrics(steps=steps, columns=columns))
            events.append(event)
        end = event_pb2.RunEvent(seq=num_events + 1, attempt=1)
        end.state.state = event_pb2.RUN_STATE_COMPLETED
        events.append(end)
        self.num_points = num_events * rows * len(names)
        self.answers = list(self._pack(events))
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "GetServerInfo": grpc.unary_unary_rpc_method_handler(
                lambda request, context: pb.GetServerInfoResponse(
                    version="0.1.0"
                ).SerializeToString()
            ),
            "GetRun": grpc.unary_unary_rpc_method_handler(self._get),
            "WatchRun": grpc.unary_stream_rpc_method_handler(
                lambda request, context: iter(self.answers)
            ),
        }
        service = grpc.method_handlers_generic_handler("lab_rpc.v1.TrainingService", handlers)
        self.server.add_generic_rpc_handlers((service,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def _get(self, request: Any, context: Any) -> bytes:
        answer = pb.GetRunResponse()
        answer.run.id = "r"
        answer.run.state = event_pb2.RUN_STATE_RUNNING
        return answer.SerializeToString()

    @staticmethod
    def _pack(events: list[event_pb2.RunEvent]) -> Iterator[bytes]:
        answer, size = [], 0
        for event in events:
            answer.append(event)
            size += event.ByteSize()
            if size > 256 * 1024:
                yield pb.WatchRunResponse(events=answer).SerializeToString()
                answer, size = [], 0
        yield pb.WatchRunResponse(events=answer).SerializeToString()


def reading(num_points: int, rows: int) -> None:
    """Print how many metric points a second each kind of iterator reads."""
    spool = Spool(num_points, rows)

    def drain(make: Callable[[lab_client.Run], Iterator[Any]]) -> Callable[[], None]:
        def read() -> None:
            with lab_client.Client(f"127.0.0.1:{spool.port}") as client:
                for _ in make(client.run("r")):
                    pass

        return read

    kinds = {
        "run.batches()": drain(lambda run: run.batches()),
        "run.events()": drain(lambda run: run.events()),
        "run.metrics()": drain(lambda run: run.metrics()),
        "run.metrics(names='*_loss')": drain(lambda run: run.metrics("*_loss")),
        "run.metrics(every=10)": drain(lambda run: run.metrics(every=10)),
    }
    for name, read in kinds.items():
        durations = []
        for _ in range(3):
            begin = time.perf_counter()
            read()
            durations.append(time.perf_counter() - begin)
        duration = min(durations)
        rate = spool.num_points / duration
        print(f"{name:36} {rate / 1e6:7.2f} million points a second ({rows} rows an event)")
    spool.server.stop(None)
    assert threading.active_count() < 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    imports(arguments.rounds)
    installed_size()
    for rows in (10, 100, 1000):
        reading(arguments.points, rows)


if __name__ == "__main__":
    main()
