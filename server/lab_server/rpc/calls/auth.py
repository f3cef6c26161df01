"""Who the caller is, and what it may do."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import structlog

from lab_server.errors import PermissionDenied
from lab_server.model.roles import ANYBODY, ROLES, Principal, Role
from lab_server.model.run import Run
from lab_server.rpc.calls.interceptors import Call, Context
from lab_server.security.tokens import Tokens

# Each call is a task of its own, with context variables of its own.
_current: contextvars.ContextVar[Principal] = contextvars.ContextVar("principal", default=ANYBODY)
_recheck: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar(
    "recheck", default=lambda: None
)


_header: contextvars.ContextVar[str] = contextvars.ContextVar("header", default="")


class Authenticate:
    """A CallMiddleware that admits calls whose token has a sufficient role."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, method: str, proceed: Call, request: Any, context: Context) -> Any:
        """Serve a call as its token's principal.

        Raises:
            Unauthenticated: Without a valid token.
            PermissionDenied: If its role is too low for the method.
        """
        if ROLES.get(method, Role.ADMIN) is not None:
            admit(self._tokens, method, authorization(context))
        return await proceed(request, context)


def admit(tokens: Tokens | None, method: str, header: str) -> None:
    """Make the bearer of a token the principal of the current call.

    Args:
        tokens: those that are valid; None on a server without tokens, where anybody may do everything.
        method: what is called, "/package.Service/Method".
        header: the authorization, "Bearer TOKEN".

    Raises:
        Unauthenticated: Without a valid token.
        PermissionDenied: If its role is too low for the method.
    """
    needed = ROLES.get(method) or Role.ADMIN

    def check() -> None:
        if tokens is None:
            _current.set(ANYBODY)
            return
        principal = tokens.principal(header)
        if principal.role < needed:
            raise PermissionDenied(
                f"{principal.name} has the role {principal.role.name.lower()}; "
                f"{method.rpartition('/')[2]} needs {needed.name.lower()}"
            )
        _current.set(principal)

    check()
    _recheck.set(check)
    _header.set(header)
    structlog.contextvars.bind_contextvars(principal=current().name)


def current() -> Principal:
    """Return the principal of the current call."""
    return _current.get()


def may(method: str, owner: str | None = None) -> bool:
    """Whether the caller of the current call may call a method, about something of an owner's if one is given."""
    return current().role >= (ROLES.get(method) or Role.ADMIN) and (owner is None or _owns(owner))


def credentials() -> str:
    """Return the authorization header with which the current call was admitted."""
    return _header.get()


def recheck() -> None:
    """Repeat the check made when the call began; streams do so with each message.

    Raises:
        Unauthenticated: If the token was revoked or has expired since.
        PermissionDenied: If its role was lowered below what the method needs.
    """
    _recheck.get()()


def require_ownership(run: Run) -> None:
    """Check that the caller owns the run or is an admin.

    Raises:
        PermissionDenied: If it is neither.
    """
    require_owner("run", run.id, run.owner)


def require_owner(what: str, id: str, owner: str) -> None:
    """Check that the caller owns a run or a search, or is an admin.

    Raises:
        PermissionDenied: If it is neither.
    """
    if not _owns(owner):
        whats = "searches" if what == "search" else f"{what}s"
        raise PermissionDenied(
            f"{what} {id} belongs to {owner or 'nobody'}; {current().name} may only change own {whats}"
        )


def _owns(owner: str) -> bool:
    return current().role >= Role.ADMIN or owner == current().name


def authorization(context: Context) -> str:
    """Return a call's authorization header, "" without one."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value
    return ""
