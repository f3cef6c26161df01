"""The store of agents in memory: the twin of AgentTable for tests, held to the same contract."""

from __future__ import annotations

import time
from dataclasses import replace

from lab_server.model.agent import SPENT_S, AgentCredential, JoinToken


class MemoryAgents:
    """Credentials and join tokens in dictionaries; gone with the process."""

    def __init__(self) -> None:
        self._credentials: dict[str, AgentCredential] = {}
        self._tokens: dict[str, JoinToken] = {}

    async def all(self) -> tuple[AgentCredential, ...]:
        """See AgentStore."""
        found = self._credentials.values()
        return tuple(sorted(found, key=lambda known: (known.create_time_ns, known.id)))

    async def join_token(self, token_id: str) -> JoinToken | None:
        """See AgentStore."""
        return self._tokens.get(token_id)

    async def add_join_token(self, token: JoinToken) -> None:
        """See AgentStore."""
        oldest = time.time_ns() - int(SPENT_S * 1e9)
        self._tokens = {
            known.id: known
            for known in self._tokens.values()
            if not 0 < known.expire_time_ns < oldest
        }
        self._tokens[token.id] = token

    async def take_in(
        self, credential: AgentCredential, token: JoinToken | None
    ) -> AgentCredential | None:
        """See AgentStore."""
        if token is not None:
            known = self._tokens.get(token.id, token)
            if {known.used_by, token.used_by} - {"", credential.sha256}:
                return None
            self._tokens[token.id] = replace(known, used_by=credential.sha256)
        for other in await self.all():
            if other.name != credential.name or other.revoke_time_ns:
                continue
            if other.sha256 == credential.sha256:
                return other
            self._credentials[other.id] = replace(other, revoke_time_ns=credential.create_time_ns)
        self._credentials[credential.id] = credential
        return credential
