"""Every call of the service as a value: what is sent, how the answer reads, whether to send it twice.

No I/O: `Client` and `AsyncClient` are two thin shells that carry these out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from lab_client.configs import ExperimentInfo, ExperimentSchema, Plan, RunOrder
from lab_client.errors import CheckpointNotFound, InvalidRequest, Violation
from lab_client.history import History
from lab_client.protocol import convert
from lab_client.protocol.pages import Pages
from lab_client.runs import (
    Artifact,
    Dashboard,
    RunInfo,
    RunOptions,
    RunPage,
    RunParent,
    RunState,
    ServerInfo,
)
from lab_rpc.v1 import run_pb2
from lab_rpc.v1 import training_service_pb2 as pb

T = TypeVar("T")
Overrides = Mapping[str, object]
CallSequence = Generator["Operation[Any]", Any, T]
"""Several calls of which each needs the answers before it: yields them, returns what they make."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call.

    Attributes:
        rpc: the RPC's name.
        request: what is sent; for a stream of messages what begins it, for each try anew.
        parse: reads the answer.
        is_safe: whether it may be sent again when there was no answer: it only reads, sets a
            state whatever it was before, or carries an idempotency key.
    """

    rpc: str
    request: Message | Callable[[], Iterator[Message]]
    parse: Callable[[Any], T]
    is_safe: bool = True

    def to_send(self) -> Message | Iterator[Message]:
        """Return what gRPC is to be given."""
        return self.request() if callable(self.request) else self.request


def _run(response: Any) -> RunInfo:
    return convert.run(response.run)


def server_info() -> Operation[ServerInfo]:
    """Ask for the server's description."""
    return Operation("GetServerInfo", pb.GetServerInfoRequest(), convert.server_info)


def dashboard() -> Operation[Dashboard]:
    """Ask where the dashboard is, and for a code that logs in."""
    return Operation("OpenDashboard", pb.OpenDashboardRequest(), convert.dashboard)


def experiments() -> Operation[tuple[ExperimentInfo, ...]]:
    """Ask for the experiments."""
    return Operation(
        "ListExperiments",
        pb.ListExperimentsRequest(),
        lambda response: tuple(convert.experiment(item) for item in response.experiments),
    )


def experiment(
    name: str, upload_id: str = ""
) -> Operation[tuple[ExperimentInfo, ExperimentSchema]]:
    """Ask for one experiment, of code that was sent if there is an id."""
    return Operation(
        "GetExperiment",
        pb.GetExperimentRequest(name=name, upload_id=upload_id),
        lambda response: (convert.experiment(response.experiment), convert.schema(response.schema)),
    )


def plan(
    experiment: str,
    upload_id: str = "",
    *,
    overrides: Overrides | None = None,
    run_order: RunOrder | None = None,
    models: Iterable[str] | None = None,
    parent: RunParent | None = None,
) -> Operation[Plan]:
    """Ask what a config message resolves to."""
    config = convert.to_config(overrides, run_order, models)
    request = pb.PlanRunRequest(
        experiment=experiment, config=config, parent=_parent(parent), upload_id=upload_id
    )
    return Operation("PlanRun", request, lambda response: convert.plan(response.plan))


def create(
    experiment: str,
    upload_id: str = "",
    *,
    overrides: Overrides | None = None,
    run_order: RunOrder | None = None,
    models: Iterable[str] | None = None,
    name: str = "",
    tags: Iterable[str] = (),
    notes: str = "",
    options: RunOptions | None = None,
    parent: RunParent | None = None,
    idempotency_key: str | None = None,
) -> Operation[RunInfo]:
    """Create a run; the key makes it safe to send again, so there always is one."""
    request = pb.CreateRunRequest(
        experiment=experiment,
        config=convert.to_config(overrides, run_order, models),
        options=None if options is None else convert.to_run_options(options),
        name=name,
        tags=as_texts(tags),
        notes=notes,
        idempotency_key=idempotency_key or os.urandom(16).hex(),
        parent=_parent(parent),
        upload_id=upload_id,
    )
    return Operation("CreateRun", request, _run)


