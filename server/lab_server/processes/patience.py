"""Waits for file descriptors: what cannot be looked at now is not gone, and is looked at again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from lab_server.descriptors import is_shortage
from lab_server.logs import Seldom

_log = structlog.get_logger("lab_server")

T = TypeVar("T")

_RETRY_S: Final = 0.5
_shortages: Final = Seldom()


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Return what some work returns, begun again as often as it fails for want of a file descriptor."""
    while True:
        try:
            return await work()
        except OSError as error:
            if not is_shortage(error):
                raise
            note_shortage(error)
        await asyncio.sleep(_RETRY_S)


async def seen(look: Callable[[], T]) -> T:
    """Return what a look returns, as soon as there are file descriptors for it."""

    async def work() -> T:
        return look()

    return await patiently(work)


def note_shortage(error: OSError) -> None:
    """Log that there are no file descriptors left: once a minute, whoever waits for how many."""
    if _shortages.is_due():
        _log.error("no file descriptors are left; waiting for some", error=error.strerror)
