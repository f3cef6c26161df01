"""Who makes the call that is being served, and whether they may."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable

import structlog

from lab_server.errors import PermissionDenied
from lab_server.model.roles import ANYBODY, ROLES, Principal, Role
from lab_server.model.run import Run
from lab_server.rpc.interceptors import Context
from lab_server.security.tokens import Tokens

# Each call is a task of its own, and so is what it sets.
_current: contextvars.ContextVar[Principal] = contextvars.ContextVar("principal", default=ANYBODY)
_recheck: contextvars.ContextVar[Callable[[], None]] = contextvars.ContextVar(
    "recheck", default=lambda: None
)


class Authenticate:
    """Lets a call pass that brings a token whose role may make it; an Around."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @contextlib.asynccontextmanager
    async def __call__(self, method: str, context: Context) -> AsyncIterator[None]:
        """Refuse a call, or serve it in the name of its principal.

        Raises:
            Unauthenticated: Without a valid token.
            PermissionDenied: If the role may not call the method.
        """
        needed = ROLES.get(method, Role.ADMIN)
        if needed is not None:
            header = _authorization(context)

            def check() -> None:
                principal = self._tokens.principal(header)
                if principal.role < needed:
                    raise PermissionDenied(
                        f"{principal.name} is {_a(principal.role)} here; "
                        f"{method.rpartition('/')[2]} needs {_a(needed)}"
                    )
                _current.set(principal)

            check()
            _recheck.set(check)
            structlog.contextvars.bind_contextvars(principal=current().name)
        yield


def current() -> Principal:
    """Return who makes the call that is being served."""
    return _current.get()


def recheck() -> None:
    """Check again what was checked at the call's begin; long streams do so now and then.

    Raises:
        Unauthenticated: If the token was revoked or has expired meanwhile.
        PermissionDenied: If its role is less than it was.
    """
    _recheck.get()()


def must_own(run: Run) -> None:
    """Let the run's owner pass, and an admin.

    Raises:
        PermissionDenied: For everybody else.
    """
    principal = current()
    if principal.role < Role.ADMIN and run.owner != principal.name:
        raise PermissionDenied(
            f"run {run.id} belongs to {run.owner or 'nobody'}; {principal.name} may change own runs only"
        )


def _authorization(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value
    return ""


def _a(role: Role) -> str:
    return f"{'a' if role is Role.VIEWER else 'an'} {role.name.lower()}"
