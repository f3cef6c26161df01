"""The client's errors: one tree; each has its data as attributes, pickles, and says what to do.

`grpc.RpcError` never reaches the caller; `protocol.status` is the one table that turns a status into
these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "AlreadyExists",
    "ArtifactNotFound",
    "CheckpointNotFound",
    "ConfigError",
    "ConnectionSettingsError",
    "DeadlineExceeded",
    "DownloadError",
    "EventGap",
    "ExperimentNotFound",
    "IncompatibleServer",
    "InvalidRequest",
    "InvalidState",
    "LabError",
    "LimitReached",
    "MessageTooLarge",
    "MissingExtra",
    "NotFound",
    "PermissionDenied",
    "QueueFull",
    "ResourceExhausted",
    "RunFailed",
    "RunNotFound",
    "SearchFailed",
    "SearchNotFound",
    "ServerError",
    "Unauthenticated",
    "Unavailable",
    "UnencryptedToken",
    "UnknownName",
    "UploadError",
    "UploadNotFound",
    "Violation",
]


class LabError(Exception):
    """The root of every error that lab_client raises on purpose.

    Example:
        >>> from lab_client import Client, LabError
        >>> try:
        ...     Client("localhost:1", retry_timeout_s=0).server_info()
        ... except LabError as error:
        ...     print(type(error).__name__)
        Unavailable
    """


class UnencryptedToken(UserWarning):
    """A token is sent to another machine without TLS, so that others can read it."""


class UnknownName(UserWarning):
    """A condition that no run fulfils has a name that no recent run has."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request.

    Attributes:
        key: the config item or request field; empty when it is the request as a whole.
        message: a sentence: what was wrong, what was expected, and what to do.
    """

    key: str
    message: str

    def __str__(self) -> str:
        return self.message


class InvalidRequest(LabError):
    """The server refused what was sent: all that is wrong, at once, in `violations`."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(tuple(violations))
        self.violations = tuple(violations)

    def __str__(self) -> str:
        return "\n".join(str(v) for v in self.violations)


class ConfigError(InvalidRequest):
    """A config message is wrong: all that is wrong, at once, in `violations`.

    Example:
        >>> from lab_client import Client, ConfigError
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.plan("mnist", {"learning_rat": 0.1, "epochs": -1})
        ...     except ConfigError as error:
        ...         for violation in error.violations:
        ...             print(violation.key, violation.message)
    """


