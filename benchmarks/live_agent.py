"""A real lab-agent as a process of its own, for benchmarks: started, killed, started again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from live_process import LiveProcess


class LiveAgent(LiveProcess):
    """An agent with one slot, named like its folder.

    Args:
        home: its folder, which stays from one start to the next.
        addresses: of its servers, with commas.
        arguments: more of `lab-agent join`.
    """

    def __init__(self, home: Path, addresses: str, *arguments: str) -> None:
        self.home = home
        self._addresses = addresses
        self._arguments = arguments

    def launch(self) -> subprocess.Popen[str]:
        """Start the process and do not wait for it."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.home.with_name(f"{self.home.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("lab-agent")), "join", self._addresses),
                    *("--name", self.home.name, "--home", str(self.home), "--slots", "cpu:1"),
                    *self._arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={"LAB_DATA_PATH": str(self.home / "data"), **os.environ},
            )
        return self.process

    def start(self) -> None:
        """Start the process and wait until it is attached."""
        process = self.launch()
        assert process.stdout is not None
        if not process.stdout.readline().startswith("lab-agent ready"):
            raise SystemExit(f"the agent did not start; see {self.home}.log")
