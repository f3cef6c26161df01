"""How a trainer's threads wait for each other, several times a step.

OpenMP's threads either spin, which costs a core and wakes at once, or sleep, which costs a wake-up by the
kernel each time: a quarter of the speed of a small model. Endless spinning collapses (to 2 to 5 of 80 steps/s)
as soon as anything else wants a core, and the server and its watchers do. A bounded spin, then sleep, keeps the
speed beside them. Beside programs that keep all cores busy it still costs more than sleeping does: 4 to 6 steps/s
against 28 to 36, with eight busy processes on two cores.
libgomp reads its settings once, when torch is imported, so they are those of the forkserver, and the same
for all its trainers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from lab_server.model.slot import num_threads_each

Policy = Literal["auto", "spin", "sleep"]

# Turns of libgomp's waiting loop, one to a few milliseconds: longer than the others need for their
# part of an operation. Of 84 steps/s of the bare loop, 10,000 to 30,000 turns keep 72, these 80.
_SPIN_COUNT = 100_000


def resolve(policy: Policy, num_slots: int) -> tuple[Literal["spin", "sleep"], str]:
    """Return what the policy comes to, and why.

    `auto` is spin where the threads of all slots have a core each, else sleep.
    """
    num_cores = len(os.sched_getaffinity(0))
    num_threads = num_slots * num_threads_each(num_slots)
    fits = f"{num_threads} trainer threads on {num_cores} cores"
    if policy != "auto":
        return policy, fits
    return ("spin" if num_threads <= num_cores else "sleep"), fits


def environment(policy: Policy, num_slots: int) -> Mapping[str, str]:
    """Return the variables of the forkserver that make its trainers' threads wait so.

    None where OMP_WAIT_POLICY is set: whoever starts the server has decided.
    """
    if "OMP_WAIT_POLICY" in os.environ:
        return {}
    if resolve(policy, num_slots)[0] == "sleep":
        return {"OMP_WAIT_POLICY": "PASSIVE"}
    return {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": str(_SPIN_COUNT)}
