"""Join tokens that servers sign for their own slots: good on every server of the store, once, and nowhere else."""

from __future__ import annotations

import pytest

from lab_server.errors import AlreadyExists, Unauthenticated
from lab_server.model.agent import HOSTS_POOL
from lab_server.model.roles import Role
from lab_server.security.agents import AgentCredentials
from lab_server.security.host_tokens import HostTokens
from lab_server.security.tokens import TokenFile
from tests.memory_agents import MemoryAgents

pytestmark = pytest.mark.asyncio

A, B = "a" * 64, "b" * 64


def bearer(token: str) -> str:
    return f"Bearer {token}"


async def joined(
    credentials: AgentCredentials, token: str, name: str = "host", sha256: str = A
) -> str:
    agent = await credentials.join(
        bearer(token), name=name, pool=HOSTS_POOL, secret_sha256=sha256, is_there=lambda _: False
    )
    assert agent.pool == HOSTS_POOL
    return agent.id


@pytest.fixture
def store() -> MemoryAgents:
    return MemoryAgents()


@pytest.fixture
def leader(store: MemoryAgents, tmp_path_factory: pytest.TempPathFactory) -> AgentCredentials:
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    TokenFile(file).add("somebody", Role.ADMIN, A)
    return AgentCredentials(store, file, HostTokens(b"secret"))


async def test_one_of_another_server_of_the_store_is_taken(
    leader: AgentCredentials, store: MemoryAgents
) -> None:
    follower = AgentCredentials(store, None, HostTokens(b"secret"))
    assert await joined(leader, follower.new_host_token())


async def test_one_is_good_for_one_agent_and_the_same_agent_again(leader: AgentCredentials) -> None:
    token = leader.new_host_token()
    first = await joined(leader, token)
    assert await joined(leader, token) == first
    with pytest.raises(Unauthenticated, match="used already"):
        await joined(leader, token, "other", B)


async def test_one_of_another_store_or_changed_is_refused(
    leader: AgentCredentials, store: MemoryAgents
) -> None:
    token = leader.new_host_token()
    foreign = AgentCredentials(store, None, HostTokens(b"another secret")).new_host_token()
    head, _, signature = token.rpartition(".")
    later = f"{head[:-1]}{(int(head[-1]) + 1) % 10}.{signature}"
    for wrong in (foreign, later, f"{head}.", f"{token}0"):
        with pytest.raises(Unauthenticated, match="not valid"):
            await joined(leader, wrong)


async def test_one_that_has_expired_is_refused(
    leader: AgentCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lab_server.security.host_tokens._VALID_S", -10.0)
        token = leader.new_host_token()
    with pytest.raises(Unauthenticated):
        await joined(leader, token)


async def test_the_name_of_a_host_that_is_away_is_not_given_to_another(
    leader: AgentCredentials,
) -> None:
    await joined(leader, leader.new_host_token())
    with pytest.raises(AlreadyExists):
        await joined(leader, leader.new_host_token(), sha256=B)


async def test_one_for_joining_proves_no_server() -> None:
    joining = HostTokens(b"secret").new()
    peers = HostTokens(b"secret", "calls between servers")
    assert not peers.is_one(bearer(joining))
    assert peers.is_one(bearer(peers.new()))
    assert not peers.is_one("")
