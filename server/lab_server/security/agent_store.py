"""What is needed of a store for agents: credentials and join tokens, the same for all servers of it."""

from __future__ import annotations

from typing import Protocol

from lab_server.model.agent import AgentCredential, JoinToken


class AgentStore(Protocol):
    """Keeps credentials and join tokens. Every method may raise StoreError; what returned is on disk."""

    async def all(self) -> tuple[AgentCredential, ...]:
        """Return all credentials, revoked ones too, the oldest first."""

    async def join_token(self, token_id: str) -> JoinToken | None:
        """Return a join token that was added or used, None if there is none."""

    async def add_join_token(self, token: JoinToken) -> None:
        """Add a join token, and forget those that expired more than a day before."""

    async def take_in(
        self, credential: AgentCredential, token: JoinToken | None
    ) -> AgentCredential | None:
        """Use a join token, revoke other credentials of the name, and add the credential, all at once.

        Returns:
            The valid credential of this name and hash, which may have been there before; None if the token was
            used by another agent.
        """
