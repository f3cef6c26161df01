"""Items that several threads read: each is computed once, and no computation waits for itself."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab_core.configs import BaseConfigs, ConfigError

WAIT_S = 10


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what the function returns in another thread; a hang is a failure, not a hang."""
    found: list[Any] = []

    def call() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert found, "the thread still waits"
    return found[0]


def test_a_function_may_read_an_unread_item_in_a_thread_pool_and_wait_for_it() -> None:
    class Configs(BaseConfigs):
        width: int = 3
        squares: int
        total: int

    @Configs.calc(Configs.squares)
    def squares(c: Configs) -> int:
        return c.width**2

    @Configs.calc(Configs.total)
    def total(c: Configs) -> int:
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(lambda _: c.squares, range(4)))

    conf = Configs()
    assert in_thread(lambda: conf.total) == 36


def test_two_threads_compute_different_items_side_by_side() -> None:
    both = threading.Barrier(2)

    class Configs(BaseConfigs):
        first: int
        second: int

    @Configs.calc(Configs.first)
    def first() -> int:
        both.wait(WAIT_S)
        return 1

    @Configs.calc(Configs.second)
    def second() -> int:
        both.wait(WAIT_S)
        return 2

    conf = Configs()
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda name: getattr(conf, name), ["first", "second"])) == [1, 2]


def test_a_circle_across_threads_names_its_items() -> None:
    begun = {"first": threading.Event(), "second": threading.Event()}

    class Configs(BaseConfigs):
        first: int
        second: int

    @Configs.calc(Configs.first)
    def first(c: Configs) -> int:
        begun["first"].set()
        assert begun["second"].wait(WAIT_S)
        return c.second

    @Configs.calc(Configs.second)
    def second(c: Configs) -> int:
        begun["second"].set()
        assert begun["first"].wait(WAIT_S)
        return c.first

    conf = Configs()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(getattr, conf, name) for name in ("first", "second")]
        errors = [future.exception(WAIT_S) for future in futures]
    # one of them finds the circle, the other then goes on alone, and finds it as well
    assert all(isinstance(error, ConfigError) for error in errors)
    assert any(
        "'first' depends on itself: first -> second -> first" in str(e) for e in errors
    ) or any("'second' depends on itself: second -> first -> second" in str(e) for e in errors)


def test_items_of_one_function_are_computed_by_one_thread() -> None:
    calls = []
    started = threading.Event()
    release = threading.Event()

    class Configs(BaseConfigs):
        mean: float
        std: float

    @Configs.calc([Configs.mean, Configs.std])
    def statistics() -> tuple[float, float]:
        calls.append("statistics")
        started.set()
        assert release.wait(WAIT_S)
        return 0.5, 0.25

    conf = Configs()
    with ThreadPoolExecutor(2) as pool:
        mean = pool.submit(lambda: conf.mean)
        assert started.wait(WAIT_S)
        std = pool.submit(lambda: conf.std)
        release.set()
        assert (mean.result(WAIT_S), std.result(WAIT_S)) == (0.5, 0.25)
    assert calls == ["statistics"]


def test_a_failed_computation_is_tried_again_by_who_waited() -> None:
    calls = []
    started = threading.Event()
    release = threading.Event()

    class Configs(BaseConfigs):
        data: int

    @Configs.calc(Configs.data)
    def data() -> int:
        calls.append("data")
        if len(calls) == 1:
            started.set()
            assert release.wait(WAIT_S)
            raise OSError("not there yet")
        return 7

    conf = Configs()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: conf.data)
        assert started.wait(WAIT_S)
        second = pool.submit(lambda: conf.data)
        release.set()
        with pytest.raises(OSError, match="not there yet"):
            first.result(WAIT_S)
        assert second.result(WAIT_S) == 7


def test_a_long_wait_for_another_thread_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lab_core.configs.instances.claims.LONG_WAIT_S", 0.01)
    started, logged = threading.Event(), threading.Event()

    def note(record: logging.LogRecord) -> bool:
        logged.set()
        return True

    caplog.handler.addFilter(note)

    class Configs(BaseConfigs):
        slow: int

    @Configs.calc(Configs.slow)
    def slow() -> int:
        started.set()
        assert logged.wait(WAIT_S)
        return 1

    conf = Configs()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: conf.slow)
        assert started.wait(WAIT_S)
        assert pool.submit(lambda: conf.slow).result(WAIT_S) == first.result(WAIT_S) == 1
    assert "'slow' has been computed in thread" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes_what_another_thread_of_its_parent_computes() -> None:
    started, release = threading.Event(), threading.Event()
    parent = os.getpid()

    class Configs(BaseConfigs):
        slow: int

    @Configs.calc(Configs.slow)
    def slow() -> int:
        if os.getpid() == parent:
            started.set()
            assert release.wait(WAIT_S)
        return 3

    conf = Configs()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: conf.slow)
        assert started.wait(WAIT_S)
        child = os.fork()
        if child == 0:
            signal.alarm(WAIT_S)  # a hang ends the child, and the test with a sentence
            os._exit(conf.slow)
        status = os.waitpid(child, 0)[1]
        release.set()
        assert found.result(WAIT_S) == 3
    assert os.waitstatus_to_exitcode(status) == 3
