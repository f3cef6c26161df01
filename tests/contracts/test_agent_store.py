"""What every store of agents must do. A new one is added to `MAKERS` and is done when this passes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab_server.model.agent import AgentCredential, JoinToken
from lab_server.security.agent_store import AgentStore
from lab_server.store import SqlStore
from tests.memory_agents import MemoryAgents

MAKERS: dict[str, Callable[[Path, str], Any]] = {
    "sqlite": lambda folder, _: SqlStore(f"sqlite:///{folder}/lab.db"),
    "postgresql": lambda _, url: SqlStore(url),
    "memory": lambda *_: None,
}
FIRST = AgentCredential("c1", "a1", "gpus", "hash-1", create_time_ns=1)
SECOND = AgentCredential("c2", "a1", "gpus", "hash-2", create_time_ns=2)
TOKEN = JoinToken("t1", "gpus", "token-hash", expire_time_ns=5)


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AgentStore]:
    kind = request.param
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    opened = MAKERS[kind](tmp_path, postgres.new_url() if postgres else "")
    yield opened.agents if opened else MemoryAgents()
    if opened:
        await opened.close()


async def test_an_agent_is_kept(store: AgentStore) -> None:
    assert await store.all() == ()
    assert await store.take_in(FIRST, None) == FIRST
    other = replace(FIRST, id="c3", name="a2", create_time_ns=0)
    assert await store.take_in(other, None) == other
    assert await store.all() == (other, FIRST)


async def test_the_same_agent_again_has_the_credential_that_it_has(store: AgentStore) -> None:
    await store.take_in(FIRST, TOKEN)
    assert await store.take_in(replace(FIRST, id="c9"), TOKEN) == FIRST
    assert await store.all() == (FIRST,)


async def test_another_agent_of_the_name_revokes_the_one_before(store: AgentStore) -> None:
    await store.take_in(FIRST, None)
    assert await store.take_in(SECOND, None) == SECOND
    assert await store.all() == (replace(FIRST, revoke_time_ns=2), SECOND)


async def test_join_tokens_go_a_day_after_they_expired(store: AgentStore) -> None:
    now_ns = time.time_ns()
    just_expired = replace(TOKEN, id="t2", expire_time_ns=now_ns - 1)
    lasting = replace(TOKEN, id="t3", expire_time_ns=0)
    for token in (TOKEN, just_expired, lasting):
        await store.add_join_token(token)
    await store.add_join_token(replace(TOKEN, id="t4", expire_time_ns=now_ns + 10**12))
    there = [await store.join_token(token_id) for token_id in ("t1", "t2", "t3")]
    assert there == [None, just_expired, lasting]


async def test_a_join_token_is_used_once_and_a_refusal_changes_nothing(store: AgentStore) -> None:
    await store.add_join_token(TOKEN)
    assert await store.join_token("t1") == TOKEN
    assert await store.join_token("t2") is None
    await store.take_in(FIRST, TOKEN)
    assert await store.join_token("t1") == replace(TOKEN, used_by="hash-1")
    assert await store.take_in(SECOND, TOKEN) is None
    assert await store.all() == (FIRST,)


async def test_a_token_that_an_operator_made_is_used_once_too(store: AgentStore) -> None:
    assert await store.take_in(FIRST, TOKEN) == FIRST
    assert await store.take_in(SECOND, TOKEN) is None
    assert await store.join_token("t1") == replace(TOKEN, used_by="hash-1")


async def test_a_token_that_its_file_says_was_used_is_used(store: AgentStore) -> None:
    assert await store.take_in(SECOND, replace(TOKEN, used_by="hash-1")) is None
    assert await store.all() == ()
