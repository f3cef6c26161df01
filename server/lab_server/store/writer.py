"""One thread that writes, many commits to a transaction.

Many SQLite writers meet endless lock errors, and each commit waits for the disk; so one thread takes
all that waits and commits it at once. It alone owns the writing connection.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")

_MAX_GROUP = 256


class GroupWriter:
    """Runs pieces of work, in the order they came, in transactions that they share.

    A piece that raises fails alone: its group is rolled back and each piece gets a transaction of its
    own. So a piece may run twice and must not change anything but the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._is_closed = False
        # guards _is_closed against a submit at the same time, which would wait for ever
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> Future[T]:
        """Queue the work; the future is done when its transaction is on the disk."""
        future: Future[T] = Future()
        # a caller may be cancelled meanwhile; its work is done all the same
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._is_closed:
                msg = "the store is closed"
                raise RuntimeError(msg)
            self._queue.put((work, future))
        return future

    def close(self) -> None:
        """Write what waits and end the thread; closing twice is fine."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with self._engine.connect() as connection:
            while True:
                group, is_last = self._next_group()
                if group and not self._write(connection, group) and len(group) > 1:
                    for piece in group:
                        self._write(connection, [piece])
                if is_last:
                    return

    def _next_group(self) -> tuple[list[_Piece], bool]:
        group: list[_Piece] = []
        piece = self._queue.get()
        while piece is not None:
            group.append(piece)
            if len(group) >= _MAX_GROUP:
                return group, False
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    @staticmethod
    def _write(connection: Connection, group: Sequence[_Piece]) -> bool:
        """Write a group; False when it failed and its pieces should be tried one by one."""
        try:
            with connection.begin():
                results = [work(connection) for work, _ in group]
        except BaseException as error:
            if len(group) > 1:
                return False
            group[0][1].set_exception(error)
            return True
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)
        return True


_Piece = tuple[Callable[[Connection], Any], Future[Any]]
