"""Starts an agent's parts in order, and stops them on a signal."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import grpc
import grpc.aio
import structlog

import lab_server
from lab_core.errors import SettingsError
from lab_server.agent.home import AgentHome, Identity
from lab_server.executors.local import LocalExecutor
from lab_server.model.slot import Slot

_log = structlog.get_logger("lab_agent")

_JOIN_S = 30.0
_GRACE_S = 10.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """How an agent is to be.

    Attributes:
        addresses: of servers, HOST:PORT.
        name: unique on the server.
        pool: "" for the one that the server says.
        token: a join token, "" where the server needs none, or the agent has joined before.
        on_shutdown: whether the trainers are ended with the agent, or left to the next one of the home.
        is_ephemeral: there is no next one: the home goes with the agent, and the trainers die with it. The
            agent itself ends with the process that started it.
    """

    addresses: Sequence[str]
    name: str
    pool: str
    token: str
    slots: Sequence[Slot]
    experiments: Sequence[str]
    home: Path
    tls_files: tuple[Path | None, Path | None, Path | None] | None
    on_shutdown: Literal["stop", "leave"]
    is_ephemeral: bool = False


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        Refused: If the server does not take the agent.
        SettingsError: If the home, a file or an address cannot be used.
    """
    parent_pid = os.getppid()
    home = AgentHome(options.home, is_ephemeral=options.is_ephemeral)
    try:
        with home.opened():
            asyncio.run(_serve(options, home, parent_pid))
    finally:
        if options.is_ephemeral:
            shutil.rmtree(options.home, ignore_errors=True)


async def _serve(options: Options, home: AgentHome, parent_pid: int) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    async with AsyncExitStack() as stack:
        # first: its process must start before gRPC's threads do
        # the server was told which code there is: an edit counts from the agent's next start on
        executor = LocalExecutor(options.slots, experiments=options.experiments, auto_reload=False)
        stack.push_async_callback(executor.close)
        from lab_server.agent.agent import Agent, digests
        from lab_server.agent.link import Tls

        tls = None if options.tls_files is None else Tls(*options.tls_files)
        identity = await _joined(options, home, tls)
        experiments = await digests(executor)
        agent = Agent(home, identity, executor, experiments, options.addresses, tls)
        agent.asked_to_stop = asked_to_end
        running = asyncio.create_task(agent.run())
        ending = asyncio.create_task(asked_to_end.wait())
        ready = asyncio.create_task(agent.attached.wait())
        tasks = [running, ready, ending]
        if options.is_ephemeral:
            tasks.append(asyncio.create_task(_end_with(parent_pid, asked_to_end)))
        try:
            await asyncio.wait((running, ready, ending), return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                names = ",".join(slot.name for slot in options.slots)
                print(  # noqa: T201 - the one line on stdout, which scripts wait for
                    f"lab-agent ready name={identity.name} pool={identity.pool} slots={names}",
                    flush=True,
                )
            await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            _log.info("stopping", trainers=options.on_shutdown)
            if options.on_shutdown == "stop":
                leaving = asyncio.create_task(agent.leave(_GRACE_S))
                asked_to_end.clear()
                again = asyncio.create_task(asked_to_end.wait())  # a second signal does not wait
                await asyncio.wait((leaving, again), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _end_with(parent_pid: int, asked_to_end: asyncio.Event) -> None:
    """Ask the agent to end when the engine's process that started it has: nobody else would."""
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(_LOOK_S)
    _log.error("the process that started this agent is gone; ending with it", pid=parent_pid)
    asked_to_end.set()


async def _joined(options: Options, home: AgentHome, tls: object) -> Identity:
    """Return who the agent is to its server, which it joins if it has not."""
    from lab_rpc.v1 import agent_service_pb2 as pb
    from lab_server.agent.link import Tls, open_channel, refusal, stub_of

    assert tls is None or isinstance(tls, Tls)
    identity = home.identity(options.name, options.pool)
    if identity.credential_id:
        return identity
    request = pb.JoinRequest(
        version=lab_server.__version__,
        name=identity.name,
        pool=options.pool,
        secret_sha256=hashlib.sha256(identity.secret.encode()).hexdigest(),
    )
    metadata = (("authorization", f"Bearer {options.token}"),) if options.token else ()
    reason = ""
    for address in options.addresses:
        async with open_channel(address, tls) as channel:
            try:
                answer = await stub_of(channel).Join(
                    request, metadata=metadata, timeout=_JOIN_S, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                refused = refusal(error)
                if refused is not None:
                    raise refused from None
                reason = f"{address}: {error.details()}"
                continue
        joined = replace(identity, pool=answer.pool, credential_id=answer.credential_id)
        home.keep_identity(joined)
        return joined
    raise SettingsError(f"no server to join: {reason}")
