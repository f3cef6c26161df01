"""The agent: attached to a server, it does what that asks, and keeps what it holds while it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

import lab_server
from lab_core.errors import LabError
from lab_server.agent.attachment import Attachment
from lab_server.agent.holding import Holding
from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.kept_lease import KeptLease
from lab_server.agent.link import Link, Tls
from lab_server.agent.servers import Servers
from lab_server.agent.uploads import AgentUploads
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.protocol import Executor
from lab_server.files.lease import Lease
from lab_server.files.uploads import UploadStore
from lab_server.model.agent import (
    AGENT_LEFT,
    LEASE_OVER,
    Command,
    Experiments,
    Gpus,
    Hello,
    Kill,
    Launch,
    Leaving,
    Release,
    Reload,
    Stop,
    ToAgent,
    Welcome,
)
from lab_server.model.agent import Servers as ServersTold
from lab_server.processes.patience import seen

_log = structlog.get_logger("lab_agent")

_LOOK_S = 2.0
_READ_S = 5.0
_SHIP_S = 30.0  # for what trainers leave, beyond the time that they have to save


class Agent:
    """Puts an agent's parts together: the attachment, the lease, and the attempts that this machine holds.

    Args:
        executor: starts trainers here.
        experiments: the digest of each one's code, by name.
        servers: tried in turn.
        uploads: keeps code that clients sent; None to run none.
        devices: the GPUs that it tells of; None for none.

    Attributes:
        attached: set once a server has taken the agent.
        asked_to_stop: set when the server needs it no more.
    """

    def __init__(
        self,
        home: AgentHome,
        identity: Identity,
        executor: Executor,
        experiments: Mapping[str, str],
        servers: Servers,
        tls: Tls | None,
        uploads: UploadStore | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._home = home
        self._devices = devices
        self._executor = executor
        self._experiments = experiments
        self._servers = servers
        self._server_home = ""
        self._reloading: asyncio.Task[None] | None = None
        link = Link(identity)
        self._uploads = AgentUploads(link, uploads)
        self._lease = KeptLease(home.lease, self._end_with)
        self._attachment = Attachment(
            link, servers, tls, self._lease, hello=self._hello, receive=self._receive
        )
        self._holding = Holding(home, executor, link, self._uploads, self._attachment.tell)
        self.attached = self._attachment.attached
        self.asked_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Hold on to the server until cancelled.

        Raises:
            Refused: If a server refuses the agent before any has taken it.
        """
        await seen(self._holding.take_over)
        works = (
            self._holding.beat(),
            self._lease.watch(),
            self._look_for_edits(),
            self._tell_of_gpus(),
            self._uploads.prune(),
        )
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await self._attachment.stay()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._holding.close()

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing."""
        return not self._holding.keys

    @property
    def is_attached(self) -> bool:
        """Whether a server has taken it, and is in reach."""
        return self._attachment.is_up

    def reload(self) -> None:
        """Import the experiments anew, whether their files changed or not."""
        self._reloading = asyncio.create_task(self._executor.reload())

    async def retire(self) -> None:
        """Take no new runs, and return when there are none left."""
        self._close()
        await self._holding.until_empty()

    async def leave(self, grace_s: float) -> None:
        """Take no new runs, have the trainers save and exit, and ship all that they wrote."""
        self._close()
        # bounded: where no server is in reach, the next agent of the home ships the rest
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + _SHIP_S):
                await self._holding.end_all(grace_s, AGENT_LEFT)

    def _close(self) -> None:
        self._holding.is_closed = True
        self._attachment.tell(Leaving())

    def _hello(self) -> Hello:
        return Hello(
            lab_server.__version__,
            tuple(self._executor.slots),
            self._experiments,
            self._holding.keys,
            is_leaving=self._holding.is_closed,
            takes_uploads=self._uploads.are_taken,
        )

    def _receive(self, said: ToAgent) -> None:
        match said:
            case Welcome():
                self._welcome(said)
            case Launch() | Command() | Kill() | Release():
                self._holding.obey(said)
            case Stop():
                self.asked_to_stop.set()
            case Reload():
                self.reload()
            case ServersTold(addresses):
                self._servers.learn(addresses)

    def _welcome(self, said: Welcome) -> None:
        if said.home != self._server_home:
            self._server_home = said.home
            self._holding.upload_anew()
        self._holding.report(said.held)

    def _end_with(self, lease: Lease) -> None:
        """End the trainers, whose lease is over, before the server gives them up."""
        self._holding.end_trainers(lease.grace_s, LEASE_OVER)
        if self._home.is_ephemeral:
            _log.error("the lease is over; ending, since the engine's node is for others then")
            self.asked_to_stop.set()

    async def _look_for_edits(self) -> None:
        """Tell the server when the experiments' code has changed."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                experiments = await digests(self._executor)
            except LabError as error:
                _log.warning("cannot look for edited experiments", reason=str(error))
                continue
            if experiments != self._experiments:
                self._experiments = experiments
                self._attachment.tell(Experiments(experiments))

    async def _tell_of_gpus(self) -> None:
        """Tell the server what the GPUs here do."""
        await self.attached.wait()
        while self._devices is not None:
            readings = await asyncio.to_thread(self._devices.readings)
            if readings:
                self._attachment.tell(Gpus(tuple(readings)))
            await asyncio.sleep(_READ_S)


async def digests(executor: Executor) -> dict[str, str]:
    """Return the digest of the code of each experiment that can be run, by name."""
    entries = await executor.describe()
    return {entry.name: entry.code_digest for entry in entries if entry.schema is not None}
