"""Starts the server's parts in order, and stops them on a signal."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from lab_core.errors import SettingsError
from lab_server import logs
from lab_server.app.reload import RELOAD_SIGNAL, named_in
from lab_server.executors.gpus import default_slots, missing_gpus
from lab_server.executors.local import LocalExecutor
from lab_server.files.home import Home
from lab_server.files.own_home import make_home
from lab_server.model.slot import Slot, parse_slots
from lab_server.model.sources import missing_source
from lab_server.processes.file_limit import raise_limit
from lab_server.settings.loading import Loaded
from lab_server.settings.settings import Settings

if TYPE_CHECKING:
    from lab_server.app.own_slots import OwnSlots

_log = structlog.get_logger("lab_server")


def run(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: If a setting cannot be used: a port, a folder, a certificate.
        StoreError: If the store cannot be opened.
    """
    settings = loaded.settings
    slots = parse_slots(settings.slots or default_slots())
    _check(loaded, slots)
    make_home(settings.home, has_database=not settings.store)
    logs.set_up(settings.log_format, settings.log_level)
    for warning in loaded.warnings:
        _log.warning(warning)
    raise_limit()
    asyncio.run(_serve(settings, slots))


def _check(loaded: Loaded, slots: Sequence[Slot]) -> None:
    """Compare the settings with the machine, before anything is started."""
    problems = []
    if missing := missing_gpus(slots):
        problems.append(f"{loaded.as_written('slots')} {missing}")
    problems += [
        f"{loaded.as_written('experiments')} names {source}, but {missing}"
        for source in loaded.settings.experiments
        if (missing := missing_source(source))
    ]
    problems += [
        f"{loaded.as_written('preload')} names {name}, but {missing}"
        for name in loaded.settings.preload
        if (missing := missing_source(name))
    ]
    if problems:
        raise SettingsError("\n".join(problems))


async def _serve(settings: Settings, slots: Sequence[Slot]) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        loop.add_signal_handler(signal.SIGHUP, asked_to_end.set)
    # where servers may share a store, an agent has the slots, and outlives the server
    own = slots if settings.store else ()
    async with AsyncExitStack() as stack:
        # First: its process imports torch meanwhile, and must start before gRPC's threads do.
        executor = LocalExecutor(
            () if own else slots,
            experiments=settings.experiments,
            auto_reload=settings.auto_reload,
            libraries=settings.preload,
            uploads=Home(settings.home).uploads if settings.allow_uploads else None,
            thread_wait=settings.thread_wait,
        )
        stack.push_async_callback(executor.close)
        # Imported here, as they take as long to import as everything else together.
        from lab_server.app.background import keep_up
        from lab_server.app.wiring import open_server

        server = await stack.enter_async_context(open_server(settings, executor, own))
        loop.add_signal_handler(RELOAD_SIGNAL, server.reload)
        stack.enter_context(named_in(settings.home))
        gc.freeze()  # what exists now stays: it need not be collected
        gc.enable()
        if not await _has_slots(server.own_slots, asked_to_end):
            return
        watching = asyncio.create_task(keep_up(server.own_slots.watch))
        stack.callback(watching.cancel)
        print(  # noqa: T201 - the one line on stdout, which scripts wait for
            f"lab-server ready grpc={server.grpc_address} http={server.http_address}", flush=True
        )
        if server.dashboard_url:
            _log.info("the dashboard is open", url=server.dashboard_url)
        await asked_to_end.wait()
        _log.info("stopping", trainers=settings.on_shutdown)
        # A second signal exits at once, whatever hangs.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _leave_at_once)


async def _has_slots(own_slots: OwnSlots, asked_to_end: asyncio.Event) -> bool:
    """Return when the agent of the own slots is there; False if the server is to end before.

    Raises:
        SettingsError: If it cannot be started.
    """
    starting = asyncio.create_task(own_slots.start())
    ending = asyncio.create_task(asked_to_end.wait())
    try:
        await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
        return starting.done()
    finally:
        for task in (starting, ending):
            task.cancel()


def _leave_at_once() -> None:
    _log.warning("exiting at once after a second signal")
    os._exit(1)
