"""What a server is made of, whether it leads or follows: store, hub, run control, machines, searches."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry, Histogram

from lab_server.app.leadership import Membership, SwitchedControl, peer_credentials
from lab_server.app.own_slots import OwnSlots
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.cluster import ClusterExecutor
from lab_server.executors.gpu_readings import Devices
from lab_server.executors.pools.pools import Pools, owner_of
from lab_server.executors.protocol import Executor
from lab_server.executors.remote.registry import Agents
from lab_server.files.home import Home
from lab_server.files.secret import server_secret
from lab_server.model.slot import Slot
from lab_server.rpc.elsewhere import Elsewhere
from lab_server.rpc.other_servers import OtherServers
from lab_server.search.searches import Searches
from lab_server.security.agents import AgentCredentials
from lab_server.security.host_tokens import HostTokens
from lab_server.settings.settings import Settings
from lab_server.store import SqlStore
from lab_server.supervisor.following import Following
from lab_server.supervisor.protocol import RunControl
from lab_server.watch.announcing import AnnouncingHub


@dataclass(frozen=True, slots=True)
class Machines:
    """Where runs train: here, on agents, and on agents in pools.

    Attributes:
        credentials: of the agents.
        executor: starts runs on any of them.
        own_slots: the agent of the server's own slots, where one has them.
    """

    credentials: AgentCredentials
    agents: Agents
    pools: Pools
    executor: ClusterExecutor
    own_slots: OwnSlots


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services of a server work with.

    Attributes:
        secret: that all servers of the store have.
        control: of runs; `following` until this server leads.
        peer_tokens: of the calls between servers.
        elsewhere: the files of runs that other servers have.
        devices: the GPUs of this machine.
    """

    home: Home
    membership: Membership
    store: SqlStore
    secret: bytes
    hub: AnnouncingHub
    following: Following
    control: SwitchedControl
    machines: Machines
    catalogue: Catalogue
    devices: Devices
    peer_tokens: HostTokens
    elsewhere: Elsewhere
    searches: Searches

    @property
    def supervisor(self) -> RunControl:
        """The control, as what it stands for."""
        return cast(RunControl, self.control)


async def open_parts(
    settings: Settings,
    address: str,
    here: Executor,
    own: Sequence[Slot],
    registry: CollectorRegistry,
    stack: contextlib.AsyncExitStack,
) -> Parts:
    """Open the store and make what works with it.

    Args:
        settings: of the server.
        address: where agents and other servers reach it.
        here: starts trainers on this machine.
        own: its own slots, where an agent on this machine is to have them.
        registry: of the metrics for Prometheus.
        stack: closes all that is opened.

    Raises:
        SettingsError: If a certificate, or the folder of the own slots, cannot be used.
        StoreError: If the store cannot be opened.
    """
    home = Home(settings.home)
    membership = Membership(settings, home, address)
    store = membership.store
    stack.push_async_callback(store.close)
    secret = server_secret(settings.home)
    if settings.store:
        secret = await store.secret("server", secret)
    writes = Histogram(
        "lab_store_write_seconds", "Duration of the store's transactions.", registry=registry
    )
    store.observe_writes(writes.observe)
    hub = AnnouncingHub(store, registry, heartbeat_s=settings.heartbeat_s)
    following = Following(store, hub, queue_limit=settings.queue_limit)
    control = SwitchedControl(following)
    clock = await store.clock()
    host_tokens = HostTokens(secret, now_s=clock)
    credentials = AgentCredentials(store.agents, settings.tokens, host_tokens)
    machines = _make_machines(settings, credentials, owner_of(secret), address, here, own, stack)
    catalogue = Catalogue(machines.executor)
    peer_tokens = HostTokens(secret, "calls between servers", clock)
    others = OtherServers(store.members, peer_tokens, peer_credentials(settings))
    searches = Searches(
        store=store.searches,
        runs=cast(RunControl, control),
        run_store=store,
        catalogue=catalogue,
        hub=hub,
        max_runs=settings.max_runs,
        heartbeat_s=settings.heartbeat_s,
    )
    return Parts(
        home=home,
        membership=membership,
        store=store,
        secret=secret,
        hub=hub,
        following=following,
        control=control,
        machines=machines,
        catalogue=catalogue,
        devices=Devices(),
        peer_tokens=peer_tokens,
        elsewhere=Elsewhere(settings.home, others),
        searches=searches,
    )


def _make_machines(
    settings: Settings,
    credentials: AgentCredentials,
    owner: str,
    address: str,
    here: Executor,
    own: Sequence[Slot],
    stack: contextlib.AsyncExitStack,
) -> Machines:
    agents = Agents(settings.agent_lease_s, home=Home(settings.home).server_id())
    stack.callback(agents.close)
    pools = Pools(
        settings.pools,
        agents,
        server=address,
        owner=owner,
        join_token=credentials.new_join_token,
        takes_uploads=settings.allow_uploads,
    )
    stack.push_async_callback(pools.close)
    executor = ClusterExecutor(here, agents, pools, own, takes_uploads=settings.allow_uploads)
    own_slots = OwnSlots(settings, own, credentials.new_host_token)
    return Machines(credentials, agents, pools, executor, own_slots)
