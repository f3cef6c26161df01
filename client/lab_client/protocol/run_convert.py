"""Between proto messages and values: runs, their histories, and the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from lab_client import runs
from lab_client.errors import ConfigError, Violation
from lab_client.history import History, Series
from lab_client.protocol import config_convert, event_convert
from lab_rpc.v1 import run_pb2, training_service_pb2


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
        overrides={
            key: config_convert.value(item)
            for key, item in sorted(message.config.overrides.items())
        },
        run_order=config_convert.run_order(message.config.run_order),
        models=tuple(message.config.models),
        options=run_options(message.options),
        state=event_convert.state(message.state),
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
        configs={key: config_convert.value(item) for key, item in sorted(message.configs.items())},
        metric_ranges={
            name: runs.MetricRange(item.min_value, item.max_value)
            for name, item in sorted(message.metric_ranges.items())
        },
        trial=runs.TrialOf(message.trial.search_id, message.trial.number)
        if message.HasField("trial")
        else None,
        provenance=event_convert.code(message.provenance)
        if message.HasField("provenance")
        else None,
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


def server_info(message: training_service_pb2.GetServerInfoResponse) -> runs.ServerInfo:
    """Return what a server says of itself."""
    return runs.ServerInfo(
        version=message.version,
        slots=tuple(runs.Slot(slot.name, slot.run_id) for slot in message.slots),
        queue_length=message.queue_length,
        queue_limit=message.queue_limit,
        principal=message.principal,
        role=message.role,
        absent_leader=message.absent_leader,
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
