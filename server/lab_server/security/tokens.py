"""Bearer tokens, kept in a file as hashes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from lab_core.errors import SettingsError
from lab_server.errors import Unauthenticated
from lab_server.model.agent import SPENT_S
from lab_server.model.roles import Principal, Role

_log = structlog.get_logger("lab_server.tokens")

PREFIX = "lab"
_SECRET_BYTES = 32
SIGN_IN = "ask an admin for one (`lab-server tokens create`) and set LAB_TOKEN"


@dataclass(frozen=True, slots=True)
class Token:
    """A token's entry in the file. Times are Unix seconds.

    Attributes:
        id: its public part, used to list and revoke it.
        name: the principal, who owns the runs created with it.
        sha256: of the secret part. It is random and long, so no salt and no slow hash are needed.
        expire_time: 0 for never.
        pool: of a join token, the pool of the agent that it makes; of an agent, its pool.
        used_by: of a join token, the hash of the secret of the agent that it made.
    """

    id: str
    name: str
    role: str
    sha256: str
    create_time: float
    expire_time: float = 0.0
    is_revoked: bool = False
    pool: str = ""
    used_by: str = ""

    def is_spent(self, now: float) -> bool:
        """Return whether it is a join token of more than a day ago by which nobody can join any more."""
        is_over = bool(self.used_by) or self.is_revoked or self.is_expired(now)
        return self.role == Role.JOIN.name.lower() and is_over and now >= self.create_time + SPENT_S

    def is_expired(self, now: float) -> bool:
        """Return whether it has expired."""
        return bool(self.expire_time) and now >= self.expire_time


class TokenFile:
    """The tokens in a file, written by the command line and read by servers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Token]:
        """Return the tokens by id; empty when there is no file.

        Raises:
            SettingsError: If the file is not what `create` writes.
        """
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            tokens = [Token(**_known(entry)) for entry in data["tokens"]]
            for token in tokens:
                Role[token.role.upper()]
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SettingsError(
                f"cannot read the tokens in {self._path}: {error.strerror}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise SettingsError(
                f"{self._path} is not a token file of `lab-server tokens`"
            ) from None
        return {token.id: token for token in tokens}

    def create(self, name: str, role: Role, expire_time: float = 0.0, pool: str = "") -> str:
        """Add a token and return it in full; it cannot be recovered later."""
        secret = new_secret()
        token = self.add(name, role, hash_of(secret), expire_time, pool)
        return written(token.id, secret)

    def add(
        self, name: str, role: Role, sha256: str, expire_time: float = 0.0, pool: str = ""
    ) -> Token:
        """Add a token whose secret somebody else has, by the secret's hash; spent join tokens go."""
        token = Token(
            secrets.token_hex(4),
            name,
            role.name.lower(),
            sha256,
            round(time.time()),
            expire_time,
            pool=pool,
        )
        with self._change() as tokens:
            # the store knows who used which: one that is used again is told so still
            for spent in [t for t in tokens.values() if t.is_spent(time.time())]:
                del tokens[spent.id]
            tokens[token.id] = token
        return token

    def use(self, token_id: str, by: str) -> bool:
        """Note who uses a one-time token; False when another one has."""
        with self._change() as tokens:
            token = tokens[token_id]
            tokens[token_id] = replace(token, used_by=token.used_by or by)
            return tokens[token_id].used_by == by

    def revoke(self, token_id: str) -> bool:
        """Revoke a token; False when there is none of this id."""
        with self._change() as tokens:
            if token_id in tokens:
                tokens[token_id] = replace(tokens[token_id], is_revoked=True)
            return token_id in tokens

    @contextlib.contextmanager
    def _change(self) -> Iterator[dict[str, Token]]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Guards the file against another command that changes it concurrently.
        with self._path.with_name(self._path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = self.read()
            yield tokens
            text = json.dumps({"tokens": [asdict(token) for token in tokens.values()]}, indent=1)
            partial = self._path.with_name(self._path.name + ".new")
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)


class Tokens:
    """Maps tokens to principals; reloads the file when it changes."""

    def __init__(self, path: Path, *, may_be_absent: bool = False, sign_in: str = SIGN_IN) -> None:
        """Read the file.

        Args:
            path: the file.
            may_be_absent: without a file there is no token yet.
            sign_in: what a caller without a valid token can do, as a clause.

        Raises:
            SettingsError: If it is not there, or not what `lab-server tokens` writes.
        """
        self._path = path
        self._sign_in = sign_in
        self._file = TokenFile(path)
        self._stamp = _stamp(path)
        if self._stamp is None and not may_be_absent:
            raise SettingsError(
                f"there is no token file at {path}; create it with `lab-server tokens create`"
            )
        self._tokens = self._file.read()

    def __iter__(self) -> Iterator[Token]:
        """Yield the tokens."""
        self._reload()
        return iter(tuple(self._tokens.values()))

    def principal(self, header: str) -> Principal:
        """Return the principal of an authorization header.

        Raises:
            Unauthenticated: If it holds no token, or one that is wrong, expired or revoked.
        """
        token = self.token(header)
        return Principal(token.name, Role[token.role.upper()])

    def token(self, header: str) -> Token:
        """Return the token of an authorization header.

        Raises:
            Unauthenticated: If it holds no token, or one that is wrong, expired or revoked.
        """
        self._reload()
        token_id, secret = parts_of(header, self._sign_in)
        token = self._tokens.get(token_id)
        if not is_secret(secret, token.sha256 if token else None) or token is None:
            raise Unauthenticated(f"the token is not valid on this server; {self._sign_in}")
        if token.is_revoked:
            raise Unauthenticated(f"the token was revoked; {self._sign_in}")
        if token.is_expired(time.time()):
            raise Unauthenticated(f"the token has expired; {self._sign_in}")
        return token

    def _reload(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp or stamp is None:
            return
        self._stamp = stamp
        try:
            self._tokens = self._file.read()
        except SettingsError as error:
            _log.error("cannot reload the tokens; keeping the old ones", reason=str(error))
        else:
            _log.info("tokens reloaded", count=len(self._tokens))


def new_secret() -> str:
    """Return the secret part of a new token."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def written(token_id: str, secret: str) -> str:
    """Return a token in full."""
    return f"{PREFIX}_{token_id}_{secret}"


def parts_of(header: str, sign_in: str) -> tuple[str, str]:
    """Return the public part and the secret of the token in an authorization header.

    Raises:
        Unauthenticated: If it holds no token; sign_in says what to do.
    """
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Unauthenticated(f"this server needs a token; {sign_in}")
    prefix, _, rest = text.strip().partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id if prefix == PREFIX else ""), secret


def is_secret(secret: str, sha256: str | None) -> bool:
    """Return whether a secret has this hash; an unknown hash takes as long.

    The time must not tell which ids exist.
    """
    return hmac.compare_digest(sha256 or hash_of(""), hash_of(secret)) and sha256 is not None


def hash_of(secret: str) -> str:
    """Return the hash by which a secret is kept."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _known(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in Token.__dataclass_fields__ if name in entry}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
