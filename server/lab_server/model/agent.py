"""What an agent and its server say to each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab_server.model.gpu import GpuReading
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.model.slot import Slot

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Names of agents and pools: they are parts of slots' names, and of files' names."""

DEFAULT_POOL = "agents"

SPENT_S = 86400.0
"""How long a join token is kept after its end, so that who uses it again hears why not."""

HOSTS_POOL = "hosts"
"""The pool of the agents that servers start themselves, each for its own slots."""

AGENT_LEFT = "its agent was shut down"
"""What `Executor.wait` returns for a trainer that an agent ended to stop itself; not the run's fault."""

LEASE_OVER = "its agent could not renew its lease in time"
"""What it returns for a trainer that an agent ended because the server may have given it up."""


@dataclass(frozen=True, slots=True)
class AgentCredential:
    """Who an agent is to its servers, until it is revoked.

    Attributes:
        id: its public part.
        sha256: of its secret, which the agent alone has. It is random and long, so no salt is needed.
        revoke_time_ns: 0 while it is valid.
    """

    id: str
    name: str
    pool: str
    sha256: str
    create_time_ns: int
    revoke_time_ns: int = 0


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token by which one agent may join.

    Attributes:
        id: its public part.
        pool: of the agent; "" for the one that it asks for.
        sha256: of its secret part.
        expire_time_ns: 0 for never.
        used_by: the hash of the secret of the agent that joined by it.
    """

    id: str
    pool: str
    sha256: str
    expire_time_ns: int = 0
    used_by: str = ""


@dataclass(frozen=True, slots=True)
class AttemptKey:
    """An attempt of a run."""

    run_id: str
    attempt: int

    def __str__(self) -> str:
        return f"attempt {self.attempt} of run {self.run_id}"


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent has when it attaches.

    Attributes:
        version: of its code.
        slots: by their names on the agent.
        experiments: the digest of each one's code, by name.
        held: the attempts that it holds from earlier.
        is_leaving: it stops, and takes no new runs.
        takes_uploads: it runs code that clients sent.
    """

    version: str
    slots: tuple[Slot, ...]
    experiments: Mapping[str, str] = field(default_factory=dict)
    held: tuple[AttemptKey, ...] = ()
    is_leaving: bool = False
    takes_uploads: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks to renew the lease; as the answer, renews it from when the ping was sent."""

    number: int


@dataclass(frozen=True, slots=True)
class Launched:
    """An attempt's trainer, or why there is none."""

    key: AttemptKey
    process: TrainerProcess | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """That an attempt lives, whether it made progress, and what it uses."""

    key: AttemptKey
    has_progressed: bool
    cpu_seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """No process of the attempt is left, and all it wrote is shipped.

    Attributes:
        spool_bytes: the length of its spool.
        is_complete: whether all is shipped indeed; else the server tries the run again.
    """

    key: AttemptKey
    cause: str
    spool_bytes: int
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Leaving:
    """The agent stops, and takes no new runs."""


@dataclass(frozen=True, slots=True)
class Experiments:
    """The agent's experiments are these now: the digest of each one's code, by name."""

    experiments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the agent's GPUs do just now."""

    gpus: tuple[GpuReading, ...]


FromAgent = Hello | Ping | Launched | Beat | Ended | Leaving | Experiments | Gpus


@dataclass(frozen=True, slots=True)
class Welcome:
    """The agent is attached.

    Attributes:
        lease_s: how long it may go on without the server after a ping that was answered.
        held: how many bytes of the spool the server has, for each held attempt that is the agent's still.
        home: which folder the server has files in.
    """

    lease_s: float
    held: Mapping[AttemptKey, int] = field(default_factory=dict)
    home: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a trainer in a slot, by its name on the agent."""

    key: AttemptKey
    spec: LaunchSpec
    slot: str


@dataclass(frozen=True, slots=True)
class Command:
    """Pass a line of the control file on to a trainer."""

    key: AttemptKey
    line: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End a trainer by SIGTERM, and what is left of it after grace_s by SIGKILL."""

    key: AttemptKey
    grace_s: float


@dataclass(frozen=True, slots=True)
class Release:
    """Forget an attempt with its files; end its trainer, if there is one."""

    key: AttemptKey


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop: there has been nothing to do for a while."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Import the experiments anew, whether their files changed or not."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of the store are at these addresses now."""

    addresses: tuple[str, ...]


ToAgent = Welcome | Ping | Launch | Command | Kill | Release | Stop | Reload | Servers
