"""Errors of the service; one interceptor maps them to statuses."""

from __future__ import annotations

from collections.abc import Sequence

from lab_core.errors import ConfigError, LabError, SettingsError, Violation


class ServiceError(LabError):
    """The root of every error that a caller of the service can cause."""


class NotFound(ServiceError):
    """Something that the caller named does not exist.

    Attributes:
        resource: "run", "experiment", "checkpoint" or "artifact".
        name: the name that the caller gave.
    """

    def __init__(self, resource: str, name: str, hint: str = "") -> None:
        super().__init__(resource, name, hint)
        self.resource, self.name, self.hint = resource, name, hint

    def __str__(self) -> str:
        sentence = f"there is no {self.resource} {self._as_written}"
        return f"{sentence}; {self.hint}" if self.hint else sentence

    @property
    def _as_written(self) -> str:
        return repr(self.name)


class CheckpointNotFound(NotFound):
    """A run has no checkpoint, or none of a step; `name` says of what: "of step 64"."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__("checkpoint", name, hint)
        self.args = name, hint

    @property
    def _as_written(self) -> str:
        return self.name


class InvalidRequest(ServiceError):
    """Fields of a request, other than config items, are invalid; has all of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(tuple(violations))
        self.violations = tuple(violations)

    def __str__(self) -> str:
        return "\n".join(str(v) for v in self.violations)


class CannotBeChecked(ConfigError):
    """Nobody can say whether a config message is good before the experiment's code is mended."""


class BrokenModule(CannotBeChecked):
    """An experiment's module cannot be imported as it is now."""


class CheckCrashed(CannotBeChecked):
    """The process that was to run an experiment's own checks gave no answer."""


class Unauthenticated(ServiceError):
    """The call brought no token, or one that is not valid."""


class PermissionDenied(ServiceError):
    """The caller is known and may not do this."""


class LimitReached(ServiceError):
    """A limit per principal is reached."""


class InvalidState(ServiceError):
    """The run is not in a state in which this can be done to it."""


class AlreadyExists(ServiceError):
    """The idempotency key was used for another request."""


class QueueFull(ServiceError):
    """The queue has reached its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the queue is full: {self.limit} runs are waiting; try again when one has started"


class Unavailable(ServiceError):
    """The server cannot do this now: it is starting or stopping."""


class StoreError(LabError):
    """The store could not write or read: a full disk, a damaged file."""


class StoreRefused(StoreError, SettingsError):
    """The store that the settings name cannot be used: a wrong URL, another version, not ours."""


class DamagedHistory(StoreError):
    """A run's folded history cannot be read; its log, from which it is made again, can."""


class DamagedFile(LabError):
    """A file arrived as another than was announced, or is another than it was when it arrived.

    Attributes:
        name: the file's.
        problem: what is wrong with it, behind its name.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name!r} {self.problem}"


class LaunchError(LabError):
    """A trainer process could not be started."""
