"""Subscribers of a run, in a process of their own, that come and go as they are told. For benchmarks/subscribers.py.

    python benchmarks/crowd.py ADDRESS RUN_ID NUM_READING NUM_STALLED

A line "come SEQ" on stdin has them all subscribe, the readers behind that event and the stalled ones from the
run's first; answered by "here" when each has its first message. From then on the process has the lowest
priority. "count" is answered by the number of events that the readers have got since they came, and "go", which ends
all calls, by it, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import grpc.aio

from lab_rpc.v1 import training_service_pb2 as pb

_NUM_CHANNELS = 10
_OWN = ("grpc.use_local_subchannel_pool", 1)
# else gRPC itself reads on, and the server notices no stall
_NO_LOOKAHEAD = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384))


class Crowd:
    """The subscribers of one run."""

    def __init__(self, address: str, run_id: str, num_reading: int, num_stalled: int) -> None:
        self._run_id = run_id
        self._readers = self._calls(address, num_reading, (_OWN,))
        self._stalled = self._calls(address, num_stalled, (_OWN, *_NO_LOOKAHEAD))
        self._tasks: list[asyncio.Task[None]] = []
        self._num_here = 0
        self.num_events = 0

    @staticmethod
    def _calls(address: str, num: int, options: Any) -> list[Any]:
        channels = [
            grpc.aio.insecure_channel(address, options=options) for _ in range(_NUM_CHANNELS)
        ]
        return [
            channels[i % _NUM_CHANNELS].unary_stream("/lab_rpc.v1.TrainingService/WatchRun")
            for i in range(num)
        ]

    async def come(self, after_seq: int) -> None:
        """Subscribe; return when all have their first message."""
        self._num_here = self.num_events = 0
        calls = [(c, after_seq) for c in self._readers] + [(c, 0) for c in self._stalled]
        self._tasks = [
            asyncio.create_task(self._watch(call, seq, is_stalled=i >= len(self._readers)))
            for i, (call, seq) in enumerate(calls)
        ]
        while self._num_here < len(calls):
            for task in self._tasks:
                if task.done():
                    task.result()  # raises what ended it
            await asyncio.sleep(0.02)

    async def go(self) -> None:
        """End all calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, method: Any, after_seq: int, *, is_stalled: bool) -> None:
        call = method(
            pb.WatchRunRequest(run_id=self._run_id, after_seq=after_seq).SerializeToString()
        )
        try:
            await call.read()
            self._num_here += 1
            if is_stalled:
                await asyncio.Event().wait()
            while data := await call.read():
                self.num_events += len(pb.WatchRunResponse.FromString(data).events)
        finally:
            call.cancel()


def _set_policy(policy: int) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setscheduler(int(thread), policy, os.sched_param(0))


async def main() -> None:
    address, run_id, num_reading, num_stalled = sys.argv[1:]
    crowd = Crowd(address, run_id, int(num_reading), int(num_stalled))
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    while words := (await stdin.readline()).decode().split():
        match words:
            case ["come", after_seq]:
                _set_policy(os.SCHED_OTHER)
                await crowd.come(int(after_seq))
                _set_policy(os.SCHED_IDLE)
                print("here", flush=True)
            case ["count"]:
                print(crowd.num_events, flush=True)
            case ["go"]:
                _set_policy(os.SCHED_OTHER)
                await crowd.go()
                print(crowd.num_events, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
