"""What an attempt's trainer is launched with."""

from __future__ import annotations

from lab_server.files.run_folder import RunFolder
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Run
from lab_server.model.slot import device_of
from lab_server.supervisor.options import SupervisorOptions


def launch_spec(
    run: Run, folder: RunFolder, options: SupervisorOptions, num_threads: int
) -> LaunchSpec:
    """Return what the trainer of a run's current attempt needs to know.

    Args:
        run: in its slot.
        folder: the run's.
        options: of the supervisor.
        num_threads: that the trainer gets.
    """
    request, parent = run.request, run.request.parent
    return LaunchSpec(
        run_id=run.id,
        attempt=run.attempt,
        folder=folder.path,
        experiment=run.experiment,
        overrides=request.overrides,
        run_order=request.run_order,
        models=request.models,
        writers=request.options.writers,
        name=request.name,
        tags=request.tags,
        notes=request.notes,
        device=device_of(run.slot),
        num_threads=num_threads,
        is_resume=run.attempt > 1,
        max_checkpoint_step=-1 if run.checkpoint_step is None else run.checkpoint_step,
        parent_run_id=parent.run_id if parent else "",
        parent_folder=folder.parent if parent else None,
        parent_step=parent.step if parent else 0,
        until_step=run.until_step,
        seed=f"{request.trial.seed}" if request.trial else run.id,
        code_digest=run.code_digest,
        usage_interval_s=options.usage_interval_s,
        media=options.media,
        is_saved_at_end=request.options.final_checkpoint,
        slot=run.slot,
        upload=request.upload,
    )
