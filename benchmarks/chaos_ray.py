"""The Ray cluster of benchmarks/chaos.py, which starts agents for a pool, and what strikes it and them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from chaos_agents import LEASE_S
from chaos_trainers import trainers_in
from live_ray import LiveRay
from unreliable import Network

POOL = "nodes"
TRAINERS_END_S = 20.0
STRIKES: Mapping[str, int] = {
    "Ray node": 3,
    "Ray node's machine": 3,
    "Ray head": 3,
    "Ray head, and what it knows": 4,
    "agent in its job": 4,
    "agents' cut network": 2,
    "agents' slow network": 1,
    "agents' lossy network": 2,
}
"""What is struck besides where Ray starts the agents, and how often of all."""


class RayPool:
    """A pool whose agents, with one slot each, are jobs of a Ray cluster of two nodes.

    Args:
        folder: what is below belongs to it.
        num: agents at most.
        servers: addresses of the servers; the agents know each through one network.
        arguments: of each agent.
        environment: of each agent.

    Attributes:
        config: the servers' settings file with the pool.
        most_jobs: how many jobs waited or ran at most, as Ray says.
        problems: what was not as it should be.
    """

    strikes = STRIKES

    def __init__(
        self,
        folder: Path,
        num: int,
        servers: Sequence[str],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        rng: random.Random,
    ) -> None:
        folder.mkdir(parents=True)
        self._rng = rng
        self._folder = folder
        self._networks = [Network("127.0.0.1:0", server) for server in servers]
        self._addresses = ",".join(network.address for network in self._networks)
        self._ray = LiveRay(folder / "ray.log", environment)
        self._ordering = ThreadPoolExecutor(1)
        self._ordered: Future[None] = Future()
        self._ordered.set_result(None)
        self._is_over = threading.Event()
        self._watching = threading.Thread(target=self._watch_jobs, daemon=True)
        self.most_jobs = 0
        self.problems: list[str] = []
        self._write_settings(num, arguments)

    def _write_settings(self, num: int, arguments: Sequence[str]) -> None:
        homes = self._folder / "homes"
        homes.mkdir()
        command = self._folder / "lab-agent"
        lab_agent = Path(sys.executable).with_name("lab-agent")
        log = self._folder / "agents.log"
        command.write_text(f'#!/bin/sh\nTMPDIR={homes} exec {lab_agent} "$@" 2>> {log}\n')
        command.chmod(0o755)
        settings = {
            "name": POOL,
            "engine": "ray",
            "address": self._ray.address,
            "server": self._addresses,
            "slots": "cpu:1",
            "max": num,
            "idle_s": 5,
            "command": str(command),
            "arguments": list(arguments),
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        self.config = self._folder / "lab.toml"
        self.config.write_text("\n".join(["[[pools]]", *lines]))

    def homes(self) -> list[Path]:
        """Return the folders of all agents that there are, or were."""
        return sorted((self._folder / "homes").glob("lab-agent-*"))

    def start(self) -> None:
        """Start the cluster."""
        self._ray.mend()
        self._watching.start()

    def stop(self) -> None:
        """End the cluster, and with it all agents."""
        self._is_over.set()
        self._watching.join()
        self._ordering.shutdown()
        self._note_failure()
        self._ray.end()
        for pid in self._agents():
            deadline = time.monotonic() + 2 * LEASE_S + TRAINERS_END_S
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.1)

    def revive(self) -> None:
        """Replace what has ended by itself."""
        if self._ordered.done():
            self._order()

    def strike(self, what: str) -> bool:
        """Strike the cluster, while other things go on, or an agent, or the agents' network."""
        some_s = self._rng.choice(
            [self._rng.uniform(0.0, 2.0), self._rng.uniform(0.0, 1.5 * LEASE_S)]
        )
        if "network" in what:
            for network in self._networks:
                network.begin(what)
            time.sleep(some_s)
            for network in self._networks:
                network.mend()
            return True
        if "agent" in what:
            return self._kill_agent()
        if not self._ordered.done():
            return False
        match what:
            case "Ray node":
                self._order("kill node", some_s)
            case "Ray node's machine":
                self._order("kill machine", some_s)
            case "Ray head":
                self._order("kill head", some_s)
            case "Ray head, and what it knows":
                self._order("kill head", "forget", some_s)
        return True

    def _order(self, *orders: str | float) -> None:
        """Have Ray do something, or wait; then bring back what is missing."""

        def work() -> None:
            for order in orders:
                if isinstance(order, str):
                    self._ray.order(order)
                else:
                    time.sleep(order)
            self._ray.mend()

        self._note_failure()
        self._ordered = self._ordering.submit(work)

    def _note_failure(self) -> None:
        error = self._ordered.exception()
        if error is not None:
            self.problems.append(str(error))

    def _agents(self) -> list[int]:
        """Return the pids of the agents that live."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode().split("\0")
                if self._addresses in words and "join" in words:
                    found.append(int(path.parent.name))
        return sorted(found)

    def _kill_agent(self) -> bool:
        """Kill an agent; its trainers must end with it."""
        agents = self._agents()
        if not agents:
            return False
        pid = self._rng.choice(agents)
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            name = words[words.index("--name") + 1]
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + TRAINERS_END_S
            (home,) = (self._folder / "homes").glob(f"lab-agent-{name}-*")
            while living := trainers_in(home):
                if time.monotonic() > deadline:
                    self.problems.append(f"trainers have outlived agent {name}: {living}")
                    break
                time.sleep(0.1)
        return True

    def _watch_jobs(self) -> None:
        while not self._is_over.wait(1.0):
            with contextlib.suppress(OSError, ValueError):
                with urllib.request.urlopen(f"{self._ray.address}/api/jobs/", timeout=10) as answer:
                    jobs = json.load(answer)
                living = [job for job in jobs if job["status"] in ("PENDING", "RUNNING")]
                self.most_jobs = max(self.most_jobs, len(living))
