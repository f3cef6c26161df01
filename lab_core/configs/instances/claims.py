"""Which thread computes which item: it claims the item, and others wait until it releases the claim.

One lock guards the claims of all instances. It is held for a few lookups, never while a user's function
runs, so a function may read other items in threads of its own and wait for them. Waiting for an item has
no time limit, as the user's function may take any time; a cycle of threads that wait for each other is
an error, and a long wait is logged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

from lab_core.errors import ConfigError, Violation

LONG_WAIT_S = 60.0


class Claim:
    """The items that one thread computes with one call."""

    __slots__ = ("done", "generation", "keys", "thread")

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = keys
        self.thread = threading.get_ident()
        self.generation = _generation
        self.done: threading.Event | None = None  # created by the first thread that waits

    def is_live(self) -> bool:
        """Return whether its thread runs in this process: threads do not survive a fork."""
        return self.generation == _generation or self.thread == threading.get_ident()

    @property
    def thread_name(self) -> str:
        """The name of its thread, which may have ended."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        return names.get(self.thread, str(self.thread))


_lock = threading.RLock()  # guards `_waiting` and all claims; a signal handler may read an item too
_waiting: dict[int, tuple[str, Claim]] = {}  # by thread: the item it waits for, and the claim on it
_generation = 0  # goes up in each forked child


class Claims:
    """The items of one config instance that are being computed."""

    def __init__(self) -> None:
        self._by_key: dict[str, Claim] = {}  # the innermost of a thread last

    def take(self, keys: Sequence[str], is_computed: Callable[[], bool]) -> Claim | None:
        """Claim items for this thread, once no other thread computes one of them.

        Args:
            keys: the item to compute, then the others that the same call computes.
            is_computed: returns whether the item has its value.

        Returns:
            The claim, or None if another thread has computed the item in the meantime.

        Raises:
            ConfigError: If the item depends on itself.
        """
        while True:
            with _lock:
                if is_computed():
                    return None
                held = next((c for c in map(self._by_key.get, keys) if c and c.is_live()), None)
                if held is None:
                    claim = Claim(keys)
                    self._by_key.update(dict.fromkeys(keys, claim))
                    return claim
                self._refuse_circle(keys[0], held)
                _waiting[threading.get_ident()] = (keys[0], held)
                done = held.done = held.done or threading.Event()
            try:
                _wait(done, keys[0], held)
            finally:
                with _lock:
                    del _waiting[threading.get_ident()]

    def release(self, claim: Claim) -> None:
        """Release the claim and wake the threads that wait for it."""
        with _lock:
            for key in claim.keys:
                del self._by_key[key]
            if claim.done is not None:
                claim.done.set()

    def _refuse_circle(self, key: str, held: Claim) -> None:
        own = threading.get_ident()
        path = []
        while held.thread != own:
            if held.thread not in _waiting:
                return
            wanted, held = _waiting[held.thread]
            path.append(wanted)
        if not path:
            pending = [k for k, claim in self._by_key.items() if claim.thread == own]
            path = pending[pending.index(key) + 1 :]
        chain = " -> ".join([key, *path, key])
        raise ConfigError([Violation(key, f"{key!r} depends on itself: {chain}")])


def _wait(done: threading.Event, key: str, held: Claim) -> None:
    if done.wait(LONG_WAIT_S):
        return
    import logging  # takes as long to import as a tenth of this package, and is seldom needed

    logging.getLogger(__name__).warning(
        "%r has been computed in thread %r for more than %g s, and thread %r waits for it; "
        "if the computation itself waits for this thread, this is a deadlock",
        key,
        held.thread_name,
        LONG_WAIT_S,
        threading.current_thread().name,
    )
    done.wait()


def _forget_other_threads() -> None:
    global _lock, _generation
    _lock = threading.RLock()
    _generation += 1
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)
