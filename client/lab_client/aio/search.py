"""The handle to a search, for asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab_client.aio.shell import AsyncShell
from lab_client.errors import LabError
from lab_client.protocol import search_operations as operations
from lab_client.protocol.calls import Operation
from lab_client.protocol.search_handle import SearchHandle, SearchStream, point_list
from lab_client.protocol.signatures import takes_rest
from lab_client.search_figure import plot_search, trials_frame
from lab_client.searches import SearchEntry, SearchInfo, SearchState, Trial
from lab_client.views.search_progress import SearchView, make_search_view

if TYPE_CHECKING:
    import pandas as pd


class AsyncSearch(SearchHandle):
    """A search of the server, with the methods of `Search`; `await search.best` asks for the best trial.

    Example:
        >>> from lab_client import AsyncClient, choice
        >>> async def tune() -> None:
        ...     async with AsyncClient() as client:
        ...         space = {"conv1_kernal": choice(3, 5), "dataset": "mnist_5k", "epochs": 1}
        ...         study = await client.search("mnist", space, maximize="accuracy")
        ...         await study.wait()
        ...         print(await study.best)
    """

    def __init__(self, shell: AsyncShell, info: SearchInfo) -> None:
        super().__init__(info)
        self._shell = shell

    async def refresh(self) -> SearchInfo:
        """Ask the server how the search is now, and return that."""
        return self._note(await self._shell.call(operations.get_search(self.id)))

    @property
    def state(self) -> Awaitable[SearchState]:
        """The state, to be awaited: asked from the server unless the search had ended already."""
        return self._state()

    @property
    def best(self) -> Awaitable[Trial | None]:
        """The best trial so far, to be awaited. See `Search.best`."""
        return self._best()

    async def _state(self) -> SearchState:
        return self._info.state if self._info.state.is_terminal else (await self.refresh()).state

    async def _best(self) -> Trial | None:
        return (self._info if self._info.state.is_terminal else await self.refresh()).best

    async def trials(self) -> tuple[Trial, ...]:
        """Return all trials so far, by number."""
        return tuple([trial async for trial in self._shell.items(operations.list_trials(self.id))])

    async def watch(
        self, *, after_seq: int = 0, follow: bool = True, timeout_s: float | None = None
    ) -> AsyncIterator[SearchEntry]:
        """Yield the search's log, up to its end. See `Search.watch`."""
        if after_seq or not follow:
            await self.refresh()
        stream = self._stream(after_seq, follow)
        if stream is None:
            return
        async for entry in self._shell.read(stream, timeout_s):
            yield entry
        with contextlib.suppress(LabError):  # all that was asked for has been read
            await self.refresh()

    async def wait(
        self, timeout_s: float | None = None, *, progress: bool = False, check: bool = False
    ) -> SearchInfo:
        """Wait for the search's end and return how it is then. See `Search.wait`."""
        if not (await self.refresh()).state.is_terminal:
            with make_search_view(progress, self._info) as view:
                await self.show_progress(view, timeout_s)
            await self.refresh()
        return self._ended(check)

    async def show_progress(self, view: SearchView, timeout_s: float | None = None) -> None:
        """Give a view all of the search's log, up to its end. See `Search.show_progress`."""
        stream = SearchStream(self.id, 0, on_waiting=view.waits)
        async for entry in self._shell.read(stream, timeout_s):
            view.update(entry)

    async def pause(self) -> AsyncSearch:
        """Propose nothing more until `resume`, and return the search; what trains goes on."""
        self._note(await self._shell.call(operations.set_paused(self.id, True)))
        return self

    async def resume(self) -> AsyncSearch:
        """Let a paused search go on, and return it."""
        self._note(await self._shell.call(operations.set_paused(self.id, False)))
        return self

    @takes_rest(operations.extend, "id")
    async def extend(self, operation: Operation[SearchInfo]) -> AsyncSearch:
        """Change the budget and return the search. See `Search.extend`."""
        self._note(await self._shell.call(operation))
        return self

    async def enqueue(
        self, points: Sequence[Mapping[str, object]] | Mapping[str, object]
    ) -> AsyncSearch:
        """Try these points before anything is proposed. See `Search.enqueue`."""
        self._note(await self._shell.call(operations.enqueue(self.id, point_list(points))))
        return self

    async def stop(self, *, with_trials: bool = True) -> AsyncSearch:
        """Ask the search to stop and return it. See `Search.stop`."""
        self._note(await self._shell.call(operations.stop_search(self.id, with_trials=with_trials)))
        return self

    async def delete(self) -> None:
        """Delete the search, which has to have ended; its runs stay."""
        await self._shell.call(operations.delete_search(self.id))

    async def importances(self) -> dict[str, float]:
        """Return by item how much it matters. See `Search.importances`."""
        return await self._shell.call(operations.importances(self.id))

    async def to_pandas(self) -> pd.DataFrame:
        """Return the trials as a frame. See `Search.to_pandas`."""
        return trials_frame(await self.trials())

    async def plot(self) -> Any:
        """Draw the history and the trials. See `Search.plot`."""
        return plot_search(self._info, await self.trials())
