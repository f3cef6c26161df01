"""Which agents a server has, and how they prove it: one-time join tokens, then credentials of their own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from lab_core.errors import Violation
from lab_server.errors import AlreadyExists, InvalidRequest, PermissionDenied, Unauthenticated
from lab_server.model.agent import DEFAULT_POOL, NAME
from lab_server.model.roles import Role
from lab_server.security.tokens import Token, TokenFile, Tokens

_JOIN_AGAIN = "start it with a join token (`lab-server tokens create-join`)"
_JOIN_S = 86400.0  # a job may wait for long
_SHA256 = re.compile(r"[0-9a-f]{64}")


class AgentCredentials:
    """The agents that have joined, in the file agents.json of the home.

    An agent makes its secret itself and sends only the hash, so that an answer that was lost can be asked
    for again, and nobody but the agent ever has the secret.

    Args:
        home: of the server.
        tokens: the file of its tokens, in which join tokens are; None where no tokens are needed.
    """

    def __init__(self, home: Path, tokens: Path | None) -> None:
        path = home / "agents.json"
        self._file = TokenFile(path)
        self._credentials = Tokens(path, may_be_absent=True, sign_in=_JOIN_AGAIN)
        self._join_file = TokenFile(tokens) if tokens else None
        self._join_tokens = Tokens(tokens, sign_in=_JOIN_AGAIN) if tokens else None

    def pools(self) -> tuple[str, ...]:
        """Return the pools of the agents that have joined."""
        return tuple(dict.fromkeys(token.pool for token in self._credentials))

    def new_join_token(self, pool: str) -> str:
        """Return a one-time token for an agent of a pool, "" where none is needed."""
        if self._join_file is None:
            return ""
        expire_time = time.time() + _JOIN_S
        return self._join_file.create(f"an agent of {pool}", Role.JOIN, expire_time, pool)

    def authenticate(self, header: str) -> Token:
        """Return the credential of an authorization header.

        Raises:
            Unauthenticated: If it holds none, or one that is wrong or revoked.
        """
        return self._credentials.token(header)

    def join(
        self,
        header: str,
        *,
        name: str,
        pool: str,
        secret_sha256: str,
        is_there: Callable[[str], bool],
    ) -> Token:
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
            Unauthenticated: If there is no valid token, or the join token was used by another agent.
        """
        _check(name, pool, secret_sha256)
        token = self._join_token(header)
        if token is not None and token.pool and pool not in ("", token.pool):
            problem = f"the join token is for the pool {token.pool!r}, not {pool!r}"
            raise InvalidRequest([Violation("pool", problem)])
        for known in self._credentials:
            if known.name == name and not known.is_revoked:
                if known.sha256 == secret_sha256:
                    return known
                if is_there(name):
                    raise AlreadyExists(
                        f"an agent named {name!r} is attached; give this one another --name"
                    )
        if token is not None and self._join_file is not None:
            if not self._join_file.use(token.id, secret_sha256):
                raise Unauthenticated(f"the join token was used already; {_JOIN_AGAIN}")
            pool = token.pool or pool
        for known in self._credentials:
            if known.name == name and not known.is_revoked:
                self._file.revoke(known.id)
        return self._file.add(name, Role.AGENT, secret_sha256, pool=pool or DEFAULT_POOL)

    def _join_token(self, header: str) -> Token | None:
        if self._join_tokens is None:
            return None
        token = self._join_tokens.token(header)
        if token.role != Role.JOIN.name.lower():
            raise PermissionDenied(f"{token.name}'s token is not a join token; {_JOIN_AGAIN}")
        return token


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
