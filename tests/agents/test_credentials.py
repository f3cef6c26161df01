"""How an agent proves who it is: one-time join tokens, and credentials of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab_server.cli.tokens import app
from lab_server.errors import AlreadyExists, InvalidRequest, PermissionDenied, Unauthenticated
from lab_server.model.agent import AgentCredential
from lab_server.model.roles import Role
from lab_server.security.agents import AgentCredentials
from lab_server.security.tokens import TokenFile, hash_of, written
from lab_server.store import SqlStore
from tests.memory_agents import MemoryAgents


class Door:
    """A server's door: a token file, and the agents that came in."""

    def __init__(self, home: Path, has_tokens: bool) -> None:
        self.tokens = TokenFile(home / "tokens.json")
        self.tokens.create("ada", Role.ADMIN)
        self.there: set[str] = set()
        self.store = MemoryAgents()
        self.credentials = AgentCredentials(
            self.store, home / "tokens.json" if has_tokens else None
        )

    async def join(self, token: str = "", **changed: Any) -> AgentCredential:
        arguments = {"name": "a1", "pool": "", "secret_sha256": hash_of("secret")} | changed
        header = f"Bearer {token}" if token else ""
        return await self.credentials.join(header, is_there=self.there.__contains__, **arguments)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path, has_tokens=True)


@pytest.fixture
def open_door(tmp_path: Path) -> Door:
    return Door(tmp_path, has_tokens=False)


async def test_a_join_token_makes_an_agent_of_its_pool(door: Door) -> None:
    joined = await door.join(door.tokens.create("agent", Role.JOIN, pool="gpus"))
    assert (joined.name, joined.pool) == ("a1", "gpus")
    me = door.credentials.authenticate(f"Bearer {written(joined.id, 'secret')}")
    assert (me.name, me.pool) == ("a1", "gpus")
    assert door.credentials.pools() == ("gpus",)


async def test_a_join_token_is_good_once(door: Door) -> None:
    token = door.tokens.create("agent", Role.JOIN)
    await door.join(token)
    with pytest.raises(Unauthenticated, match="used already"):
        await door.join(token, name="a2", secret_sha256=hash_of("another"))


