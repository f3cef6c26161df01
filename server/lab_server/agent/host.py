"""The agent of a server's own slots: a process that outlives its server, and goes on with the next one.

Its folder is below the server's home, a folder for each host. There are
- `servers/PID.sock`, on which each server of the home listens for it,
- `running`, which process the agent is, and `started_with`, the options that it was started with,
- `servers.json`, the other servers of the store, and all that an agent has in its home.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import lab_server
from lab_server.agent.options import Options
from lab_server.agent.run import run
from lab_server.agent.servers import HostServers
from lab_server.descriptors import raise_if_blind
from lab_server.executors.thread_wait import Policy
from lab_server.model.agent import HOSTS_POOL
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot
from lab_server.processes import proc
from lab_server.processes.pid_file import read_pid_file, write_pid_file

# what differs between two starts in the same circumstances
_PASSING: Final = re.compile(
    "_|SHLVL|PWD|OLDPWD|INVOCATION_ID|JOURNAL_STREAM|SYSTEMD_EXEC_PID|NOTIFY_SOCKET|MAINPID|.*_PID"
)


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What a server tells the agent of its own slots; plain values, as they travel as JSON.

    Attributes:
        home: the folder of the agent.
        home_id: of the server's home.
        token: by which the agent may join.
        slots: the name and the device of each.
        tls_files: CA, certificate and key, by which servers trust each other; empty for none.
        file_limit: how many files each trainer may have open; 0 for as many as the agent was started with.
    """

    home: str
    home_id: str
    token: str
    slots: list[list[str]]
    experiments: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    allow_uploads: bool = False
    auto_reload: bool = True
    thread_wait: Policy = "auto"
    tls_files: list[str] = field(default_factory=list)
    grace_s: float = 10.0
    log_format: Literal["auto", "human", "json"] = "auto"
    log_level: str = "info"
    file_limit: int = 0

    def to_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return asdict(self)

    def fingerprint(self, environment: Mapping[str, str] = os.environ) -> str:
        """Return what is the same for two agents that do the same."""
        lasting = {name: text for name, text in environment.items() if not _PASSING.fullmatch(name)}
        what = {**asdict(self), "token": "", "version": lab_server.__version__, "with": lasting}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def host_name() -> str:
    """Return this host's name, as agents may be named."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:58].lstrip("_.-")
    return name or "host"


class HostFolder:
    """The folder of the agent of this host below a server's home.

    What says who runs raises an OSError where there is no file descriptor to look with.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "agents" / host_name()
        self.sockets = self.path / "servers"
        self.log = self.path / "agent.log"
        self._running = self.path / "running"
        self._started_with = self.path / "started_with"

    def make(self) -> None:
        """Make it, for this user alone, and remove the sockets of servers that have ended.

        Raises:
            OSError: If it cannot be made.
        """
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        for pid, path in self._servers():
            if proc.identify(pid) is None:
                path.unlink(missing_ok=True)

    @property
    def other_servers(self) -> list[int]:
        """The processes of other servers of the home on this host."""
        pids = [pid for pid, _ in self._servers() if pid != os.getpid()]
        return [pid for pid in pids if proc.identify(pid) is not None]

    def _servers(self) -> list[tuple[int, Path]]:
        """Return the pid of each server that has, or had, a socket, with its path."""
        with contextlib.suppress(FileNotFoundError):
            paths = [path for path in self.sockets.iterdir() if path.suffix == ".sock"]
            return [(int(path.stem), path) for path in paths]
        return []

    def running(self) -> TrainerProcess | None:
        """Return the agent's process, None if there is none that lives."""
        process = read_pid_file(self._running)
        return process if process is not None and proc.is_alive(process) else None

    def started_with(self) -> str:
        """Return the fingerprint of the options of the agent that runs."""
        try:
            return self._started_with.read_text()
        except OSError as error:
            raise_if_blind(error)
            return ""

    @property
    def is_idle(self) -> bool:
        """Whether the agent holds nothing."""
        with contextlib.suppress(FileNotFoundError):
            return not any(name.endswith(".json") for name in os.listdir(self.path / "attempts"))
        return True

    @contextlib.contextmanager
    def named(self, fingerprint: str) -> Iterator[None]:
        """Tell which process the agent is, while the context is open; one at a time may."""
        self._running.unlink(missing_ok=True)
        self._started_with.write_text(fingerprint)
        me = proc.identify(os.getpid())
        assert me is not None, "/proc knows the process that reads it"
        write_pid_file(self._running, me)
        try:
            yield
        finally:
            self._running.unlink(missing_ok=True)


def run_host(options: HostOptions) -> None:
    """Serve until told to end.

    Raises:
        Refused: If the server does not take the agent.
        SettingsError: If the home cannot be used, or another agent has it.
    """
    path = Path(options.home)
    folder = HostFolder(path.parent.parent)
    ca, cert, key = (Path(file) if file else None for file in options.tls_files or ["", "", ""])
    name = host_name()
    run(
        Options(
            servers=HostServers(folder.sockets, path / "servers.json"),
            name=name,
            other_name=f"{name}-{options.home_id[:4]}",
            pool=HOSTS_POOL,
            token=options.token,
            slots=tuple(Slot(name, device) for name, device in options.slots),
            experiments=options.experiments,
            home=path,
            tls_files=(ca, cert, key) if options.tls_files else None,
            on_shutdown="leave",
            is_host=True,
            grace_s=options.grace_s,
            takes_uploads=options.allow_uploads,
            auto_reload=options.auto_reload,
            libraries=options.libraries,
            thread_wait=options.thread_wait,
            file_limit=options.file_limit,
        ),
        folder.named(options.fingerprint()),
    )
