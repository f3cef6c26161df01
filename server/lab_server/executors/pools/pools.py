"""All pools of a server, and the task that keeps them at the size that the queue needs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import structlog

from lab_server.executors.pools.engine import Engine
from lab_server.executors.pools.pool import Pool
from lab_server.executors.pools.ray import RayEngine
from lab_server.executors.pools.slurm import SlurmEngine
from lab_server.executors.remote.registry import Agents
from lab_server.model.slot import Slot, Wants, device_of, parse_slots
from lab_server.settings.pools import PoolSettings

_log = structlog.get_logger("lab_server.pools")

_INTERVAL_S = 1.0


class Pools:
    """The pools that an engine fills; those of people's own agents need nothing.

    Args:
        settings: of all pools.
        server: where agents reach the server, unless a pool says otherwise.
        owner: what tells the jobs of this store's servers from those of others on the same cluster.
        join_token: makes a one-time token for an agent of a pool.
        takes_uploads: whether the server takes code from clients; else no agent need run such.
    """

    def __init__(
        self,
        settings: Sequence[PoolSettings],
        agents: Agents,
        *,
        server: str,
        owner: str,
        join_token: Callable[[str], Awaitable[str]],
        takes_uploads: bool = False,
    ) -> None:
        self._all = tuple(
            each if takes_uploads else each.model_copy(update={"allow_uploads": False})
            for each in settings
        )
        self._pools = {
            each.name: Pool(
                each,
                engine,
                agents,
                server=each.server or server,
                owner=owner,
                join_token=partial(join_token, each.name),
            )
            for each in self._all
            if (engine := _engine_of(each)) is not None
        }

    def __iter__(self) -> Iterator[PoolSettings]:
        """Yield the settings of every pool."""
        return iter(self._all)

    def news(self, wants: Wants) -> str:
        """Return what the pools that could serve a run have to say, as a clause; "" for nothing."""
        return "; ".join(
            pool.news
            for pool in self._pools.values()
            if _serves(pool.settings, wants) and pool.news
        )

    def may_have(self, wants: Wants) -> bool:
        """Whether a pool's agents, when they come, have a slot for a run."""
        return any(_serves(pool, wants) for pool in self._all if pool.max > 0)

    async def run(
        self,
        waiting: Callable[[], Sequence[Wants]],
        slots: Callable[[], Sequence[tuple[Slot, str]]],
    ) -> None:
        """Adjust the pools for as long as the server leads.

        Args:
            waiting: returns what each waiting run needs.
            slots: returns each slot with the run that has it.
        """
        while self._pools:
            await asyncio.sleep(_INTERVAL_S)
            await self.adjust(list(waiting()), slots())

    async def adjust(self, runs: Sequence[Wants], slots: Sequence[tuple[Slot, str]]) -> None:
        """Adjust each pool once; what one has no room for, the next one that can serve it gets."""
        for name, pool in self._pools.items():
            mine: Sequence[Wants] = [wants for wants in runs if _serves(pool.settings, wants)]
            others = [wants for wants in runs if wants not in mine]
            busy = [slot.name for slot, run_id in slots if run_id and slot.pool == name]
            try:
                mine = await pool.adjust(mine, busy)
            except Exception:
                _log.exception("cannot adjust a pool", pool=name)
            runs = [*others, *mine]

    async def close(self) -> None:
        """Close the engines' connections; agents go on."""
        for pool in self._pools.values():
            await pool.close()


def owner_of(secret: bytes) -> str:
    """Return what the jobs of a store's servers have in their names; each store has another secret."""
    return hashlib.sha256(b"jobs of pools " + secret).hexdigest()[:6]


def _engine_of(settings: PoolSettings) -> Engine | None:
    match settings.engine:
        case "ray":
            return RayEngine(settings)
        case "slurm":
            return SlurmEngine(settings)
        case "static":
            return None


def _serves(settings: PoolSettings, wants: Wants) -> bool:
    """Whether an agent of the pool has a slot that fits a run."""
    return any(
        wants.fit(
            Slot(
                slot.name, device_of(slot.name), settings.name, takes_uploads=settings.allow_uploads
            )
        )
        for slot in parse_slots(settings.slots)
    )
