"""One thread that writes, many commits to a transaction.

Many SQLite writers meet endless lock errors, and each commit waits for the disk; so one thread takes
all that waits and commits it at once. It alone owns the writing connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

_MAX_GROUP: Final = 256
_SETTLE_PAUSE_S: Final = 0.2


class Transactions(Protocol):
    """What a database wants around the pieces of a transaction."""

    def begin(self, connection: Connection) -> None:
        """Begin a transaction."""

    def commit(self, connection: Connection) -> None:
        """Commit it."""

    def finish(self, connection: Connection, results: Sequence[Any]) -> list[Any]:
        """Do what comes last in a transaction; return the pieces' results as they are handed out."""

    def is_outage(self, error: BaseException) -> bool:
        """Return whether the database is out of reach, so that no other piece would fare better."""

    def was_committed(self) -> bool:
        """Return whether the last finished transaction took place; its commit got no answer.

        Raises:
            DBAPIError: If the database cannot say yet.
        """


class Completion(asyncio.Future[T]):
    """What a task waits for to its end, also when it is cancelled meanwhile: it then ends with that."""

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002
        """Do nothing; the task is told of its cancellation when it goes on."""
        return False


class GroupWriter:
    """Runs pieces of work, in the order they came, in transactions that they share.

    A piece that raises fails alone: its group is rolled back and each piece gets a transaction of its
    own. So a piece may run twice and must not change anything but the database.

    A commit whose answer is lost is neither done nor undone: its group waits until the database says
    which, and what comes meanwhile fails at once.

    Attributes:
        observer: told the seconds of each transaction that was committed.
    """

    def __init__(self, engine: Engine, transactions: Transactions) -> None:
        self._engine = engine
        self._transactions = transactions
        self.observer: Callable[[float], None] = lambda _: None
        self._queue: queue.SimpleQueue[_Piece[Any] | None] = queue.SimpleQueue()
        self._connection: Connection | None = None  # kept: its thread alone writes
        self._is_closed = False
        # guards _is_closed against a submit at the same time, which would wait for ever
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[Connection], T],
        future: asyncio.Future[T],
        then: Callable[[T], object] = lambda _: None,
    ) -> None:
        """Queue the work; a caller may be cancelled meanwhile, and it is done all the same.

        Args:
            work: what to do.
            future: gets the result, in its event loop, when the transaction is on the disk.
            then: called with the result before that, in that event loop, too.
        """
        piece = _Piece(work, future, then, contextvars.copy_context())
        with self._lock:
            if self._is_closed:
                msg = "the store is closed"
                raise RuntimeError(msg)
            self._queue.put(piece)

    def close(self) -> None:
        """Write what waits and end the thread; closing twice is fine."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            group, is_last = self._next_group()
            if group and not self._write(group) and len(group) > 1:
                for piece in group:
                    self._write([piece])
            if is_last:
                self._disconnect()
                return

    def _next_group(self) -> tuple[list[_Piece[Any]], bool]:
        group: list[_Piece[Any]] = []
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

    def _write(self, group: Sequence[_Piece[Any]]) -> bool:
        """Write a group; False when it failed and its pieces should be tried one by one."""
        is_committing = False
        begin = time.perf_counter()
        try:
            connection = self._connection = self._connection or self._engine.connect()
            self._transactions.begin(connection)
            results = [piece.work(connection) for piece in group]
            results = self._transactions.finish(connection, results)
            is_committing = True
            self._transactions.commit(connection)
        except BaseException as error:
            self._disconnect()  # which rolls back
            if not (is_committing and self._was_committed(error)):
                if len(group) > 1 and not self._transactions.is_outage(error):
                    return False
                _hand_over((piece, None, error) for piece in group)
                return True
        self.observer(time.perf_counter() - begin)
        _hand_over((piece, result, None) for piece, result in zip(group, results, strict=True))
        return True

    def _disconnect(self) -> None:
        """Give the connection back to the engine, which knows whether it is of use any more."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _was_committed(self, error: BaseException) -> bool:
        """Return whether a transaction took place although its commit failed."""
        if not (isinstance(error, DBAPIError) and error.connection_invalidated):
            return False
        while True:
            try:
                return self._transactions.was_committed()
            except DBAPIError as outage:
                if self._refuse_what_waits(outage):
                    return False  # the end: nobody asks any more
                time.sleep(_SETTLE_PAUSE_S)

    def _refuse_what_waits(self, error: DBAPIError) -> bool:
        """Fail the pieces that wait; True when the store was closed."""
        while True:
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                return False
            if piece is None:
                self._queue.put(None)
                return True
            _hand_over([(piece, None, error)])


@dataclass(frozen=True, slots=True)
class _Piece(Generic[T]):
    work: Callable[[Connection], T]
    future: asyncio.Future[T]
    then: Callable[[T], object]
    context: contextvars.Context

    def end(self, result: T, error: BaseException | None) -> None:
        """Tell of the end, in the event loop."""
        if error is None:
            try:
                self.context.run(self.then, result)
            except Exception as raised:
                error = raised
        if self.future.cancelled():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


_Ended = tuple[_Piece[Any], Any, BaseException | None]


def _hand_over(ended: Iterable[_Ended]) -> None:
    """Wake the event loop, once for all that was written together."""
    for loop, of_loop in groupby(ended, key=lambda each: each[0].future.get_loop()):
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(_end_all, list(of_loop))


def _end_all(ended: Sequence[_Ended]) -> None:
    for piece, result, error in ended:
        piece.end(result, error)
