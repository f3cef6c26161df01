"""Ctrl-C at the worst moment: calls are cancelled, and closing has a bound."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from lab_client import _interrupts
from lab_client._interrupts import close_within_bound, open_uninterrupted


class Call:
    def __init__(self) -> None:
        self.is_cancelled = threading.Event()

    def cancel(self) -> None:
        self.is_cancelled.set()


def test_an_interrupt_while_a_call_is_opened_cancels_it_once_it_is_open() -> None:
    call, may_open = Call(), threading.Event()

    def open_call() -> Call:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        may_open.wait()
        return call

    with pytest.raises(KeyboardInterrupt):
        open_uninterrupted(open_call)
    assert not call.is_cancelled.is_set()
    may_open.set()
    assert call.is_cancelled.wait(30)


def test_errors_of_opening_reach_the_caller() -> None:
    def fail() -> None:
        raise ValueError("closed")

    with pytest.raises(ValueError, match="closed"):
        open_uninterrupted(fail)


def test_other_threads_are_never_interrupted_and_open_by_themselves() -> None:
    opened: list[Any] = []
    thread = threading.Thread(
        target=lambda: opened.append(open_uninterrupted(threading.current_thread))
    )
    thread.start()
    thread.join()
    assert opened == [thread]


def test_closing_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        def __init__(self) -> None:
            self.may_close = threading.Event()

        def close(self) -> None:
            self.may_close.wait()

    monkeypatch.setattr(_interrupts, "_CLOSE_S", 0.01)
    channel = Stuck()
    close_within_bound(channel)  # type: ignore[arg-type]
    channel.may_close.set()
