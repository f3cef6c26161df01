"""Between proto messages and values: what stands in a run's event log."""

from __future__ import annotations

from collections.abc import Callable

from lab_client import events, provenance, runs
from lab_client.errors import ConfigError, IncompatibleServer, InvalidRequest, Violation
from lab_client.media import Media
from lab_client.protocol import config_convert
from lab_client.protocol.media_convert import media_items
from lab_rpc.v1 import event_pb2, provenance_pb2

_STATES: dict[int, runs.RunState] = {
    event_pb2.RUN_STATE_CREATED: runs.RunState.CREATED,
    event_pb2.RUN_STATE_QUEUED: runs.RunState.QUEUED,
    event_pb2.RUN_STATE_STARTING: runs.RunState.STARTING,
    event_pb2.RUN_STATE_RUNNING: runs.RunState.RUNNING,
    event_pb2.RUN_STATE_STOPPING: runs.RunState.STOPPING,
    event_pb2.RUN_STATE_COMPLETED: runs.RunState.COMPLETED,
    event_pb2.RUN_STATE_STOPPED: runs.RunState.STOPPED,
    event_pb2.RUN_STATE_FAILED: runs.RunState.FAILED,
}
_STATE_NUMBERS: dict[runs.RunState, event_pb2.RunState.ValueType] = {
    state: event_pb2.RunState.Value(f"RUN_STATE_{state.value}") for state in runs.RunState
}
_LEVELS: dict[int, events.LogLevel] = {
    event_pb2.LOG_LEVEL_UNSPECIFIED: events.LogLevel.STDOUT,
    event_pb2.LOG_LEVEL_DEBUG: events.LogLevel.DEBUG,
    event_pb2.LOG_LEVEL_INFO: events.LogLevel.INFO,
    event_pb2.LOG_LEVEL_WARNING: events.LogLevel.WARNING,
    event_pb2.LOG_LEVEL_ERROR: events.LogLevel.ERROR,
    event_pb2.LOG_LEVEL_STDERR: events.LogLevel.STDERR,
}
TERMINAL_STATES = frozenset(number for number, state in _STATES.items() if state.is_terminal)


def log_level(name: events.LogLevel | str) -> events.LogLevel:
    """Return a level; text in any case will do.

    Raises:
        InvalidRequest: if there is no such level.
    """
    try:
        return events.LogLevel(str(name).upper())
    except ValueError:
        known = ", ".join(level.lower() for level in events.LogLevel)
        sentence = f"there is no log level {str(name)!r}; there are {known}"
        raise InvalidRequest([Violation("level", sentence)]) from None


def to_state(name: runs.RunState | str) -> event_pb2.RunState.ValueType:
    """Return the number of a state; text in any case will do.

    Raises:
        ConfigError: if there is no such state.
    """
    try:
        return _STATE_NUMBERS[runs.RunState(str(name).upper())]
    except ValueError:
        known = ", ".join(runs.RunState)
        violation = Violation("states", f"there is no state {str(name)!r}; there are {known}")
        raise ConfigError([violation]) from None


def state(number: int) -> runs.RunState:
    """Return a run's state.

    Raises:
        IncompatibleServer: if a newer server sends one that this client does not know.
    """
    try:
        return _STATES[number]
    except KeyError:
        raise IncompatibleServer(
            f"the server sends a run state that this client does not know ({number}); update the client"
        ) from None


def code(message: provenance_pb2.Provenance) -> provenance.Provenance:
    """Return which code a run was made with, and where."""
    git, environment = message.git, message.environment
    return provenance.Provenance(
        module=message.module,
        class_name=message.class_name,
        path=message.path,
        digest=message.digest,
        files={file.path: file.sha256 for file in message.files},
        num_left_out=message.num_left_out,
        folder=message.folder,
        git=provenance.GitState(
            git.commit, git.subject, git.branch, git.is_dirty, tuple(git.untracked)
        )
        if message.HasField("git")
        else None,
        environment=provenance.Environment(
            python=environment.python,
            torch=environment.torch,
            lab_train=environment.lab_train,
            cuda=environment.cuda,
            cudnn=environment.cudnn,
            driver=environment.driver,
            host=environment.host,
            system=environment.system,
            device=environment.device,
            device_name=environment.device_name,
        ),
    )


def artifact(message: event_pb2.Artifact) -> runs.Artifact:
    """Return a file of a run."""
    return runs.Artifact(message.path, message.size_bytes)


def metrics(message: event_pb2.Metrics, attempt: int) -> events.Metrics:
    """Return the columns; slicing is the fast way to a list."""
    return events.Metrics(
        message.steps[:],
        {
            column.name: events.Column(column.values[:], column.rows[:])
            for column in message.columns
        },
        attempt,
    )


def _state_change(message: event_pb2.StateChange) -> events.StateChange:
    return events.StateChange(state(message.state), message.reason, message.traceback)


def _log(message: event_pb2.Log) -> events.Log:
    level = _LEVELS.get(message.level, events.LogLevel.STDOUT)
    return events.Log(level, tuple(message.lines))


_BODIES: dict[str, Callable[..., events.EventBody]] = {
    "state": _state_change,
    "log": _log,
    "progress": lambda m: events.Progress(m.step, m.total_steps, m.steps_per_second),
    "checkpoint": lambda m: events.Checkpoint(m.step, m.size_bytes, m.damage),
    "truncate": lambda m: events.Truncate(
        m.after_step, m.checkpoint_step if m.HasField("checkpoint_step") else None
    ),
    "config": lambda m: events.Config(tuple(config_convert.plan_item(item) for item in m.items)),
    "artifact": artifact,
    "provenance": code,
    "media": lambda m: Media(tuple(media_items(m.items))),
}


def event(message: event_pb2.RunEvent) -> events.Event:
    """Return one entry of a run's event log; a kind of a newer server has no body."""
    kind = message.WhichOneof("kind")
    body: events.EventBody = None
    if kind == "metrics":
        body = metrics(message.metrics, message.attempt)
    elif kind is not None:
        body = _BODIES[kind](getattr(message, kind))
    return events.Event(message.seq, message.attempt, message.time_unix_ns, body)
