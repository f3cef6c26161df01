"""The one place where proto messages meet domain values, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from lab_client import configs, events, provenance, runs
from lab_client.errors import ConfigError, IncompatibleServer, InvalidRequest, Violation
from lab_client.history import History, Series
from lab_client.media import Media
from lab_client.protocol.media_convert import media_items
from lab_rpc.v1 import (
    config_pb2,
    event_pb2,
    experiment_pb2,
    provenance_pb2,
    run_pb2,
    training_service_pb2,
)

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
_ORIGINS: dict[int, configs.ValueOrigin] = {
    config_pb2.VALUE_ORIGIN_DEFAULT: configs.ValueOrigin.DEFAULT,
    config_pb2.VALUE_ORIGIN_OVERRIDE: configs.ValueOrigin.OVERRIDE,
    config_pb2.VALUE_ORIGIN_OPTION: configs.ValueOrigin.OPTION,
    config_pb2.VALUE_ORIGIN_COMPUTED: configs.ValueOrigin.COMPUTED,
}
_INT64 = range(-(2**63), 2**63)
TERMINAL_STATES = frozenset(number for number, state in _STATES.items() if state.is_terminal)


# To the wire.


def to_config(
    overrides: Mapping[str, object] | None,
    run_order: configs.RunOrder | None = None,
    models: Iterable[str] | None = None,
) -> config_pb2.ConfigMessage:
    """Build a config message; all values that cannot travel are named in one ConfigError."""
    message = config_pb2.ConfigMessage()
    check_overrides(overrides)
    violations = []
    for key, value in (overrides or {}).items():
        if not isinstance(key, str):
            violations.append(Violation(str(key), f"config keys are text, got {key!r}"))
            continue
        try:
            # A message's map is filled by CopyFrom; null is a Value with nothing set.
            message.overrides[key].CopyFrom(to_value(value))
        except (TypeError, ValueError) as error:
            violations.append(Violation(key, f"{key}: {error}"))
    if isinstance(run_order, str):
        violations.append(
            Violation("run_order", f"run_order is a list of names; write [{run_order!r}]")
        )
    else:
        for group in run_order or ():
            names = [group] if isinstance(group, str) else list(group)
            message.run_order.add(names=names)
    if isinstance(models, str):
        models = [models]
    message.models.extend(sorted(models or ()))
    if violations:
        raise ConfigError(violations)
    return message


def check_overrides(overrides: object) -> None:
    """Raise a ConfigError when configs are no dict."""
    if overrides is not None and not isinstance(overrides, Mapping):
        sentence = f"configs are a dict, such as {{'epochs': 2}}, got {overrides!r}"
        raise ConfigError([Violation("", sentence)])


def to_value(value: object) -> config_pb2.Value:
    """Build a typed value.

    Raises:
        TypeError: if it is of no type that travels.
        ValueError: if it is a whole number beyond 64 bits.
    """
    match value:
        case None:
            return config_pb2.Value()
        case bool():
            return config_pb2.Value(bool_value=value)
        case int():
            if value not in _INT64:
                raise ValueError("a whole number must fit into 64 bits")
            return config_pb2.Value(int_value=value)
        case float():
            return config_pb2.Value(double_value=value)
        case str():
            return config_pb2.Value(string_value=value)
        case list() | tuple():
            items = [to_value(item) for item in value]
            return config_pb2.Value(list_value=config_pb2.ListValue(values=items))
    scalar = getattr(value, "item", None)  # numpy's scalars and torch's, without importing either
    if callable(scalar) and getattr(value, "shape", None) == ():
        return to_value(scalar())
    raise TypeError(
        f"{type(value).__name__} cannot be sent; use bool, int, float, str, None or a list of them"
    )


def to_run_options(options: runs.RunOptions) -> run_pb2.RunOptions:
    """Build run options; values that the wire cannot hold are a ConfigError."""
    try:
        return run_pb2.RunOptions(
            priority=options.priority,
            device=options.device,
            pool=options.pool,
            max_runtime_s=options.max_runtime_s,
            max_retries=options.max_retries,
            writers=sorted(options.writers),
            final_checkpoint=options.final_checkpoint,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError([Violation("options", f"run options: {error}")]) from None


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


# From the wire.


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


def value(message: config_pb2.Value) -> configs.PlainValue:
    """Return the plain value; null for none set."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list_value":
        return [value(item) for item in message.list_value.values]
    plain: configs.PlainValue = getattr(message, kind)
    return plain


