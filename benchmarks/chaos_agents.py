"""The agents of benchmarks/chaos.py, each behind a network of its own, and what strikes them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaos_trainers import trainers_in
from live_agent import LiveAgent
from unreliable import Network

LEASE_S = 10.0
"""Short, so that some faults outlast it."""

STRIKES = {
    "killed agent": 3,
    "killed agent, twice": 1,
    "stopped agent": 2,
    "frozen agent": 2,
    "machine with agent": 2,
    "machine with agent, and its disk": 1,
    "agent's cut network": 3,
    "agent's slow network": 2,
    "agent's lossy network": 2,
}
"""What is struck besides where trainings belong to agents, and how often of all."""


class Fleet:
    """Agents with one slot each.

    Args:
        folder: where their homes are.
        servers: addresses of the servers; an agent knows each through its network.
        arguments: of each agent.
        rng: what is random.
    """

    strikes = STRIKES

    def __init__(
        self,
        folder: Path,
        num: int,
        servers: Sequence[str],
        arguments: Iterable[str],
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._networks: list[list[Network]] = []
        self.agents: list[LiveAgent] = []
        for number in range(1, num + 1):
            networks = [Network("127.0.0.1:0", server) for server in servers]
            addresses = ",".join(network.address for network in networks)
            self._networks.append(networks)
            self.agents.append(LiveAgent(folder / f"a{number}", addresses, *arguments))

    @property
    def homes(self) -> list[Path]:
        """The folders of the agents."""
        return [agent.home for agent in self.agents]

    def start(self) -> None:
        """Start all agents."""
        for agent in self.agents:
            agent.start()

    def stop(self) -> None:
        """Stop all agents."""
        for agent in self.agents:
            agent.stop()

    def revive(self) -> None:
        """Start the agents that have ended by themselves, as whatever started them would."""
        for agent in self.agents:
            if agent.process is not None and agent.process.poll() is not None:
                agent.launch()

    def strike(self, what: str) -> bool:
        """Strike an agent, its machine or its network, for a while."""
        number = self._rng.randrange(len(self.agents))
        agent, networks = self.agents[number], self._networks[number]
        some_s = self._rng.choice(
            [self._rng.uniform(0.0, 2.0), self._rng.uniform(0.0, 1.5 * LEASE_S)]
        )
        if "network" in what:
            for network in networks:
                network.begin(what)
            time.sleep(some_s)
            for network in networks:
                network.mend()
            return True
        process = agent.process
        assert process is not None
        if "frozen" in what:
            process.send_signal(signal.SIGSTOP)
            time.sleep(some_s)
            process.send_signal(signal.SIGCONT)
            return True
        if "stopped" in what:
            agent.stop()
        else:
            agent.kill()
        if "machine" in what:
            for pid, _ in trainers_in(agent.home):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if "disk" in what:
            shutil.rmtree(agent.home, ignore_errors=True)
        time.sleep(some_s)
        agent.launch()
        if "twice" in what:
            time.sleep(self._rng.uniform(0.05, 3.0))
            agent.kill()
            agent.launch()
        return True
