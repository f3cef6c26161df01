"""How many agents a pool should have, and which may go: a function of what is."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from lab_server.settings.pools import PoolSettings


@dataclass(frozen=True, slots=True)
class Standing:
    """A pool as it is now.

    Attributes:
        agents: those that are there, or whose job waits or runs.
        idle: those among them that had no run for the pool's idle_s, the longest first.
        num_busy_slots: slots with a run.
        num_waiting: runs that wait for this pool.
    """

    agents: Collection[str]
    idle: tuple[str, ...] = ()
    num_busy_slots: int = 0
    num_waiting: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """How many agents to start, and which to let go."""

    num_new: int = 0
    leaving: tuple[str, ...] = ()


def changes(settings: PoolSettings, standing: Standing) -> Changes:
    """Return what brings a pool to the size that its runs need, within min and max."""
    num_slots = standing.num_busy_slots + standing.num_waiting
    needed = math.ceil(num_slots / settings.num_slots)
    wanted = min(max(needed, settings.min), settings.max)
    num_agents = len(standing.agents)
    if num_agents < wanted:
        return Changes(num_new=wanted - num_agents)
    return Changes(leaving=standing.idle[: num_agents - wanted])
