"""Who calls, and what they may do."""

from __future__ import annotations

import contextvars
import enum
from dataclasses import dataclass

from lab_server.errors import PermissionDenied
from lab_server.runs import Run


class Role(enum.IntEnum):
    """What a caller may do; each may all that the ones before may."""

    VIEWER = 1
    """See everything."""
    OPERATOR = 2
    """Create runs, and change one's own."""
    ADMIN = 3
    """Change every run."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls; without tokens everybody is the nameless admin."""

    name: str
    role: Role


ANYBODY = Principal("", Role.ADMIN)

_current: contextvars.ContextVar[Principal] = contextvars.ContextVar("principal", default=ANYBODY)


def current() -> Principal:
    """Return who makes the call that is being served."""
    return _current.get()


def set_current(principal: Principal) -> None:
    """Say who makes this call; each call is a task of its own, and so is what it sets."""
    _current.set(principal)


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
