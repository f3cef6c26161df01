"""Shows an AsyncClient as a blocking one, so that one suite of tests holds for both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from lab_client import AsyncClient, AsyncRun
from lab_client.aio.experiment import AsyncExperiment


class Blocking:
    """Whatever an asyncio object returns is waited for."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return self._wrap(getattr(self._inner, name))

    def __repr__(self) -> str:
        return repr(self._inner)

    def _wrap(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            return self._wrap(self._loop.run_until_complete(self._wait(value)))
        if isinstance(value, AsyncIterator):
            return self._items(value)
        if isinstance(value, AsyncRun | AsyncExperiment | AsyncClient):
            return Blocking(value, self._loop)
        if inspect.ismethod(value):
            return lambda *args, **kwargs: self._wrap(value(*args, **kwargs))
        return value

    async def _wait(self, value: Any) -> Any:
        return await value

    def _items(self, iterator: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self._loop.run_until_complete(self._wait(anext(iterator)))
                except StopAsyncIteration:
                    return
                yield self._wrap(item)
        finally:
            self._loop.run_until_complete(iterator.aclose())
