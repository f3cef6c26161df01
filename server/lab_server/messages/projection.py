"""What an event of the log means for its run's row."""

from __future__ import annotations

from dataclasses import replace

from lab_server.messages.events import EncodedEvent, decode
from lab_server.model.run import Run


def apply_event(run: Run, event: EncodedEvent) -> Run:
    """Return the run's row after an event: step, last metrics, progress, checkpoint.

    States are the supervisor's. After a truncate the last values stay until they are measured again,
    unless the run began anew.
    """
    match event.kind:
        case "metrics":
            measured = decode(event.payload).metrics
            metrics = dict(run.metrics)
            for column in measured.columns:
                if column.values:
                    metrics[column.name] = column.values[-1]
            step = measured.steps[-1] if measured.steps else 0
            return replace(run, metrics=metrics, step=max(run.step, step))
        case "progress":
            progress = decode(event.payload).progress
            return replace(
                run,
                step=max(run.step, progress.step),
                total_steps=progress.total_steps or run.total_steps,
                steps_per_second=progress.steps_per_second,
            )
        case "checkpoint":
            checkpoint = decode(event.payload).checkpoint
            return run if checkpoint.damage else replace(run, checkpoint_step=checkpoint.step)
        case "truncate":
            truncate = decode(event.payload).truncate
            at = truncate.checkpoint_step if truncate.HasField("checkpoint_step") else None
            return replace(
                run,
                step=min(run.step, at or 0),
                metrics=run.metrics if truncate.after_step >= 0 else {},
                checkpoint_step=at,
            )
        case _:
            return run