def _parent(parent: RunParent | None) -> run_pb2.RunParent | None:
    return None if parent is None else run_pb2.RunParent(run_id=parent.run_id, step=parent.step)


def as_texts(tags: Iterable[str]) -> list[str]:
    """Return tags or names as a list; one alone need not be in one."""
    found = [tags] if isinstance(tags, str) or not isinstance(tags, Iterable) else list(tags)
    wrong = [item for item in found if not isinstance(item, str)]
    if wrong:
        sentence = f"tags and names are texts, such as ['best'], got {wrong[0]!r}"
        raise InvalidRequest([Violation("", sentence)])
    return found


def queue(run_id: str, *, resume: bool, until_step: int | None = None) -> Operation[RunInfo]:
    """Queue a run."""
    if until_step is not None and until_step < 1:
        sentence = f"until_step must be at least 1, got {until_step}"
        raise InvalidRequest([Violation("until_step", sentence)])
    request = pb.StartRunRequest(
        run_id=run_id,
        resume=resume,
        idempotency_key=os.urandom(16).hex(),
        until_step=until_step or 0,
    )
    return Operation("StartRun", request, _run)


def get(run_id: str) -> Operation[RunInfo]:
    """Ask for a run, by its id or a prefix that only it has."""
    return Operation("GetRun", pb.GetRunRequest(run_id=run_id), _run)


def list_runs(
    page: Pages,
    *,
    experiment: str,
    states: Iterable[RunState | str],
    tags: Iterable[str],
    name_contains: str,
    where: str,
    order_by: str,
) -> Operation[RunPage]:
    """Ask for the next page of runs."""
    if isinstance(states, str):
        states = [states]
    request = pb.ListRunsRequest(
        experiment=experiment,
        states=[convert.to_state(state) for state in states],
        tags=as_texts(tags),
        order_by=order_by,
        page_size=page.size,
        page_token=page.token,
        name_contains=name_contains,
        where=where,
    )
    return Operation(
        "ListRuns",
        request,
        lambda response: RunPage(
            tuple(convert.run(run) for run in response.runs),
            response.next_page_token,
            response.num_all,
            tuple(response.warnings),
        ),
    )


def update(
    run_id: str,
    *,
    name: str | None,
    tags: Iterable[str] | None,
    notes: str | None,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
) -> Operation[RunInfo]:
    """Change what people wrote about a run; what is None stays."""
    added, removed = as_texts(add_tags), as_texts(remove_tags)
    changes = {"name": name, "tags": None if tags is None else as_texts(tags), "notes": notes}
    changes = {field: value for field, value in changes.items() if value is not None}
    if not changes and not added and not removed:
        sentence = "nothing to change: give name=, tags=, add_tags=, remove_tags= or notes="
        raise InvalidRequest([Violation("", sentence)])
    request = pb.UpdateRunRequest(
        run_id=run_id,
        update_mask=FieldMask(paths=sorted(changes)),
        add_tags=added,
        remove_tags=removed,
    )
    request.MergeFrom(pb.UpdateRunRequest(**changes))  # type: ignore[arg-type]
    return Operation("UpdateRun", request, _run)


def delete(run_id: str) -> Operation[None]:
    """Delete a run. Not sent twice: a second answer would be that there is no such run."""
    request = pb.DeleteRunRequest(run_id=run_id)
    return Operation("DeleteRun", request, lambda _: None, is_safe=False)


def stop(run_id: str, *, checkpoint: bool, grace_s: float | None) -> Operation[RunInfo]:
    """Ask a run to stop."""
    request = pb.StopRunRequest(run_id=run_id, checkpoint=checkpoint, grace_s=grace_s)
    return Operation("StopRun", request, _run)


def save_checkpoint(run_id: str) -> Operation[RunInfo]:
    """Ask a run that trains for a checkpoint."""
    return Operation("SaveCheckpoint", pb.SaveCheckpointRequest(run_id=run_id), _run)


