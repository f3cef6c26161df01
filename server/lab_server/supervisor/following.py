"""The run control of a server that follows: it shows what the leader has written, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import structlog

from lab_server.errors import StoreError, Unavailable
from lab_server.logs import RUNS, Seldom
from lab_server.model.run import Run, RunState
from lab_server.model.slot import Slot, device_of, pool_of
from lab_server.store import SqlStore
from lab_server.store.prefixes import full_id
from lab_server.supervisor.forecast import Forecast, forecasts
from lab_server.watch.hub import Hub

_log = structlog.get_logger(RUNS)

_READ_BYTES = 1 << 20
_POLL_S = 1.0


class Following:
    """Reads along in a store that another server, the leader, writes to.

    Publishes the leader's events on this server's hub, in their order, so that streams here show them.
    """

    def __init__(self, store: SqlStore, hub: Hub, *, queue_limit: int) -> None:
        self._store = store
        self._hub = hub
        self.queue_limit = queue_limit
        self._unfinished: tuple[Run, ...] = ()
        self._position = -1

    async def follow(self) -> None:
        """Publish what the leader writes, until this server leads."""
        outages = Seldom()
        while self._store.leader:
            try:
                await self.read_on()
                await self._store.wait_for_events(_POLL_S)
            except StoreError as error:
                if outages.is_due():
                    _log.warning("cannot read the leader's events; trying again", error=str(error))
                await asyncio.sleep(_POLL_S)

    async def read_on(self) -> None:
        """Publish all that is in the store and was not published yet."""
        if self._position < 0:
            self._position = await self._store.last_position()
        while events := await self._store.events_across(self._position, _READ_BYTES):
            self._hub.publish(events)
            self._position = events[-1].position
        self._unfinished = await self._store.unfinished()

    @property
    def leader(self) -> str:
        """See RunControl."""
        return self._store.leader

    def queue_length(self) -> int:
        """See RunControl."""
        return len(self._queued())

    def queue_position(self, run_id: str) -> int:
        """See RunControl."""
        queued = self._queued()
        return queued.index(run_id) + 1 if run_id in queued else 0

    @property
    def devices(self) -> Sequence[str]:
        """See RunControl; the leader knows them."""
        return ()

    def slots(self) -> Sequence[tuple[Slot, str]]:
        """See RunControl; the slots are the leader's."""
        return ()

    def live(self) -> Sequence[Run]:
        """See RunControl; the leader shows the runs that train."""
        return ()

    def forecasts(self) -> Mapping[str, Forecast]:
        """See RunControl; of the slots those are known that runs have, and what waits, waits for these."""
        taken = [
            (Slot(run.slot, device_of(run.slot), pool_of(run.slot)), run.id)
            for run in self._unfinished
            if run.slot
        ]
        return forecasts(self._unfinished, taken)

    def lag_s(self, run_id: str) -> float:  # noqa: ARG002
        """See RunControl."""
        return 0.0

    async def get(self, run_id: str) -> Run:
        """See RunControl."""
        return await self._store.get(await full_id(self._store, "run", run_id))

    async def shut_down(self, *, stop_trainers: bool) -> None:
        """End; the trainers are the leader's."""

    def __getattr__(self, name: str) -> Any:
        """Refuse what changes runs: create, start, stop, update, delete, and what may be added."""
        if name.startswith("_"):
            raise AttributeError(name)

        async def refuse(*_: object, **__: object) -> NoReturn:
            raise Unavailable(
                f"this server only reads; runs are changed on {self._store.leader or 'no server now'}"
            )

        return refuse

    def _queued(self) -> list[str]:
        return [run.id for run in self._unfinished if run.state is RunState.QUEUED]
