"""Starts an agent's parts in order, and stops them on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from contextlib import AsyncExitStack

import structlog

from lab_server.agent.home import AgentHome, Identity
from lab_server.agent.options import Options
from lab_server.agent.orders import Orders, until_forgotten
from lab_server.errors import LaunchError
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.local import LocalExecutor
from lab_server.processes.file_limit import raise_limit

_log = structlog.get_logger("lab_agent")


def run(
    options: Options,
    meanwhile: contextlib.AbstractContextManager[None] = contextlib.nullcontext(),  # noqa: B008
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        options: how the agent is to be.
        meanwhile: is entered once no other agent can have the home, and left at the end.

    Raises:
        Refused: If the server does not take the agent.
        SettingsError: If the home, a file or an address cannot be used.
    """
    parent_pid = os.getppid()
    raise_limit(options.file_limit)
    home = AgentHome(options.home, is_ephemeral=options.is_ephemeral)
    try:
        with home.opened(), meanwhile:
            asyncio.run(_serve(options, home, parent_pid))
    finally:
        if options.is_ephemeral:
            shutil.rmtree(options.home, ignore_errors=True)


async def _serve(options: Options, home: AgentHome, parent_pid: int) -> None:
    orders = Orders(options.on_shutdown)
    orders.listen(is_host=options.is_host)
    async with AsyncExitStack() as stack:
        # first: its process must start before gRPC's threads do
        uploads = home.uploads if options.takes_uploads else None
        # the server was told which code there is: an edit counts from the agent's next start on, unless
        # the server is on this machine and sees the same files
        executor = LocalExecutor(
            options.slots,
            experiments=options.experiments,
            auto_reload=options.auto_reload,
            libraries=options.libraries,
            thread_wait=options.thread_wait,
            uploads=uploads,
        )
        stack.push_async_callback(executor.close)
        from lab_server.agent.agent import Agent, digests
        from lab_server.agent.joining import joined
        from lab_server.agent.link import Tls

        tls = None if options.tls_files is None else Tls(*options.tls_files)

        async def prepare() -> tuple[Identity, dict[str, str]]:
            identity = await joined(options, home, tls)
            try:
                return identity, await digests(executor)
            except LaunchError as error:
                if not options.is_host:  # else its server says it, and edited ones may come
                    raise
                _log.error("the experiments cannot be loaded", reason=str(error))
                return identity, {}

        prepared = await orders.unless_told_to_end(prepare())
        if prepared is None:
            return
        identity, experiments = prepared
        devices = Devices()
        opening = asyncio.create_task(asyncio.to_thread(devices.open))
        agent = Agent(home, identity, executor, experiments, options.servers, tls, uploads, devices)
        agent.asked_to_stop = orders.to_end
        orders.on_reload = agent.reload
        running = asyncio.create_task(agent.run())
        tasks = [running, asyncio.create_task(orders.to_end.wait())]
        ready = asyncio.create_task(agent.attached.wait())
        if options.is_ephemeral:
            tasks.append(asyncio.create_task(orders.end_with(parent_pid)))
        if options.is_host:
            tasks.append(asyncio.create_task(until_forgotten(agent)))
        try:
            await asyncio.wait((ready, *tasks), return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                _say_ready(identity, options)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            _log.info("stopping", trainers=orders.how)
            await orders.carry_out(agent, options.grace_s)
        finally:
            for task in (ready, opening, *tasks):
                task.cancel()
            await asyncio.gather(ready, opening, *tasks, return_exceptions=True)


def _say_ready(identity: Identity, options: Options) -> None:
    """Write the one line on stdout, which scripts wait for, and servers that may have ended meanwhile."""
    names = ",".join(slot.name for slot in options.slots)
    line = f"lab-agent ready name={identity.name} pool={identity.pool} slots={names}\n"
    with contextlib.suppress(OSError):
        os.write(1, line.encode())
