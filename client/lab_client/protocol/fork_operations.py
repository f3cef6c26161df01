"""Going on from a run's checkpoint with other configs: which calls that takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab_client.configs import Plan
from lab_client.errors import CheckpointNotFound, InvalidRequest, Violation
from lab_client.protocol import config_convert
from lab_client.protocol.calls import CallSequence
from lab_client.protocol.operations import Overrides, create, get, plan, queue
from lab_client.runs import RunInfo, RunOptions, RunParent, SentCode


def plan_fork(
    run_id: str,
    step: int | None = None,
    overrides: Overrides | None = None,
    *,
    options: RunOptions | None = None,
    more_epochs: int = 0,
) -> CallSequence[Plan]:
    """Ask what the configs of a fork resolve to, and where it would end."""
    parent, changed, place = yield from _prepare(run_id, step, overrides, more_epochs)
    return (
        yield from plan(
            _same_code(parent),
            changed,
            run_order=parent.run_order,
            models=parent.models,
            options=options or parent.options,
            parent=place,
        )
    )


def fork(
    run_id: str,
    step: int | None = None,
    overrides: Overrides | None = None,
    *,
    name: str = "",
    tags: Iterable[str] | None = None,
    notes: str = "",
    options: RunOptions | None = None,
    start: bool = True,
    more_epochs: int = 0,
) -> CallSequence[RunInfo]:
    """Create a run from another one's checkpoint, with its configs and the changes to them."""
    parent, changed, place = yield from _prepare(run_id, step, overrides, more_epochs)
    run = yield from create(
        _same_code(parent),
        changed,
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


def _same_code(parent: RunInfo) -> SentCode:
    return SentCode(parent.experiment, "")  # a fork has its parent's code: the server knows which


def _prepare(
    run_id: str, step: int | None, overrides: Overrides | None, more_epochs: int
) -> CallSequence[tuple[RunInfo, Mapping[str, object], RunParent]]:
    """Return the run to fork, all configs of the fork, and where it starts."""
    config_convert.check_overrides(overrides)
    parent: RunInfo = yield get(run_id)
    step = parent.checkpoint_step if step is None else step
    if step is None:
        raise CheckpointNotFound(
            f"run {parent.id} has no checkpoint to fork from; a run saves one at its end unless "
            "it is told not to or has no models, while it trains with checkpoint_interval=N, and when asked "
            "(lab checkpoint RUN, lab stop RUN)",
            parent.id,
        )
    changed: dict[str, object] = {**parent.overrides, **(overrides or {})}
    if more_epochs:
        if more_epochs < 0 or "epochs" in (overrides or {}):
            sentence = (
                "give epochs, which is the total, or more_epochs, which are added to it; 1 or more"
            )
            raise InvalidRequest([Violation("epochs", sentence)])
        changed["epochs"] = more_epochs + (yield from _epochs(parent))
    return parent, changed, RunParent(parent.id, step)


def _epochs(parent: RunInfo) -> CallSequence[int]:
    known = yield from plan(
        SentCode(parent.experiment, parent.upload_id),
        parent.overrides,
        run_order=parent.run_order,
    )
    epochs = known.values.get("epochs")
    if not isinstance(epochs, int):
        sentence = f"experiment {parent.experiment!r} has no epochs of which there could be more"
        raise InvalidRequest([Violation("epochs", sentence)])
    return epochs
