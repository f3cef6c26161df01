"""A real lab-server as a process of its own, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_READY = re.compile(r"lab-server ready grpc=(\S+) http=(\S+)")


@dataclass
class RealServer:
    """A server that runs.

    Attributes:
        address: of gRPC, HOST:PORT.
        http_url: of /metrics and the health pages.
        home: its LAB_HOME.
        process: the server.
        log: its standard error.
    """

    address: str
    http_url: str
    home: Path
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> None:
        """End the server and its trainers."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def start_server(
    home: Path, *arguments: str, log_name: str = "server.log", **environment: str
) -> RealServer:
    """Start a server on free ports and wait until it is ready."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / log_name
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "lab_server", "serve"),
                *("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--home", str(home)),
                *("--on-shutdown", "stop", *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "LAB_DATA_PATH": str(home / "data"), **environment},
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    ready = _READY.match(line)
    if ready is None:
        process.kill()
        process.wait()
        raise RuntimeError(f"the server did not start: {line!r}\n{log.read_text()}")
    return RealServer(ready[1], f"http://{ready[2]}", home, process, log)
