"""What a run on an agent costs, and how much of agents one server takes.

    python benchmarks/agents.py [--rounds N] [--agents 20] [--events 2000]

`start()` to the first metric in the client, in a slot of the server's own and on a warm agent on the same machine, in
turns. Events a second from agents that are simulated: each has one run, whose events it ships as fast as the server takes
them, 50 at once; all are in the store, each once, when the clock stops.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from live_agent import LiveAgent
from live_server import LiveServer
from simulated_agents import EXPERIMENT, ship_all
from table import Row, at_most, markdown

from lab_client import Client, RunOptions
from lab_client.events import Metrics


def to_first_metric(rounds: int) -> list[Row]:
    """Take turns: a run in a slot of the server, and one on an agent."""
    took: dict[str, list[float]] = {"": [], "agents": []}
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as name,
        LiveServer(Path(name, "server"), "--slots", "cpu:1") as server,
        Client(server.address) as client,
    ):
        agent = LiveAgent(Path(name, "a1"), server.address)
        agent.start()
        client.wait_ready()
        for index in range(rounds + 1):
            for pool, times in took.items():
                config = {"epochs": 1, "is_log_parameters": False}
                run = client.create("mnist", config, options=RunOptions(pool=pool))
                began = time.perf_counter()
                run.start(until_step=20)
                next(iter(run.metrics()))
                if index:  # what is read from the disk for the first time is not of interest
                    times.append(time.perf_counter() - began)
                run.wait()
        agent.stop()
    here, there = (statistics.median(times) for times in took.values())
    peer = f"in the server's own slot, {here:.3f} s"
    return [at_most("start() to the first metric on an agent", there, 0.3, "s", peer)]


def events_of_many(num_agents: int, num_events: int) -> Row:
    """Return the events a second that one server takes."""
    with (
        tempfile.TemporaryDirectory(prefix="lab-bench-") as name,
        LiveServer(Path(name), "--slots", "none", "--experiments", str(EXPERIMENT)) as server,
        Client(server.address, timeout_s=120) as client,
    ):
        client.wait_ready()
        runs, seconds = asyncio.run(ship_all(server.address, client, num_agents, num_events))
        total = 0
        for run in runs:
            found = list(run.events())
            assert [event.seq for event in found] == list(range(1, len(found) + 1))
            steps = [s for e in found if isinstance(e.body, Metrics) for s in e.body.steps]
            assert steps == list(range(1, 2 * num_events + 1)), "a step is lost or doubled"
            total += len(found)
    return Row(
        f"events of {num_agents} agents with a run each, to the store",
        f"{total / seconds:,.0f} events/s",
        "2 metrics, 2 steps an event",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--events", type=int, default=2000)
    arguments = parser.parse_args()
    many = events_of_many(arguments.agents, arguments.events)
    print(markdown([*to_first_metric(arguments.rounds), many]))