async def test_join_tokens_that_are_of_no_more_use_go_with_the_next_that_is_made(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = door.tokens.create("agent", Role.JOIN)
    await door.join(used)
    door.tokens.create("agent", Role.JOIN, time.time() - 1)
    door.tokens.create("olga", Role.OPERATOR, time.time() - 1)
    unused = door.tokens.create("agent", Role.JOIN)
    assert len(door.tokens.read()) == 5, "for a day they are shown"
    monkeypatch.setattr("lab_server.security.tokens.SPENT_S", -1.0)
    door.tokens.create("otto", Role.VIEWER)
    kept = [(token.name, token.role) for token in door.tokens.read().values()]
    people = [("ada", "admin"), ("olga", "operator"), ("agent", "join"), ("otto", "viewer")]
    assert kept == people
    assert (await door.join(used)).name == "a1", "an answer that was lost is asked for again"
    with pytest.raises(Unauthenticated, match="used already"):
        await door.join(used, name="a2", secret_sha256=hash_of("another"))
    assert (await door.join(unused, name="a2", secret_sha256=hash_of("another"))).name == "a2"


async def test_the_list_of_tokens_says_which_agent_used_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    tokens = TokenFile(tmp_path / "tokens.json")
    used, unused = (tokens.create("agent", Role.JOIN, pool="gpus") for _ in range(2))

    def listed() -> list[list[str]]:
        printed = CliRunner().invoke(app, ["list"])
        assert printed.exit_code == 0, printed.output
        return [line.split()[3:] for line in printed.output.splitlines()[1:]]

    assert listed() == [["valid", "agent"], ["valid", "agent"]]
    store = SqlStore(f"sqlite:///{tmp_path}/lab.db")
    credentials = AgentCredentials(store.agents, tmp_path / "tokens.json")
    await credentials.join(
        f"Bearer {used}",
        name="a1",
        pool="",
        secret_sha256=hash_of("secret"),
        is_there=lambda _name: False,
    )
    await store.close()
    assert listed() == [["used", "a1"], ["valid", "agent"]]
    assert tokens.read().keys() == {token.split("_")[1] for token in (used, unused)}


async def test_an_answer_that_was_lost_is_asked_for_again(door: Door) -> None:
    token = door.tokens.create("agent", Role.JOIN)
    assert await door.join(token) == await door.join(token)


async def test_without_a_join_token_nobody_joins(door: Door) -> None:
    with pytest.raises(Unauthenticated, match="create-join"):
        await door.join()
    with pytest.raises(Unauthenticated):
        await door.join("lab_0000_garbage")
    with pytest.raises(Unauthenticated, match="expired"):
        await door.join(door.tokens.create("agent", Role.JOIN, time.time() - 1))
    with pytest.raises(PermissionDenied, match="not a join token"):
        await door.join(door.tokens.create("olga", Role.ADMIN))


async def test_where_no_tokens_are_needed_an_agent_needs_none(open_door: Door) -> None:
    joined = await open_door.join(pool="gpus")
    assert joined.pool == "gpus"
    another = await open_door.join(name="a2", secret_sha256=hash_of("x"))
    assert another.pool == "agents"
    with pytest.raises(Unauthenticated):
        open_door.credentials.authenticate(f"Bearer {written(joined.id, 'wrong')}")
    with pytest.raises(Unauthenticated):
        open_door.credentials.authenticate("")


async def test_two_agents_of_one_name_are_one_too_many(open_door: Door) -> None:
    first = await open_door.join()
    open_door.there.add("a1")
    with pytest.raises(AlreadyExists, match="another --name"):
        await open_door.join(secret_sha256=hash_of("another"))
    assert await open_door.join() == first


async def test_the_name_of_an_agent_that_is_gone_can_be_taken_and_its_credential_is_void(
    open_door: Door,
) -> None:
    first = await open_door.join()
    second = await open_door.join(secret_sha256=hash_of("another"))
    assert second.name == "a1"
    open_door.credentials.authenticate(f"Bearer {written(second.id, 'another')}")
    with pytest.raises(Unauthenticated, match="revoked"):
        open_door.credentials.authenticate(f"Bearer {written(first.id, 'secret')}")


async def test_a_join_token_of_one_pool_opens_no_other(door: Door) -> None:
    token = door.tokens.create("agent", Role.JOIN, pool="gpus")
    with pytest.raises(InvalidRequest, match="'gpus', not 'others'"):
        await door.join(token, pool="others")
    assert (await door.join(token, pool="gpus")).pool == "gpus"


@pytest.mark.parametrize(
    "changed",
    [{"name": ""}, {"name": "a/b"}, {"name": "-x"}, {"pool": "a b"}, {"secret_sha256": "abc"}],
)
async def test_names_that_cannot_be_part_of_a_slots_name_are_refused(
    open_door: Door, changed: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest):
        await open_door.join(**changed)
    assert open_door.credentials.pools() == ()


async def test_a_token_that_a_server_made_is_good_on_every_server_of_the_store(
    door: Door, tmp_path: Path
) -> None:
    token = await door.credentials.new_join_token("gpus")
    other = Door(tmp_path, has_tokens=True)
    other.credentials = AgentCredentials(door.store, tmp_path / "tokens.json")
    joined = await other.join(token)
    assert joined.pool == "gpus"
    await door.credentials.refresh()
    door.credentials.authenticate(f"Bearer {written(joined.id, 'secret')}")
    with pytest.raises(Unauthenticated, match="used already"):
        await door.join(token, name="a2", secret_sha256=hash_of("another"))
    with pytest.raises(Unauthenticated, match="not valid"):
        await door.join(token[:-1] + "?", name="a3")
