"""Every call of the service as a value: what is sent, how the answer reads, whether to send it twice.

No I/O: `Client` and `AsyncClient` are two thin shells that carry these out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan, RunOrder
from lab_client.errors import InvalidRequest, Violation
from lab_client.history import History
from lab_client.protocol import config_convert, event_convert, run_convert
from lab_client.protocol.calls import CallSequence, Operation, as_texts
from lab_client.protocol.pages import Page, Pages
from lab_client.protocol.upload import ExperimentSource, with_code
from lab_client.runs import (
    Artifact,
    Dashboard,
    RunInfo,
    RunOptions,
    RunParent,
    RunState,
    ServerInfo,
)
from lab_rpc.v1 import run_pb2
from lab_rpc.v1 import training_service_pb2 as pb

Overrides = Mapping[str, object]


def _run(response: Any) -> RunInfo:
    return run_convert.run(response.run)


def server_info() -> Operation[ServerInfo]:
    """Ask for the server's description."""
    return Operation("GetServerInfo", pb.GetServerInfoRequest, run_convert.server_info)


def dashboard() -> Operation[Dashboard]:
    """Ask where the dashboard is, and for a code that logs in."""
    return Operation("OpenDashboard", pb.OpenDashboardRequest, run_convert.dashboard)


def experiments() -> Operation[tuple[ExperimentInfo, ...]]:
    """Ask for the experiments."""
    return Operation(
        "ListExperiments",
        pb.ListExperimentsRequest,
        lambda response: tuple(config_convert.experiment(item) for item in response.experiments),
    )


def experiment(
    name: str, upload_id: str = ""
) -> Operation[tuple[ExperimentInfo, ExperimentSchema]]:
    """Ask for one experiment, of code that was sent if there is an id."""
    return Operation(
        "GetExperiment",
        lambda: pb.GetExperimentRequest(name=name, upload_id=upload_id),
        lambda response: (
            config_convert.experiment(response.experiment),
            config_convert.schema(response.schema),
        ),
    )


def plan(
    experiment: ExperimentSource,
    overrides: Overrides | None = None,
    *,
    run_order: RunOrder | None = None,
    models: Iterable[str] | None = None,
    options: RunOptions | None = None,
    parent: RunParent | None = None,
) -> CallSequence[Plan]:
    """Ask what a config message resolves to."""

    def ask(name: str, upload_id: str) -> Operation[Plan]:
        return Operation(
            "PlanRun",
            lambda: pb.PlanRunRequest(
                experiment=name,
                upload_id=upload_id,
                config=config_convert.to_config(overrides, run_order, models),
                options=None if options is None else run_convert.to_run_options(options),
                parent=_parent(parent),
            ),
            lambda response: config_convert.plan(response.plan),
        )

    return with_code(experiment, ask)


def create(
    experiment: ExperimentSource,
    overrides: Overrides | None = None,
    *,
    run_order: RunOrder | None = None,
    models: Iterable[str] | None = None,
    name: str = "",
    tags: Iterable[str] = (),
    notes: str = "",
    options: RunOptions | None = None,
    parent: RunParent | None = None,
    idempotency_key: str | None = None,
) -> CallSequence[RunInfo]:
    """Create a run; the key makes it safe to send again, so there always is one."""

    def ask(experiment_name: str, upload_id: str) -> Operation[RunInfo]:
        return Operation(
            "CreateRun",
            lambda: pb.CreateRunRequest(
                experiment=experiment_name,
                upload_id=upload_id,
                config=config_convert.to_config(overrides, run_order, models),
                options=None if options is None else run_convert.to_run_options(options),
                name=name,
                tags=as_texts(tags),
                notes=notes,
                idempotency_key=idempotency_key or os.urandom(16).hex(),
                parent=_parent(parent),
            ),
            _run,
        )

    return with_code(experiment, ask)


def _parent(parent: RunParent | None) -> run_pb2.RunParent | None:
    return None if parent is None else run_pb2.RunParent(run_id=parent.run_id, step=parent.step)


def queue(run_id: str, *, resume: bool, until_step: int | None = None) -> Operation[RunInfo]:
    """Queue a run."""
    if until_step is not None and until_step < 1:
        sentence = f"until_step must be at least 1, got {until_step}"
        raise InvalidRequest([Violation("until_step", sentence)])
    return Operation(
        "StartRun",
        lambda: pb.StartRunRequest(
            run_id=run_id,
            resume=resume,
            idempotency_key=os.urandom(16).hex(),
            until_step=until_step or 0,
        ),
        _run,
    )


