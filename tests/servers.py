"""A real lab-server and real agents as processes of their own, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lab_server.agent.host import HostFolder
from lab_server.processes import proc

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
        finally:
            end_agent(self.home)


def end_agent(home: Path) -> None:
    """End the agent that has a server's own slots, where its server did not; its trainers go on."""
    folder = HostFolder(home)
    running = folder.running()
    if running is not None and not folder.other_servers:
        os.kill(running.pid, signal.SIGTERM)
        while proc.is_alive(running):
            time.sleep(0.02)


def start_server(
    home: Path, *arguments: str, log_name: str = "server.log", **environment: str
) -> RealServer:
    """Start a server on free ports and wait until it is ready."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # its log is in it before the server says so
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


@dataclass
class RealAgent:
    """An agent that runs.

    Attributes:
        process: the agent.
        home: its folder.
        log: its standard error.
    """

    process: subprocess.Popen[str]
    home: Path
    log: Path

    def stop(self) -> None:
        """End the agent, and its trainers."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def launch_agent(address: str, home: Path, *arguments: str) -> RealAgent:
    """Start an agent with one slot; its name is that of its folder, unless the arguments say another."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # its log is in it before the server says so
    log = home / "agent.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [
                *(str(Path(sys.executable).with_name("lab-agent")), "join", address),
                *("--name", home.name, "--home", str(home), "--slots", "cpu:1", *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "LAB_DATA_PATH": str(home / "data")},
        )
    return RealAgent(process, home, log)


def start_agent(address: str, home: Path, *arguments: str) -> RealAgent:
    """Start an agent and wait until it is ready."""
    agent = launch_agent(address, home, *arguments)
    assert agent.process.stdout is not None
    line = agent.process.stdout.readline()
    if not line.startswith("lab-agent ready"):
        agent.process.kill()
        agent.process.wait()
        raise RuntimeError(f"the agent did not start: {line!r}\n{agent.log.read_text()}")
    return agent
