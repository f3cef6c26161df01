"""What a server does beside answering calls goes on after a mistake, and the log tells of it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from lab_server.app import background
from lab_server.errors import NotFound


async def test_a_task_that_fails_is_logged_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_RESTART_S", 0)
    results = iter([ZeroDivisionError("oops"), NotFound("run", "r1"), None])
    calls = []

    async def work(*arguments: object, **named: object) -> None:
        calls.append((arguments, named))
        if result := next(results):
            raise result

    with capture_logs() as lines:
        await background.keep_up(work, 1, what=2)
    assert calls == [((1,), {"what": 2})] * 3
    assert [(line["log_level"], line["task"]) for line in lines] == [
        ("error", "test_a_task_that_fails_is_logged_and_begun_again.<locals>.work")
    ] * 2


async def test_a_task_that_is_cancelled_ends() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    task = asyncio.create_task(background.keep_up(work))
    await asyncio.sleep(0)
    task.cancel()
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await task
    assert lines == []
