"""The agent: attached to a server, it does what that asks, and keeps what it holds while it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc.aio
import structlog

import lab_server
from lab_core.errors import LabError
from lab_server.agent.attempt import HeldAttempt
from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.link import Link, Tls, is_asked_to_end, open_channel, refusal, stub_of
from lab_server.agent.servers import Servers
from lab_server.agent.uploads import AgentUploads
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.protocol import Executor
from lab_server.files.lease import Lease, now_s
from lab_server.files.uploads import UploadStore
from lab_server.messages.agents import request_to_proto, response_from_proto
from lab_server.model.agent import (
    AGENT_LEFT,
    LEASE_OVER,
    AttemptKey,
    Command,
    Experiments,
    FromAgent,
    Gpus,
    Hello,
    Kill,
    Launch,
    Launched,
    Leaving,
    Ping,
    Release,
    Reload,
    Stop,
    ToAgent,
    Welcome,
)
from lab_server.model.agent import Servers as ServersTold
from lab_server.model.launch import LaunchSpec

_log = structlog.get_logger("lab_agent")

_BEAT_S = 1.0
_LOOK_S = 2.0
_PING_RATIO = 0.1
_MAX_PING_S = 10.0
_PAUSE_S = 0.2
_MAX_PAUSE_S = 5.0
_PATIENCE_S = 30.0  # for an answer to a ping, before the stream is taken for dead


class Agent:
    """Owns the attempts that this machine holds, and the lease.

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
        self._tls = tls
        self._link = Link(identity)
        self._uploads = AgentUploads(self._link, uploads)
        self._held: dict[AttemptKey, HeldAttempt] = {}
        self._outgoing: asyncio.Queue[FromAgent] | None = None
        self._pings: dict[int, float] = {}
        self._numbers = itertools.count(1)
        self._lease_s = 0.0
        self._server_home = ""
        self._lease: Lease | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._releasing: dict[AttemptKey, asyncio.Task[None]] = {}
        self._is_leaving = False
        self.attached = asyncio.Event()
        self.asked_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Hold on to the server until cancelled.

        Raises:
            Refused: If a server refuses the agent before any has taken it.
        """
        for spec in self._home.held():
            self._hold(spec)
        beating = asyncio.create_task(self._beat())
        leasing = asyncio.create_task(self._keep_lease())
        looking = asyncio.create_task(self._look_for_edits())
        pruning = asyncio.create_task(self._uploads.prune())
        try:
            await self._stay_attached()
        finally:
            tasks = (beating, leasing, looking, pruning, *self._releasing.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for held in self._held.values():
                held.close()

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing."""
        return not self._held

    @property
    def is_attached(self) -> bool:
        """Whether a server has taken it, and is in reach."""
        return self._outgoing is not None

    def reload(self) -> None:
        """Import the experiments anew, whether their files changed or not."""
        self._reloading = asyncio.create_task(self._executor.reload())

    async def retire(self) -> None:
        """Take no new runs, and return when there are none left."""
        self._is_leaving = True
        self._tell(Leaving())
        while self._held:  # noqa: ASYNC110 - the server lets go of each when it has all of it
            await asyncio.sleep(_PAUSE_S)

    async def leave(self, grace_s: float) -> None:
        """Take no new runs, have the trainers save and exit, and ship all that they wrote."""
        self._is_leaving = True
        self._tell(Leaving())
        held = list(self._held.values())
        for each in held:
            each.end(grace_s, AGENT_LEFT)
        # bounded: where no server is in reach, the next agent of the home ships the rest
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s + _PATIENCE_S):
                await asyncio.gather(*(each.until_told() for each in held))
                while self._held:  # noqa: ASYNC110 - the server lets go of each when it has all of it
                    await asyncio.sleep(_PAUSE_S)

    # ---- the stream

    async def _stay_attached(self) -> None:
        pause_s = _PAUSE_S
        async for address in self._addresses():
            try:
                await self._attach(address)
                pause_s = _PAUSE_S
            except grpc.aio.AioRpcError as error:
                refused = refusal(error)
                if refused is not None and not self.attached.is_set():
                    raise refused from None
                was_attached = self._outgoing is not None
                # one that was attached is kept: its trainers go on, and the refusal may pass
                what = "no server" if refused is None else "the server refuses this agent"
                _log.warning(what, server=address, reason=error.details())
                pause_s = _PAUSE_S if was_attached else min(2 * pause_s, _MAX_PAUSE_S)
            finally:
                self._link.detached()
                self._outgoing = None
            await asyncio.sleep(pause_s)

    async def _addresses(self) -> AsyncIterator[str]:
        """Yield the servers' addresses in turn, as they are known then."""
        while True:
            addresses = self._servers.addresses()
            if not addresses:
                await asyncio.sleep(_PAUSE_S)
            for address in addresses:
                yield address

    async def _attach(self, address: str) -> None:
        outgoing: asyncio.Queue[FromAgent] = asyncio.Queue()
        slots = tuple(self._executor.slots)
        hello_s = now_s()
        outgoing.put_nowait(
            Hello(
                lab_server.__version__,
                slots,
                self._experiments,
                tuple(self._held),
                self._is_leaving,
                self._uploads.are_taken,
            )
        )
        self._pings.clear()
        channel = open_channel(address, self._tls)
        async with channel:
            stub = stub_of(channel)
            stream = stub.Attach(_requests(outgoing), metadata=self._link.metadata)
            pinging = asyncio.create_task(self._ping(outgoing, stream))
            try:
                async for message in stream:
                    said = response_from_proto(message)
                    if isinstance(said, Welcome):
                        self._welcome(said, outgoing)
                        # until the first ping is answered
                        self._lease = Lease.from_ping(hello_s, said.lease_s)
                        self._link.attached(stub)
                        _log.info("attached", server=address, held=len(said.held))
                        self.attached.set()
                    elif said is not None:
                        self._receive(said)
            except asyncio.CancelledError:
                if is_asked_to_end():
                    raise
                _log.warning("the server is silent", server=address, for_s=_PATIENCE_S)
            finally:
                pinging.cancel()

    async def _ping(self, outgoing: asyncio.Queue[FromAgent], stream: grpc.aio.Call) -> None:
        while True:
            oldest_s = next(iter(self._pings.values()), None)
            if oldest_s is not None and now_s() - oldest_s > _PATIENCE_S:
                stream.cancel()
                return
            number = next(self._numbers)
            self._pings[number] = now_s()
            outgoing.put_nowait(Ping(number))
            if self._devices is not None:
                readings = await asyncio.to_thread(self._devices.readings)
                if readings:
                    outgoing.put_nowait(Gpus(tuple(readings)))
            interval_s = self._lease_s * _PING_RATIO if self._lease_s else 1.0
            await asyncio.sleep(min(_MAX_PING_S, interval_s))

    def _welcome(self, said: Welcome, outgoing: asyncio.Queue[FromAgent]) -> None:
        self._lease_s = said.lease_s
        self._outgoing = outgoing
        if said.home != self._server_home:
            self._server_home = said.home
            for held in self._held.values():
                held.upload_anew()
        for key in said.held:
            if key in self._held:
                self._held[key].report()

    def _tell(self, told: FromAgent) -> None:
        if self._outgoing is not None:
            self._outgoing.put_nowait(told)

    # ---- what the server says

    def _receive(self, said: ToAgent) -> None:
        match said:
            case Ping(number):
                sent_s = self._pings.pop(number, None)
                if sent_s is not None:
                    self._lease = Lease.from_ping(sent_s, self._lease_s)
                    self._write(self._lease)
            case Launch(key, spec, slot):
                self._launch(key, spec, slot)
            case Command() | Kill() | Release():
                self._order(said)
            case Stop():
                self.asked_to_stop.set()
            case Reload():
                self.reload()
            case ServersTold(addresses):
                self._servers.learn(addresses)
            case Welcome():
                pass

    def _write(self, lease: Lease) -> None:
        try:
            lease.write(self._home.lease)
        except (
            OSError
        ) as error:  # the trainers go by the last one: they stop too early, not too late
            _log.error("cannot write the lease; trying again", reason=error.strerror)

    def _order(self, said: Command | Kill | Release) -> None:
        held = self._held.get(said.key)
        match said:
            case _ if held is None:
                pass
            case Command(line=line):
                held.command(line)
            case Kill(grace_s=grace_s):
                held.end(grace_s)
            case Release(key):
                self._release(key)

    def _launch(self, key: AttemptKey, spec: LaunchSpec, slot: str) -> None:
        if key in self._held:
            self._held[key].report()
            return
        if self._is_leaving:
            self._tell(Launched(key, None, AGENT_LEFT))
            return
        # an earlier attempt of the run, or the last one in the slot, ends before this begins
        others = [
            held.key
            for held in self._held.values()
            if held.key.run_id == key.run_id or held.slot.rpartition("/")[2] == slot
        ]
        ending = [self._release(other) for other in others]

        async def prepare() -> None:
            if ending:
                await asyncio.wait(ending)
            await asyncio.to_thread(self._home.hold, spec)

        self._hold(spec, prepare)

    def _hold(self, spec: LaunchSpec, prepare: Callable[[], Awaitable[None]] | None = None) -> None:
        held = HeldAttempt(
            self._home, self._executor, self._link, self._uploads, spec, self._tell, prepare
        )
        self._held[held.key] = held

    def _release(self, key: AttemptKey) -> asyncio.Task[None]:
        """Begin to release an attempt, once: what comes after it in its folder is not to be removed."""
        task = self._releasing.get(key)
        if task is None:
            task = self._releasing[key] = asyncio.create_task(self._let_go(self._held[key]))
        return task

    async def _let_go(self, held: HeldAttempt) -> None:
        try:
            await held.release()
            del self._held[held.key]
        except OSError as error:
            _log.error("cannot release an attempt", attempt=str(held.key), reason=error.strerror)
        finally:
            del self._releasing[held.key]

    # ---- by itself

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            running = [held for held in self._held.values() if held.process is not None]
            processes = [held.process for held in running if held.process is not None]
            usages = await self._executor.usages(processes) if processes else {}
            for held in running:
                usage = usages.get(held.process) if held.process is not None else None
                beat = held.beat((usage.cpu_seconds, usage.memory_bytes) if usage else None)
                if beat is not None:
                    self._tell(beat)

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
                self._tell(Experiments(experiments))

    async def _keep_lease(self) -> None:
        """End the trainers when the lease is over, before the server gives them up."""
        while True:
            lease = self._lease
            left_s = 1.0 if lease is None else lease.stop_at_s - now_s()
            if left_s > 0:
                # a wait of the event loop may sleep with the machine: look again soon
                await asyncio.sleep(min(left_s, 1.0))
                continue
            assert lease is not None
            for held in self._held.values():
                if held.process is not None:
                    _log.error("the lease is over; ending a trainer", attempt=str(held.key))
                    held.end(lease.grace_s, LEASE_OVER)
            self._lease = None
            if self._home.is_ephemeral:
                _log.error("the lease is over; ending, since the engine's node is for others then")
                self.asked_to_stop.set()


async def digests(executor: Executor) -> dict[str, str]:
    """Return the digest of the code of each experiment that can be run, by name."""
    entries = await executor.describe()
    return {entry.name: entry.code_digest for entry in entries if entry.schema is not None}


async def _requests(outgoing: asyncio.Queue[FromAgent]) -> AsyncIterator[object]:
    while True:
        told = await outgoing.get()
        yield request_to_proto(told)
        outgoing.task_done()
