"""Reading a stream in a thread of its own: interrupts, silence, and how far it reads ahead."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lab_client import Client
from lab_client.sync import shell
from lab_client.sync.pump import _AHEAD, IdleTimeout, Pump


class Call:
    """A stream call of gRPC, as far as the pump knows it."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self._answers = answers
        self.num_read = 0
        self.is_cancelled = threading.Event()

    def __iter__(self) -> Iterator[Any]:
        for answer in self._answers:
            self.num_read += 1
            yield answer

    def cancel(self) -> None:
        self.is_cancelled.set()


def interrupt() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python drops an interrupt that lands in a finalizer, of what other tests left, say."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_answers_come_in_order_and_the_call_ends_with_the_reader() -> None:
    call = Call(iter(range(100)))
    with Pump(lambda: call, 30) as pump:
        assert list(pump.responses()) == list(range(100))
    assert call.is_cancelled.is_set()


def test_no_more_is_read_ahead_than_there_is_room_for() -> None:
    call = Call(iter(range(100)))
    with Pump(lambda: call, 30) as pump:
        answers = pump.responses()
        assert [next(answers) for _ in range(10)] == list(range(10))
        assert call.num_read <= 10 + _AHEAD


@pytest.mark.slow
@pytest.mark.usefixtures("no_collection")
def test_an_interrupt_in_a_wait_cancels_the_call() -> None:
    never = threading.Event()

    def answers() -> Iterator[int]:
        yield 1
        interrupt()
        never.wait()

    call = Call(answers())
    with pytest.raises(KeyboardInterrupt), Pump(lambda: call, 30) as pump:
        list(pump.responses())
    assert call.is_cancelled.is_set()
    never.set()


@pytest.mark.slow
@pytest.mark.usefixtures("no_collection")
def test_an_interrupt_while_the_call_is_opened_cancels_it_once_it_is_open() -> None:
    call, may_open = Call(iter([])), threading.Event()

    def open_call() -> Call:
        interrupt()
        may_open.wait()
        return call

    with pytest.raises(KeyboardInterrupt), Pump(open_call, 30) as pump:
        list(pump.responses())
    assert not call.is_cancelled.is_set()
    may_open.set()
    assert call.is_cancelled.wait(30)


def test_silence_is_told_and_cancels_the_call() -> None:
    never = threading.Event()

    def answers() -> Iterator[int]:
        never.wait()
        yield 1

    call = Call(answers())
    with pytest.raises(IdleTimeout), Pump(lambda: call, 0.01) as pump:
        list(pump.responses())
    assert call.is_cancelled.is_set()
    never.set()


def test_what_ends_the_call_reaches_the_reader_after_the_answers_before_it() -> None:
    def answers() -> Iterator[int]:
        yield 1
        raise OSError("cut")

    with Pump(lambda: Call(answers()), 30) as pump:
        found = pump.responses()
        assert next(found) == 1
        with pytest.raises(OSError, match="cut"):
            next(found)


def test_closing_a_client_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        def __init__(self) -> None:
            self.may_close = threading.Event()

        def close(self) -> None:
            self.may_close.wait()

    monkeypatch.setattr(shell, "_CLOSE_S", 0.01)
    channel = Stuck()
    client = Client("localhost:1")
    client._shell._channels["localhost:1"] = channel  # type: ignore[assignment]
    client.close()
    channel.may_close.set()
