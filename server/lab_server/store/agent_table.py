"""The statements of agents' credentials and join tokens, beside the runs in the same database."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from sqlalchemy import Connection, select

from lab_server.model.agent import SPENT_S, AgentCredential, JoinToken
from lab_server.store import schema
from lab_server.store.search_table import Access

_agents, _tokens = schema.agents, schema.join_tokens


class AgentTable:
    """An AgentStore in a SQL database.

    Args:
        write: runs work on the connection that writes.
        read: runs work on one that reads.
    """

    def __init__(self, write: Access, read: Access) -> None:
        self._write, self._read = write, read

    async def all(self) -> tuple[AgentCredential, ...]:
        """See AgentStore."""
        return await self._read(credentials)

    async def join_token(self, token_id: str) -> JoinToken | None:
        """See AgentStore."""
        return await self._read(lambda connection: _join_token(connection, token_id))

    async def add_join_token(self, token: JoinToken) -> None:
        """See AgentStore."""
        oldest = time.time_ns() - int(SPENT_S * 1e9)
        is_over = (_tokens.c.expire_time_ns > 0) & (_tokens.c.expire_time_ns < oldest)

        def work(connection: Connection) -> None:
            connection.execute(_tokens.delete().where(is_over))
            connection.execute(_tokens.insert(), asdict(token))

        await self._write(work)

    async def take_in(
        self, credential: AgentCredential, token: JoinToken | None
    ) -> AgentCredential | None:
        """See AgentStore."""

        def work(connection: Connection) -> AgentCredential | None:
            if token is not None and not _use(connection, token, credential.sha256):
                return None
            is_ours = (_agents.c.name == credential.name) & (_agents.c.revoke_time_ns == 0)
            known = select(_agents).where(is_ours & (_agents.c.sha256 == credential.sha256))
            row = connection.execute(known).mappings().first()
            if row is not None:
                return AgentCredential(**row)
            now = _agents.update().where(is_ours).values(revoke_time_ns=credential.create_time_ns)
            connection.execute(now)
            connection.execute(_agents.insert(), asdict(credential))
            return credential

        return await self._write(work)


def credentials(connection: Connection) -> tuple[AgentCredential, ...]:
    """Return all credentials, the oldest first."""
    query = select(_agents).order_by(_agents.c.create_time_ns, _agents.c.id)
    return tuple(AgentCredential(**row) for row in connection.execute(query).mappings())


def used_by(connection: Connection) -> dict[str, str]:
    """Return the names of the agents that have joined, by the id of the join token that each used."""
    query = select(_tokens.c.id, _agents.c.name).join(
        _agents, _agents.c.sha256 == _tokens.c.used_by
    )
    return {row.id: row.name for row in connection.execute(query)}


def revoke(connection: Connection, credential_id: str) -> bool:
    """Revoke a credential; False when there is none of this id."""
    is_it = _agents.c.id == credential_id
    if connection.execute(select(_agents.c.id).where(is_it)).first() is None:
        return False
    valid = _agents.update().where(is_it & (_agents.c.revoke_time_ns == 0))
    connection.execute(valid.values(revoke_time_ns=time.time_ns()))
    return True


def _join_token(connection: Connection, token_id: str) -> JoinToken | None:
    row = connection.execute(select(_tokens).where(_tokens.c.id == token_id)).mappings().first()
    return None if row is None else JoinToken(**row)


def _use(connection: Connection, token: JoinToken, by: str) -> bool:
    known = _join_token(connection, token.id)
    if any(each and each.used_by not in ("", by) for each in (token, known)):
        return False
    if known is None:
        connection.execute(_tokens.insert(), asdict(replace(token, used_by=by)))
        return True
    connection.execute(_tokens.update().where(_tokens.c.id == token.id).values(used_by=by))
    return True
