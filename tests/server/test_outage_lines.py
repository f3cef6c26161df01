"""What a server tries again each second while the store is away is one line of its log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from lab_server.app import leadership
from lab_server.app.leadership import Membership
from lab_server.errors import StoreError
from lab_server.files.home import Home
from lab_server.settings.settings import Settings
from lab_server.supervisor import following
from lab_server.supervisor.following import Following
from lab_server.watch.hub import Hub

NUM_FAILURES = 5


class Away:
    """A store that another server writes to, and that is away for a while; then this server leads."""

    def __init__(self) -> None:
        self.num_left = NUM_FAILURES

    @property
    def leader(self) -> str:
        return "other:1" if self.num_left else ""

    async def last_position(self) -> int:
        self.num_left -= 1
        raise StoreError("the store is away")

    async def try_to_lead(self, server_id: str) -> bool:
        del server_id
        if self.num_left:
            await self.last_position()
        return True


class ReadsOn:
    """A follower that has read all."""

    async def follow(self) -> None:
        pass

    async def read_on(self) -> None:
        pass


async def test_a_follower_that_cannot_read_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_POLL_S", 0)
    store: Any = Away()
    with capture_logs() as lines:
        await Following(store, cast("Hub", None), queue_limit=1).follow()
    assert store.num_left == 0
    (line,) = lines
    assert line["event"] == "cannot read the leader's events; trying again"
    assert line["error"] == "the store is away"


@pytest.mark.parametrize(
    ("away_for", "event"),
    [
        ("the lease", "cannot look at the leader's lease; trying again"),
        ("taking over", "cannot take over yet; trying again"),
    ],
)
async def test_a_server_that_cannot_lead_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away_for: str, event: str
) -> None:
    monkeypatch.setattr(leadership, "_INTERVAL_S", 0)
    membership = Membership(
        cast(
            "Settings",
            SimpleNamespace(home=tmp_path, store="", store_url=f"sqlite:///{tmp_path}/lab.db"),
        ),
        Home(tmp_path),
        "here:1",
    )
    await membership.store.close()
    membership.store = store = cast("Any", Away())
    if away_for == "taking over":
        monkeypatch.setattr(store, "try_to_lead", leads_at_once)
    tries = 0

    async def lead() -> None:
        nonlocal tries
        tries += 1
        if store.num_left:
            await store.last_position()

    with capture_logs() as lines:
        await membership.follow(cast("Following", ReadsOn()), lead)
    assert store.num_left == 0
    assert tries == (1 if away_for == "the lease" else NUM_FAILURES + 1)
    assert [line["event"] for line in lines if line["log_level"] != "info"] == [event]


async def leads_at_once(server_id: str) -> bool:
    del server_id
    return True
