"""How long a run has trained since it was last started: in all its attempts, without the time between them."""

from __future__ import annotations

from collections.abc import Iterable

from lab_server.messages import events
from lab_server.model.run import RunState
from lab_server.store.protocol import Store

_READ_BYTES = 1 << 20
_STATES = frozenset({"state"})


async def seconds_trained(store: Store, run_id: str, now_ns: int) -> float:
    """Return how long a run has had a slot since its last StartRun, in seconds.

    Its log tells, wherever its trainer is, and whichever server is asked.

    Raises:
        StoreError: If the log cannot be read.
    """
    states: list[tuple[RunState, int]] = []
    seq = 0
    while found := await store.events(run_id, seq, _READ_BYTES, _STATES):
        seq = found[-1].seq
        for event in found:
            state = events.decode_state(event.payload).state
            states.append((state, events.decode(event.payload).time_unix_ns))
    return trained_ns(states, now_ns) / 1e9


def trained_ns(states: Iterable[tuple[RunState, int]], now_ns: int) -> int:
    """Return how long a run has had a slot, given the states that it went through and when."""
    total_ns, began_ns = 0, 0
    for state, time_ns in states:
        if state is RunState.STARTING:
            began_ns = time_ns
        elif state is RunState.QUEUED and began_ns:  # to be tried again
            total_ns, began_ns = total_ns + time_ns - began_ns, 0
        elif state.is_terminal:
            total_ns, began_ns = 0, 0
    return total_ns + (now_ns - began_ns if began_ns else 0)
