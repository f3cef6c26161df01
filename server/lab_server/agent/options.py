"""How an agent is to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab_server.agent.servers import Servers
from lab_server.executors.thread_wait import Policy
from lab_server.model.slot import Slot


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent is to be.

    Attributes:
        servers: where they are.
        name: unique on the server.
        pool: "" for the one that the server says.
        token: a join token, "" where the server needs none, or the agent has joined before.
        on_shutdown: whether the trainers are ended with the agent, or left to the next one of the home.
        is_ephemeral: there is no next one: the home goes with the agent, and the trainers die with it. The
            agent itself ends with the process that started it.
        is_host: a server started it for its own slots: see `lab_server.agent.host`.
        other_name: of such an agent, where the first one is taken.
        grace_s: seconds that the trainers have to save and exit when the agent is stopped.
        takes_uploads: whether it runs code that clients send to the server.
        auto_reload: whether edited experiments are used without being asked to.
        libraries: modules that are imported once, as torch is.
        thread_wait: how the threads of a trainer wait for each other.
        file_limit: how many files each trainer may have open; 0 for as many as the agent was started with.
    """

    servers: Servers
    name: str
    pool: str
    token: str
    slots: Sequence[Slot]
    experiments: Sequence[str]
    home: Path
    tls_files: tuple[Path | None, Path | None, Path | None] | None
    on_shutdown: Literal["stop", "leave"]
    is_ephemeral: bool = False
    is_host: bool = False
    other_name: str = ""
    grace_s: float = 10.0
    takes_uploads: bool = False
    auto_reload: bool = False
    libraries: Sequence[str] = ()
    thread_wait: Policy = "auto"
    file_limit: int = 0