def get(run_id: str) -> Operation[RunInfo]:
    """Ask for a run, by its id or a prefix that only it has."""
    return Operation("GetRun", lambda: pb.GetRunRequest(run_id=run_id), _run)


def list_runs(
    *,
    experiment: str = "",
    states: Iterable[RunState | str] = (),
    tags: Iterable[str] = (),
    name_contains: str = "",
    where: str = "",
    order_by: str = "",
    limit: int | None = None,
) -> Pages[RunInfo]:
    """Ask for the runs for which all filters hold."""
    filtered = _filtered(experiment, states, tags, name_contains, where)

    def ask(token: str, size: int) -> Operation[Page[RunInfo]]:
        return Operation(
            "ListRuns",
            lambda: filtered(order_by=order_by, page_size=size, page_token=token),
            _page,
        )

    return Pages(ask, limit)


def count_runs(
    *,
    experiment: str = "",
    states: Iterable[RunState | str] = (),
    tags: Iterable[str] = (),
    name_contains: str = "",
    where: str = "",
) -> Operation[int]:
    """Ask how many runs there are for which all filters hold."""
    filtered = _filtered(experiment, states, tags, name_contains, where)
    return Operation(
        "ListRuns", lambda: filtered(page_size=1), lambda response: int(response.num_all)
    )


def _filtered(
    experiment: str,
    states: Iterable[RunState | str],
    tags: Iterable[str],
    name_contains: str,
    where: str,
) -> Callable[..., pb.ListRunsRequest]:
    """Return what builds a request that lacks only which page is wanted."""
    names = [states] if isinstance(states, str) else states
    return partial(
        pb.ListRunsRequest,
        experiment=experiment,
        states=[event_convert.to_state(state) for state in names],
        tags=as_texts(tags),
        name_contains=name_contains,
        where=where,
    )


def _page(response: pb.ListRunsResponse) -> Page[RunInfo]:
    runs = tuple(run_convert.run(run) for run in response.runs)
    return Page(runs, response.next_page_token, tuple(response.warnings))


def update(
    run_id: str,
    *,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
) -> Operation[RunInfo]:
    """Change what people wrote about a run; what is None stays."""
    added, removed = as_texts(add_tags), as_texts(remove_tags)
    changes: dict[str, Any] = {
        "name": name,
        "tags": None if tags is None else as_texts(tags),
        "notes": notes,
    }
    changes = {field: value for field, value in changes.items() if value is not None}
    if not changes and not added and not removed:
        sentence = "nothing to change: give name=, tags=, add_tags=, remove_tags= or notes="
        raise InvalidRequest([Violation("", sentence)])
    return Operation(
        "UpdateRun",
        lambda: pb.UpdateRunRequest(
            run_id=run_id,
            update_mask=FieldMask(paths=sorted(changes)),
            add_tags=added,
            remove_tags=removed,
            **changes,
        ),
        _run,
    )


def delete(run_id: str) -> Operation[None]:
    """Delete a run. Not sent twice: a second answer would be that there is no such run."""
    return Operation(
        "DeleteRun", lambda: pb.DeleteRunRequest(run_id=run_id), lambda _: None, is_safe=False
    )


def stop(run_id: str, *, checkpoint: bool, grace_s: float | None) -> Operation[RunInfo]:
    """Ask a run to stop."""
    return Operation(
        "StopRun",
        lambda: pb.StopRunRequest(run_id=run_id, checkpoint=checkpoint, grace_s=grace_s),
        _run,
    )


def save_checkpoint(run_id: str) -> Operation[RunInfo]:
    """Ask a run that trains for a checkpoint."""
    return Operation("SaveCheckpoint", lambda: pb.SaveCheckpointRequest(run_id=run_id), _run)


def query_metrics(
    run_id: str,
    names: Iterable[str] = (),
    *,
    max_points: int = 0,
    min_step: int | None = None,
    max_step: int | None = None,
) -> Operation[History]:
    """Ask for a run's metrics."""
    return Operation(
        "QueryMetrics",
        lambda: pb.QueryMetricsRequest(
            run_id=run_id,
            names=as_texts(names),
            max_points=max_points,
            min_step=min_step,
            max_step=max_step,
        ),
        lambda response: run_convert.history(run_id, response.series),
    )


def artifacts(run_id: str) -> Operation[tuple[Artifact, ...]]:
    """Ask for the files of a run."""
    return Operation(
        "ListArtifacts",
        lambda: pb.ListArtifactsRequest(run_id=run_id),
        lambda response: tuple(event_convert.artifact(item) for item in response.artifacts),
    )
