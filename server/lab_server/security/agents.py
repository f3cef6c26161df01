"""Which agents a server has, and how they prove it: one-time join tokens, then credentials of their own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from lab_core.errors import Violation
from lab_server.errors import (
    AlreadyExists,
    InvalidRequest,
    PermissionDenied,
    StoreError,
    Unauthenticated,
)
from lab_server.logs import Seldom
from lab_server.model.agent import DEFAULT_POOL, HOSTS_POOL, NAME, AgentCredential, JoinToken
from lab_server.model.roles import Role
from lab_server.security.agent_store import AgentStore
from lab_server.security.host_tokens import HostTokens
from lab_server.security.tokens import (
    TokenFile,
    Tokens,
    hash_of,
    is_secret,
    new_secret,
    parts_of,
    written,
)

_log = structlog.get_logger("lab_server.agents")

_JOIN_AGAIN = "start it with a join token (`lab-server tokens create-join`)"
_JOIN_S = 86400.0  # a job may wait for long
_REFRESH_S = 2.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class AgentCredentials:
    """The agents that have joined, as the store has them: the same for all servers of it.

    An agent makes its secret itself and sends only the hash, so that an answer that was lost can be asked
    for again, and nobody but the agent ever has the secret.

    Args:
        store: of the agents.
        tokens: the file of the server's tokens, in which an operator's join tokens are; None where no tokens
            are needed.
        host_tokens: by which each server of the store can have the agent of its own slots join.
    """

    def __init__(
        self, store: AgentStore, tokens: Path | None, host_tokens: HostTokens | None = None
    ) -> None:
        self._store = store
        self._host_tokens = host_tokens or HostTokens(b"")
        self._known: dict[str, AgentCredential] = {}
        self._join_file = TokenFile(tokens) if tokens else None
        self._join_tokens = Tokens(tokens, sign_in=_JOIN_AGAIN) if tokens else None

    async def refresh(self) -> None:
        """Read the credentials, as the store has them now.

        Raises:
            StoreError: If it cannot be read.
        """
        self._known = {known.id: known for known in await self._store.all()}

    async def keep_fresh(self) -> None:
        """Read the credentials again and again: a command may have revoked one."""
        outages = Seldom()
        while True:
            await asyncio.sleep(_REFRESH_S)
            if not self._known:
                continue  # there is none to revoke, and who joins is read then
            try:
                await self.refresh()
            except StoreError as error:
                if outages.is_due():
                    _log.warning(
                        "cannot read the agents' credentials; trying again", reason=str(error)
                    )

    def pools(self) -> tuple[str, ...]:
        """Return the pools of the agents that have joined."""
        return tuple(dict.fromkeys(known.pool for known in self._known.values()))

    async def new_join_token(self, pool: str) -> str:
        """Return a one-time token for an agent of a pool, "" where none is needed.

        Raises:
            StoreError: If it cannot be kept.
        """
        if self._join_file is None:
            return ""
        secret, token_id = new_secret(), secrets.token_hex(4)
        expire_time_ns = time.time_ns() + int(_JOIN_S * 1e9)
        await self._store.add_join_token(JoinToken(token_id, pool, hash_of(secret), expire_time_ns))
        return written(token_id, secret)

    def new_host_token(self) -> str:
        """Return a one-time token for the agent of this server's own slots; a server that follows can, too."""
        return self._host_tokens.new()

    def authenticate(self, header: str) -> AgentCredential:
        """Return the credential of an authorization header.

        Raises:
            Unauthenticated: If it holds none, or one that is wrong or revoked.
        """
        credential_id, secret = parts_of(header, _JOIN_AGAIN)
        known = self._known.get(credential_id)
        if not is_secret(secret, known.sha256 if known else None) or known is None:
            raise Unauthenticated(f"the token is not valid on this server; {_JOIN_AGAIN}")
        if known.revoke_time_ns:
            raise Unauthenticated(f"the token was revoked; {_JOIN_AGAIN}")
        return known

    async def join(
        self,
        header: str,
        *,
        name: str,
        pool: str,
        secret_sha256: str,
        is_there: Callable[[str], bool],
    ) -> AgentCredential:
        """Take an agent in; the same request again gets the same answer.

        Args:
            header: the authorization header, with a join token where tokens are needed.
            name: of the agent.
            pool: that it asks for, "" for the token's.
            secret_sha256: the hash of its secret.
            is_there: whether an agent of a name is attached, or may be.

        Raises:
            AlreadyExists: If another agent has the name.
            InvalidRequest: If the name, the pool or the hash cannot be used.
            PermissionDenied: If the token is not a join token.
            StoreError: If it cannot be kept.
            Unauthenticated: If there is no valid token, or the join token was used by another agent.
        """
        _check(name, pool, secret_sha256)
        token = await self._join_token(header)
        if token is not None and token.pool and pool not in ("", token.pool):
            problem = f"the join token is for the pool {token.pool!r}, not {pool!r}"
            raise InvalidRequest([Violation("pool", problem)])
        await self.refresh()
        for known in self._known.values():
            if known.name == name and not known.revoke_time_ns:
                if known.sha256 == secret_sha256:
                    return known
                # hosts keep their names, also while they are away
                if is_there(name) or known.pool == pool == HOSTS_POOL:
                    raise AlreadyExists(
                        f"an agent named {name!r} is attached; give this one another --name"
                    )
        pool = (token.pool if token else "") or pool or DEFAULT_POOL
        credential = AgentCredential(
            secrets.token_hex(4), name, pool, secret_sha256, time.time_ns()
        )
        joined = await self._store.take_in(credential, token)
        if joined is None:
            raise Unauthenticated(f"the join token was used already; {_JOIN_AGAIN}")
        await self.refresh()
        if token is not None and self._join_file is not None:
            with contextlib.suppress(KeyError):  # one that a server made is in the store alone
                await asyncio.to_thread(self._join_file.use, token.id, secret_sha256)
        return joined

    async def _join_token(self, header: str) -> JoinToken | None:
        """Return the valid join token of a header.

        It is an operator's in the file, a server's in the store, or one for a server's own slots.
        """
        if header and (of_host := self._host_tokens.token(header)) is not None:
            return of_host
        if self._join_tokens is None or self._join_file is None:
            return None
        token_id, secret = parts_of(header, _JOIN_AGAIN)
        made = await self._store.join_token(token_id)
        if any(token.id == token_id for token in self._join_tokens):
            token = self._join_tokens.token(header)
            if token.role != Role.JOIN.name.lower():
                raise PermissionDenied(f"{token.name}'s token is not a join token; {_JOIN_AGAIN}")
            expire_time_ns = int(token.expire_time * 1e9)
            return JoinToken(token.id, token.pool, token.sha256, expire_time_ns, token.used_by)
        if not is_secret(secret, made.sha256 if made else None) or made is None:
            raise Unauthenticated(f"the token is not valid on this server; {_JOIN_AGAIN}")
        if made.expire_time_ns and time.time_ns() >= made.expire_time_ns:
            raise Unauthenticated(f"the token has expired; {_JOIN_AGAIN}")
        return made


def _check(name: str, pool: str, secret_sha256: str) -> None:
    problems = []
    if not NAME.fullmatch(name):
        problems.append(Violation("name", _name_problem(name)))
    if pool and not NAME.fullmatch(pool):
        problems.append(Violation("pool", _name_problem(pool)))
    if not _SHA256.fullmatch(secret_sha256):
        problems.append(Violation("secret_sha256", "it is not a SHA-256 in hexadecimal"))
    if problems:
        raise InvalidRequest(problems)


def _name_problem(name: str) -> str:
    return f"{name[:100]!r} is no name for it: use up to 63 letters, digits, '-', '_' and '.'"
