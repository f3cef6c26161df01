"""The client in forked processes and in threads."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab_client import AsyncClient, Client, errors
from lab_rpc.v1 import event_pb2
from tests.client.twin import Twin

FORKS = """
import os, sys, threading
from lab_client import Client
client = Client(sys.argv[1])
events = client.watch(sys.argv[2])
next(events)
threading.Thread(target=next, args=(events,), daemon=True).start()  # a stream is open at the fork
for _ in range(3):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert client.server_info().version == "0.1.0"
            assert next(client.watch(sys.argv[2])).seq == 1
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.server_info().version == "0.1.0"
print("done")
"""

LEAVES = """
import atexit, sys, threading
def tell():
    for thread in threading.enumerate():
        if thread.name == "lab-stream":
            thread.join(10)
            print("it reads on" if thread.is_alive() else "its stream has ended", flush=True)
atexit.register(tell)  # what is registered first comes last
from lab_client import Client
events = Client(sys.argv[1]).watch(sys.argv[2])
next(events)
"""


def of_a_process_that_watches(twin: Twin, code: str) -> subprocess.CompletedProcess[str]:
    """Return how a process ended that was given the twin's address and a run that trains.

    The tests' own process has the twin's threads, which no fork survives.
    """
    run = twin.add_run()
    run.state(event_pb2.RUN_STATE_RUNNING)
    return subprocess.run(
        [sys.executable, "-c", code, twin.address, run.message.id],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_a_client_works_on_both_sides_of_a_fork(twin: Twin) -> None:
    result = of_a_process_that_watches(twin, FORKS)
    assert result.stdout == "done\n", result.stderr
    assert "skipping fork() handlers" not in result.stderr, "a thread was inside of gRPC at a fork"


def test_a_process_ends_with_a_stream_open(twin: Twin) -> None:
    result = of_a_process_that_watches(twin, LEAVES)
    assert (result.returncode, result.stderr) == (0, "")
    assert "it reads on" not in result.stdout, "in gRPC, whose locks nobody lets go any more"


async def test_an_async_client_says_that_it_does_not_survive_a_fork(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient(twin.address) as client:
        await client.server_info()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(errors.InvalidState, match="fork"):
            await client.server_info()
        monkeypatch.undo()


def test_an_async_client_says_that_it_belongs_to_its_loop(twin: Twin) -> None:
    client = AsyncClient(twin.address)
    assert asyncio.run(client.server_info()).version == "0.1.0"
    with pytest.raises(errors.InvalidState, match="event loop"):
        asyncio.run(client.server_info())


def test_threads_share_a_client(twin: Twin) -> None:
    for _ in range(4):
        twin.add_run().train(num_events=30)
    with Client(twin.address) as client, ThreadPoolExecutor(8) as threads:

        def read(run_id: str) -> list[int]:
            client.get(run_id)
            return [event.seq for event in client.watch(run_id)]

        for seqs in threads.map(read, list(twin.runs) * 4):
            assert seqs == list(range(1, 33))
        assert twin.calls["GetServerInfo"] <= 8


def _raise() -> None:
    raise errors.ConfigError([errors.Violation("epochs", "epochs must be at least 1")])


@pytest.mark.slow
def test_errors_come_through_from_other_processes() -> None:
    with (
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(errors.ConfigError) as caught,
    ):
        pool.apply(_raise)
    assert caught.value.violations[0].key == "epochs"
