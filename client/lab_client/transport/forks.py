"""Lets a process fork, or end, while it talks to a server: no thread may be inside of gRPC at that moment.

gRPC prepares itself for a fork, but not while another thread is in a call ("Other threads are currently calling into
gRPC, skipping fork() handlers"), and then the child may crash. So before a fork, streams are interrupted, to be
opened again where they were, and short calls are waited for.

At the end of a process Python lets no thread go on but the main one, which waits for ever for a lock that another one
holds: of a stream that a program has left open, for example.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Protocol

_WAIT_S = 2.0  # for all calls to end; a fork is never held up longer
_POLLING_S = 0.1  # short: a thread of the program itself may have such a name
_POLL_S = 0.001


class Interruptible(Protocol):
    """An open stream."""

    def interrupt(self) -> None:
        """Have its thread leave gRPC soon."""


# guards the two below, and is notified when a call ends
_changed = threading.Condition()
_num_calls = 0
_streams: weakref.WeakSet[Interruptible] = weakref.WeakSet()
_may_call = threading.Event()
_may_call.set()


@contextlib.contextmanager
def call(stream: Interruptible | None = None) -> Iterator[None]:
    """Make a call inside of this context; a fork waits for its end, having interrupted a stream."""
    global _num_calls
    _may_call.wait(_WAIT_S)
    with _changed:
        _num_calls += 1
        if stream is not None:
            _streams.add(stream)
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            with _changed:
                _num_calls -= 1
                if stream is not None:
                    _streams.discard(stream)
                _changed.notify_all()


def _leave() -> None:
    """Interrupt streams, and return when no call is left."""
    deadline = time.monotonic() + _WAIT_S
    with _changed:
        streams = list(_streams)
    for stream in streams:
        stream.interrupt()
    with _changed:
        _changed.wait_for(lambda: _num_calls == 0, max(0.0, deadline - time.monotonic()))


def _before() -> None:
    _may_call.clear()
    _leave()
    # gRPC's own thread of a channel ends right after the channel's last stream
    deadline = time.monotonic() + _POLLING_S
    while _is_polling() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _after_in_parent() -> None:
    _may_call.set()


def _after_in_child() -> None:
    global _changed, _num_calls
    # the locks may have been held by threads that the child does not have
    _changed, _num_calls = threading.Condition(), 0
    _streams.clear()
    _may_call.set()


def _is_polling() -> bool:
    return any(
        thread.name.endswith(("(_run)", "(managed_target)")) for thread in threading.enumerate()
    )


atexit.register(_leave)
os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
