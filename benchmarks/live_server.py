"""A real lab-server as a process of its own, for benchmarks: started, killed, started again."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from live_process import LiveProcess

# where it is set, each start compiles all modules again, which no user's does
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_READY = re.compile(r"lab-server ready grpc=(\S+) http=(\S+)")


class LiveServer(LiveProcess):
    """A server that keeps its address over restarts.

    Args:
        home: its LAB_HOME.
        arguments: more of `lab-server serve`.
    """

    def __init__(self, home: Path, *arguments: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)  # its log is in it before the server says so
        self.home = home
        self._arguments = arguments
        self.address = f"127.0.0.1:{free_port()}"
        self.http_address = ""
        self.launched_at = 0.0  # of time.perf_counter()

    def __enter__(self) -> LiveServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self) -> subprocess.Popen[str]:
        """Start the process and do not wait for it."""
        self.launched_at = time.perf_counter()
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lab_server", "serve", "--grpc", self.address),
                    *("--http", "127.0.0.1:0", "--home", str(self.home), *self._arguments),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={"LAB_DATA_PATH": str(self.home / "data"), **os.environ},
            )
        return self.process

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        process = self.launch()
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = _READY.match(line)
        if ready is None:
            raise SystemExit(f"the server did not start; see {self.home / 'server.log'}")
        self.http_address = ready[2]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
