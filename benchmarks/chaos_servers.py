"""The servers of benchmarks/chaos.py: killed, killed while they start, frozen."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from live_server import LiveServer

STRIKES = {"server": 3, "trainer and server": 1, "server, twice": 1, "forkserver": 1}
STRIKES_ON_SEVERAL = {"frozen server": 2}


class Servers:
    """All servers of one store.

    Args:
        servers: none of which runs.
        kill_trainer: kills some trainer.
    """

    def __init__(
        self, servers: Sequence[LiveServer], rng: random.Random, kill_trainer: Callable[[], object]
    ) -> None:
        self._servers = servers
        self._rng = rng
        self._kill_trainer = kill_trainer

    @property
    def strikes(self) -> Mapping[str, int]:
        """What is struck, and how often of all."""
        return STRIKES | (STRIKES_ON_SEVERAL if len(self._servers) > 1 else {})

    def start(self) -> None:
        """Start all."""
        for server in self._servers:
            server.start()

    def stop(self) -> None:
        """Stop all."""
        for server in self._servers:
            server.stop()

    def revive(self) -> None:
        """Start again one that was replaced while it was frozen, say."""
        for server in self._servers:
            if server.process is not None and server.process.poll() is not None:
                server.launch()

    def strike(self, what: str) -> bool:
        """Kill or freeze one; it comes back."""
        server = self._rng.choice(self._servers)
        assert server.process is not None
        if what == "forkserver":
            return _kill_forkserver(server.process.pid)
        if what == "frozen server":
            process = server.process
            process.send_signal(signal.SIGSTOP)
            time.sleep(self._rng.uniform(0.2, 12.0))  # sometimes longer than a lease
            process.send_signal(signal.SIGCONT)
            return True
        if "trainer" in what:
            self._kill_trainer()
        server.kill()
        time.sleep(self._rng.choice([0.0, self._rng.uniform(0.0, 2.0)]))
        server.launch()
        if "twice" in what:
            time.sleep(self._rng.uniform(0.05, 1.5))
            server.kill()
            server.launch()
        return True


def _kill_forkserver(pid: int) -> bool:
    """Kill the process that a server's trainers are forked from."""
    is_killed = False
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"lab_server.trainer.forkserver" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
                is_killed = True
    return is_killed
