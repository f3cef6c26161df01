"""Runs and requests: between the wire and the server's own classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from lab_rpc.v1 import config_pb2, provenance_pb2, run_pb2, training_service_pb2
from lab_server.messages.configs import (
    overrides_from_proto,
    run_order_from_proto,
    run_order_to_proto,
)
from lab_server.messages.events import STATES
from lab_server.messages.values import timestamp, value_to_proto
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState
from lab_server.model.upload import Upload

STATES_FROM_PROTO: Mapping[int, RunState] = {wire: state for state, wire in STATES.items()}


def options_from_proto(message: run_pb2.RunOptions) -> RunOptions:
    """Return how a run is to be executed."""
    return RunOptions(
        priority=message.priority,
        device=message.device,
        pool=message.pool,
        max_runtime_s=message.max_runtime_s,
        max_retries=message.max_retries if message.HasField("max_retries") else None,
        writers=tuple(message.writers),
        final_checkpoint=message.final_checkpoint or not message.HasField("final_checkpoint"),
    )


def options_to_proto(options: RunOptions) -> run_pb2.RunOptions:
    """Return the message of how a run is executed."""
    return run_pb2.RunOptions(
        priority=options.priority,
        device=options.device,
        pool=options.pool,
        max_runtime_s=options.max_runtime_s,
        max_retries=options.max_retries,
        writers=options.writers,
        final_checkpoint=options.final_checkpoint,
    )


def request_from_proto(
    message: training_service_pb2.CreateRunRequest, experiment: str, upload: Upload | None
) -> RunRequest:
    """Return what a client asks for.

    Args:
        message: the request.
        experiment: the name that it means.
        upload: the code that it means.
    """
    return RunRequest(
        experiment=experiment,
        overrides=overrides_from_proto(message.config),
        run_order=run_order_from_proto(message.config),
        models=tuple(message.config.models),
        options=options_from_proto(message.options),
        name=message.name or experiment,
        upload=upload,
        tags=tuple(dict.fromkeys(message.tags)),
        notes=message.notes,
        parent=(
            RunParent(message.parent.run_id, message.parent.step)
            if message.HasField("parent")
            else None
        ),
    )


def fingerprint(message: training_service_pb2.CreateRunRequest) -> str:
    """Return a hash that only the same request has, whatever its idempotency key."""
    bare = training_service_pb2.CreateRunRequest()
    bare.CopyFrom(message)
    bare.ClearField("idempotency_key")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def run_to_proto(
    run: Run,
    *,
    folder: Path,
    queue_position: int = 0,
    provenance: provenance_pb2.Provenance | None = None,
    forecast: run_pb2.Forecast | None = None,
) -> run_pb2.Run:
    """Return a run as the server knows it now.

    Args:
        run: as it is stored.
        folder: where its files are.
        queue_position: its place among the waiting runs, from 1; 0 when it does not wait.
        provenance: which code it was last run with, and where.
        forecast: when it will end, None for one that neither waits nor trains.
    """
    request = run.request
    return run_pb2.Run(
        id=run.id,
        experiment=request.experiment,
        name=request.name,
        tags=request.tags,
        notes=request.notes,
        owner=run.owner,
        config=config_pb2.ConfigMessage(
            overrides={key: value_to_proto(value) for key, value in request.overrides.items()},
            run_order=run_order_to_proto(request.run_order),
            models=request.models,
        ),
        options=options_to_proto(request.options),
        state=STATES[run.state],
        reason=run.reason,
        attempt=run.attempt,
        step=run.step,
        total_steps=run.total_steps,
        steps_per_second=run.steps_per_second if run.state.has_process else 0.0,
        metrics=run.metrics,
        queue_position=queue_position,
        slot=run.slot,
        parent=(
            run_pb2.RunParent(run_id=request.parent.run_id, step=request.parent.step)
            if request.parent
            else None
        ),
        create_time=timestamp(run.create_time_ns),
        start_time=timestamp(run.start_time_ns),
        end_time=timestamp(run.end_time_ns),
        last_seq=run.last_seq,
        checkpoint_step=run.checkpoint_step,
        config_hash=run.config_hash,
        folder=str(folder),
        until_step=run.until_step,
        forecast=forecast,
        configs={key: value_to_proto(value) for key, value in run.configs.items()},
        metric_ranges={
            name: run_pb2.MetricRange(min_value=low, max_value=high)
            for name, (low, high) in run.extremes.items()
        },
        trial=(
            run_pb2.SearchTrial(search_id=request.trial.search_id, number=request.trial.number)
            if request.trial
            else None
        ),
        provenance=provenance,
        upload_id=request.upload.id if request.upload else "",
    )
