"""What one server of a store does for all: it trains, searches, and keeps the store in order."""

from __future__ import annotations

from lab_server.app.background import (
    Tasks,
    keep_telling_servers,
    keep_up,
    prune_uploads,
    retain,
)
from lab_server.app.leadership import started
from lab_server.app.parts import Parts
from lab_server.model.media import MediaLimits
from lab_server.settings.settings import Settings
from lab_server.supervisor import Supervisor, SupervisorOptions
from lab_server.supervisor.retention import Retention
from lab_server.watch.history_writer import HistoryWriter


async def lead(parts: Parts, settings: Settings, tasks: Tasks) -> None:
    """Begin to train, and with all else that the leader does.

    What failed for want of the store may be tried again: each part begins once.

    Raises:
        StoreError: If the store cannot be read.
    """
    store, machines = parts.store, parts.machines
    parts.hub.is_announcing = True
    await machines.credentials.refresh()
    machines.agents.expect(machines.credentials.pools())
    leading = parts.control.current
    if not isinstance(leading, Supervisor):
        options = _supervisor_options(settings)
        leading = parts.control.current = await started(
            Supervisor(store, parts.hub, machines.executor, settings.home, options, parts.elsewhere)
        )
    await parts.searches.start_up()
    history_writer = HistoryWriter(store)
    parts.hub.observe(history_writer.note)
    retention = Retention(settings.retention_days, settings.retention_count)
    tasks.start(
        keep_up(retain, retention, store, leading, parts.searches.needs),
        keep_up(prune_uploads, parts.home.uploads),
        keep_up(history_writer.run),
        keep_up(machines.pools.run, leading.waiting, leading.slots),
        keep_up(machines.credentials.keep_fresh),
        keep_up(keep_telling_servers, store, machines.agents),
    )


def _supervisor_options(settings: Settings) -> SupervisorOptions:
    return SupervisorOptions(
        queue_limit=settings.queue_limit,
        max_retries=settings.max_retries,
        max_runtime_s=settings.max_runtime_s,
        grace_s=settings.grace_s,
        stall_timeout_s=settings.stall_timeout_s,
        usage_interval_s=settings.usage_interval_s,
        media=MediaLimits(settings.media_items, int(settings.media_mb * 1e6)),
    )