def run_order(groups: Iterable[config_pb2.RunOrderGroup]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of names."""
    return tuple(tuple(group.names) for group in groups)


def config_item(message: config_pb2.ConfigItem) -> configs.ConfigItem:
    """Return one item of a schema."""
    return configs.ConfigItem(
        key=message.key,
        type=message.type,
        default=value(message.default_value),
        options=tuple(message.options),
        doc=message.doc,
        constraints=tuple(
            configs.Constraint(item.rule, value(item.operand)) for item in message.constraints
        ),
        is_hyperparam=message.is_hyperparam,
        is_required=message.is_required,
    )


def experiment(message: experiment_pb2.Experiment) -> configs.ExperimentInfo:
    """Return an experiment as a list shows it."""
    return configs.ExperimentInfo(message.name, message.summary, message.error, message.traceback)


def schema(message: experiment_pb2.ExperimentSchema) -> configs.ExperimentSchema:
    """Return the schema of an experiment's configs."""
    return configs.ExperimentSchema(
        doc=message.doc,
        items=tuple(config_item(item) for item in message.items),
        run_targets=tuple(message.run_targets),
        default_run_order=run_order(message.default_run_order),
    )


def plan_item(message: config_pb2.PlanItem) -> configs.PlanItem:
    """Return one item of a plan."""
    return configs.PlanItem(
        key=message.key,
        value=value(message.value),
        origin=_ORIGINS.get(message.origin, configs.ValueOrigin.COMPUTED),
        option=message.option,
        other_options=tuple(message.other_options),
        is_hyperparam=message.is_hyperparam,
    )


def plan(message: config_pb2.Plan) -> configs.Plan:
    """Return a resolved config message."""
    return configs.Plan(
        experiment=message.experiment,
        items=tuple(plan_item(item) for item in message.items),
        run_order=run_order(message.run_order),
        hash=message.hash,
        start_step=message.start_step,
        total_steps=message.total_steps if message.HasField("total_steps") else None,
    )


def _time(message: run_pb2.Run, field: str) -> datetime | None:
    if not message.HasField(field):  # type: ignore[arg-type]
        return None
    timestamp: Timestamp = getattr(message, field)
    return timestamp.ToDatetime(UTC)


def run_options(options: run_pb2.RunOptions) -> runs.RunOptions:
    """Return how a run is executed."""
    return runs.RunOptions(
        priority=options.priority,
        device=options.device,
        pool=options.pool,
        max_runtime_s=options.max_runtime_s,
        max_retries=options.max_retries if options.HasField("max_retries") else None,
        writers=tuple(options.writers),
        final_checkpoint=options.final_checkpoint or not options.HasField("final_checkpoint"),
    )


def run(message: run_pb2.Run) -> runs.RunInfo:
    """Return a run as the server knows it."""
    return runs.RunInfo(
        id=message.id,
        experiment=message.experiment,
        name=message.name,
        tags=tuple(message.tags),
        notes=message.notes,
        owner=message.owner,
        overrides={key: value(item) for key, item in sorted(message.config.overrides.items())},
        run_order=run_order(message.config.run_order),
        models=tuple(message.config.models),
        options=run_options(message.options),
        state=state(message.state),
        reason=message.reason,
        attempt=message.attempt,
        step=message.step,
        total_steps=message.total_steps,
        steps_per_second=message.steps_per_second,
        metrics=dict(sorted(message.metrics.items())),
        queue_position=message.queue_position,
        slot=message.slot,
        parent=runs.RunParent(message.parent.run_id, message.parent.step)
        if message.HasField("parent")
        else None,
        create_time=_time(message, "create_time"),
        start_time=_time(message, "start_time"),
        end_time=_time(message, "end_time"),
        last_seq=message.last_seq,
        checkpoint_step=message.checkpoint_step if message.HasField("checkpoint_step") else None,
        config_hash=message.config_hash,
        folder=message.folder,
        until_step=message.until_step,
        configs={key: value(item) for key, item in sorted(message.configs.items())},
        metric_ranges={
            name: runs.MetricRange(item.min_value, item.max_value)
            for name, item in sorted(message.metric_ranges.items())
        },
        trial=runs.TrialOf(message.trial.search_id, message.trial.number)
        if message.HasField("trial")
        else None,
        provenance=code(message.provenance) if message.HasField("provenance") else None,
        upload_id=message.upload_id,
        forecast=forecast(message.forecast) if message.HasField("forecast") else None,
    )


def forecast(message: run_pb2.Forecast) -> runs.Forecast:
    """Return when a run will end."""
    return runs.Forecast(
        message.ends_in_s if message.HasField("ends_in_s") else None,
        message.starts_in_s if message.HasField("starts_in_s") else None,
        message.reason,
    )


def dashboard(message: training_service_pb2.OpenDashboardResponse) -> runs.Dashboard:
    """Return where the dashboard is."""
    return runs.Dashboard(message.url, message.code)


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


def server_info(message: training_service_pb2.GetServerInfoResponse) -> runs.ServerInfo:
    """Return what a server says of itself."""
    return runs.ServerInfo(
        version=message.version,
        slots=tuple(runs.Slot(slot.name, slot.run_id) for slot in message.slots),
        queue_length=message.queue_length,
        queue_limit=message.queue_limit,
        principal=message.principal,
        role=message.role,
    )


def history(run_id: str, series: Sequence[training_service_pb2.MetricSeries]) -> History:
    """Return the history of a run's metrics."""
    return History(
        run_id,
        {
            item.name: Series(
                name=item.name,
                steps=item.steps[:],
                values=item.values[:],
                num_points=item.num_points,
                min_value=item.min_value,
                max_value=item.max_value,
                last_value=item.last_value,
            )
            for item in series
        },
    )


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
    "config": lambda m: events.Config(tuple(plan_item(item) for item in m.items)),
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