class NotFound(LabError):
    """The server does not have what was asked for.

    Attributes:
        name: what was asked for.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message, name)
        self.message = message
        self.name = name

    def __str__(self) -> str:
        return self.message


class RunNotFound(NotFound):
    """There is no run with this id.

    Example:
        >>> from lab_client import Client, RunNotFound
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.run("20200101-000000-none")
        ...     except RunNotFound as error:
        ...         print(error)
    """


class ExperimentNotFound(NotFound):
    """There is no experiment with this name.

    Example:
        >>> from lab_client import Client, ExperimentNotFound
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.experiment("minst")
        ...     except ExperimentNotFound as error:
        ...         print(error)
    """


class SearchNotFound(NotFound):
    """There is no search with this id.

    Example:
        >>> from lab_client import Client, SearchNotFound
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.get_search("20200101-000000-none")
        ...     except SearchNotFound as error:
        ...         print(error)
    """


class ArtifactNotFound(NotFound):
    """The run has no file at this path."""


class CheckpointNotFound(NotFound):
    """The run has no checkpoint at this step."""


class UploadNotFound(NotFound):
    """The server does not have this code, or it was sent by others; `create` and `plan` send it then."""


class UploadError(LabError):
    """Code cannot be sent: it is not there, too large, or has what only this machine has, such as links.

    Example:
        >>> from lab_client import Client
        >>> from lab_client.errors import UploadError
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.plan("./sine.txt")
        ...     except UploadError as error:
        ...         print(error)
    """


class InvalidState(LabError):
    """The run is not in a state in which this can be done.

    Example:
        >>> from lab_client import Client, InvalidState
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.create("mnist", {"dataset": "mnist_5k"}).wait()
        ...     except InvalidState as error:
        ...         print(error)
    """


class AlreadyExists(LabError):
    """The idempotency key was used before, with another request.

    Example:
        >>> from lab_client import Client, AlreadyExists
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         [client.create("mnist", {"seed": s}, idempotency_key="k") for s in (1, 2)]
        ...     except AlreadyExists as error:
        ...         print(error)
    """


class ResourceExhausted(LabError):
    """A limit is reached; the subclasses say which one."""


class QueueFull(ResourceExhausted):
    """The server's queue holds as many waiting runs as it may.

    Example:
        >>> from lab_client import Client, QueueFull
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         client.create("mnist", {"dataset": "mnist_5k", "epochs": 1}).start()
        ...     except QueueFull as error:
        ...         print(error)
    """


class LimitReached(ResourceExhausted):
    """The caller has as many open streams, or live runs, as one caller may have."""


class MessageTooLarge(ResourceExhausted):
    """A request or an answer is larger than client or server accept."""


class Unauthenticated(LabError):
    """The server asks for a token, or does not accept the one that was sent.

    Example:
        >>> from lab_client import Client, Unauthenticated
        >>> with Client(token="wrong") as client:  # doctest: +SKIP
        ...     try:
        ...         client.server_info()
        ...     except Unauthenticated as error:
        ...         print(error)
    """


class PermissionDenied(LabError):
    """The token's role does not allow this.

    Example:
        >>> from lab_client import Client, PermissionDenied
        >>> with Client() as client:  # doctest: +SKIP
        ...     try:
        ...         [run.delete() for run in client.runs(states=["CREATED"], limit=1)]
        ...     except PermissionDenied as error:
        ...         print(error)
    """


class Unavailable(LabError):
    """No server answers at this address, or not any more.

    Example:
        >>> from lab_client import Client, Unavailable
        >>> with Client("localhost:1", retry_timeout_s=0) as client:
        ...     try:
        ...         client.server_info()
        ...     except Unavailable:
        ...         print("is the server running?")
        is the server running?
    """


class DeadlineExceeded(LabError):
    """There was no answer in time.

    Example:
        >>> from lab_client import Client, DeadlineExceeded
        >>> with Client() as client:  # doctest: +SKIP
        ...     run = client.create("mnist", {"dataset": "mnist_5k", "epochs": 3}).start()
        ...     try:
        ...         run.wait(timeout_s=0.01)
        ...     except DeadlineExceeded:
        ...         run.stop()  # the wait ended, not the run
    """


class IncompatibleServer(LabError):
    """What answers there is not a lab-server, or one of another major version."""


class ServerError(LabError):
    """The server failed in a way that is not the caller's doing.

    Attributes:
        code: the name of the gRPC status code.
    """

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class EventGap(LabError):
    """The server left out events of a run, so what was read is not its whole log.

    Attributes:
        run_id: the run.
        expected: the seq that had to come.
        received: the seq that came.
    """

    def __init__(self, run_id: str, expected: int, received: int) -> None:
        super().__init__(run_id, expected, received)
        self.run_id = run_id
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        return (
            f"events {self.expected} to {self.received - 1} of run {self.run_id} are missing; "
            "read it again from its beginning, and report it if it stays so"
        )


class RunFailed(LabError):
    """The run that was waited for ended in another state than COMPLETED.

    Attributes:
        run_id: the run.
        state: the state's name.
        reason: one sentence: why.

    Example:
        >>> from lab_client import Client, RunFailed
        >>> with Client() as client:  # doctest: +SKIP
        ...     run = client.create("mnist", {"dataset": "mnist_5k", "epochs": 1}).start()
        ...     try:
        ...         run.wait(check=True)
        ...     except RunFailed as error:
        ...         print(error.state, error.reason)
    """

    def __init__(self, run_id: str, state: str, reason: str) -> None:
        super().__init__(run_id, state, reason)
        self.run_id = run_id
        self.state = state
        self.reason = reason

    def __str__(self) -> str:
        return f"run {self.run_id} {self.state.lower()}: {self.reason or 'no reason was recorded'}"


class SearchFailed(LabError):
    """The search that was waited for ended in another state than COMPLETED.

    Attributes:
        search_id: the search.
        state: the state's name.
        reason: one sentence: why.

    Example:
        >>> from lab_client import Client, SearchFailed, choice
        >>> with Client() as client:  # doctest: +SKIP
        ...     space = {"dataset": choice("mnist_5k"), "epochs": 1}
        ...     study = client.search("mnist", space, maximize="acuracy")
        ...     try:
        ...         study.wait(check=True)
        ...     except SearchFailed as error:
        ...         print(error.state, error.reason)
    """

    def __init__(self, search_id: str, state: str, reason: str) -> None:
        super().__init__(search_id, state, reason)
        self.search_id = search_id
        self.state = state
        self.reason = reason

    def __str__(self) -> str:
        return f"search {self.search_id} {self.state.lower()}: {self.reason}"


class DownloadError(LabError):
    """What was downloaded is not what the server has, or may not be written where it asks for."""


class MissingExtra(LabError):
    """A package is needed that only an extra of lab-train installs.

    Attributes:
        package: which is not installed.
        extra: the extra that has it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.package} is not installed; install it with: pip install 'lab-train[{self.extra}]'"


class ConnectionSettingsError(LabError):
    """An address, a certificate file or an environment variable cannot be used."""