def query_metrics(
    run_id: str,
    *,
    names: Iterable[str],
    max_points: int,
    min_step: int | None,
    max_step: int | None,
) -> Operation[History]:
    """Ask for a run's metrics."""
    request = pb.QueryMetricsRequest(
        run_id=run_id,
        names=as_texts(names),
        max_points=max_points,
        min_step=min_step,
        max_step=max_step,
    )
    return Operation(
        "QueryMetrics", request, lambda response: convert.history(run_id, response.series)
    )


def artifacts(run_id: str) -> Operation[tuple[Artifact, ...]]:
    """Ask for the files of a run."""
    return Operation(
        "ListArtifacts",
        pb.ListArtifactsRequest(run_id=run_id),
        lambda response: tuple(convert.artifact(item) for item in response.artifacts),
    )


@dataclass(frozen=True, slots=True)
class ForkChanges:
    """What a fork changes of the run that it continues.

    Attributes:
        step: of the checkpoint; None takes the newest.
        overrides: the changed configs.
        more_epochs: added to the epochs that the other run was given; 0 leaves them.
    """

    step: int | None = None
    overrides: Overrides | None = None
    more_epochs: int = 0


def plan_fork(run_id: str, changes: ForkChanges) -> CallSequence[Plan]:
    """Ask what the configs of a fork resolve to, and where it would end."""
    parent, overrides, start = yield from _prepare(run_id, changes)
    resolved: Plan = yield plan(
        parent.experiment,
        overrides=overrides,
        run_order=parent.run_order,
        models=parent.models,
        parent=start,
    )
    return resolved


def fork(
    run_id: str,
    changes: ForkChanges,
    *,
    name: str = "",
    tags: Iterable[str] | None = None,
    notes: str = "",
    options: RunOptions | None = None,
    start: bool = True,
) -> CallSequence[RunInfo]:
    """Create a run from another one's checkpoint, with its configs and the changes to them."""
    parent, overrides, place = yield from _prepare(run_id, changes)
    run: RunInfo = yield create(
        parent.experiment,
        overrides=overrides,
        run_order=parent.run_order,
        models=parent.models,
        name=name or parent.name,
        tags=parent.tags if tags is None else tags,
        notes=notes,
        options=options or parent.options,
        parent=place,
    )
    if start:
        run = yield queue(run.id, resume=False)
    return run


def _prepare(
    run_id: str, changes: ForkChanges
) -> CallSequence[tuple[RunInfo, Mapping[str, object], RunParent]]:
    """Return the run to fork, all configs of the fork, and where it starts."""
    convert.check_overrides(changes.overrides)
    parent: RunInfo = yield get(run_id)
    step = parent.checkpoint_step if changes.step is None else changes.step
    if step is None:
        raise CheckpointNotFound(
            f"run {parent.id} has no checkpoint to fork from; a run saves one at its end unless "
            "it is told not to or has no models, while it trains with checkpoint_interval=N, and when asked "
            "(lab checkpoint RUN, lab stop RUN)",
            parent.id,
        )
    overrides: dict[str, object] = {**parent.overrides, **(changes.overrides or {})}
    if changes.more_epochs:
        overrides["epochs"] = yield from _more_epochs(parent, changes)
    return parent, overrides, RunParent(parent.id, step)


def _more_epochs(parent: RunInfo, changes: ForkChanges) -> CallSequence[int]:
    if changes.more_epochs < 0 or "epochs" in (changes.overrides or {}):
        sentence = (
            "give epochs, which is the total, or more_epochs, which are added to it; 1 or more"
        )
        raise InvalidRequest([Violation("epochs", sentence)])
    known: Plan = yield plan(
        parent.experiment,
        parent.upload_id,
        overrides=parent.overrides,
        run_order=parent.run_order,
    )
    epochs = known.values.get("epochs")
    if not isinstance(epochs, int):
        sentence = f"experiment {parent.experiment!r} has no epochs of which there could be more"
        raise InvalidRequest([Violation("epochs", sentence)])
    return epochs + changes.more_epochs
