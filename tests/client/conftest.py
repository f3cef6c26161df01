"""A twin of the service for each test, and clients that do not wait long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab_client import AsyncClient, Client
from tests.client.blocking import Blocking
from tests.client.twin import Twin

MakeClient = Callable[..., Any]


@pytest.fixture
def twin() -> Iterator[Twin]:
    twin = Twin().start()
    yield twin
    twin.close()


@pytest.fixture(params=["blocking", "asyncio"])
def make_client(request: pytest.FixtureRequest, twin: Twin) -> Iterator[MakeClient]:
    """Makes clients of the twin: all that a test says holds for both kinds."""
    closers: list[Callable[[], Any]] = []
    loop = asyncio.new_event_loop()

    def make(address: str | None = None, **arguments: Any) -> Any:
        arguments = {"timeout_s": 20, "reconnect_timeout_s": 20, **arguments}
        kind = Client if request.param == "blocking" else AsyncClient
        opened = kind(address or twin.address, **arguments)
        shown = opened if request.param == "blocking" else Blocking(opened, loop)
        closers.append(shown.close)
        return shown

    yield make
    for close in closers:
        close()
    loop.close()


@pytest.fixture
def client(make_client: MakeClient) -> Any:
    return make_client()
