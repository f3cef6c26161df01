"""`lab run`, `watch`, `stop`, `resume`, `fork`, `edit`, `rm`: what changes runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lab_client.cli.arguments import (
    Configs,
    ExperimentName,
    RunId,
    RunIds,
    parse_overrides,
    read_source,
)
from lab_client.cli.context import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    AsJson,
    connect,
    print_json,
)
from lab_client.cli.live import print_states, show_live
from lab_client.cli.run_options import (
    ConfigsFile,
    Device,
    FinalCheckpoint,
    MaxRetries,
    MaxRuntime,
    Notes,
    Pool,
    Priority,
    Writers,
    changed,
)
from lab_client.configs import Plan
from lab_client.errors import InvalidRequest, LabError, RunFailed, Violation
from lab_client.runs import RunOptions, RunState
from lab_client.sync.run import Run

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch the run until it ends.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", "-t", help="A tag; may be repeated.")]
WatchedMetrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", "-m", help="With --watch: glob of the metrics to show; may be repeated."
    ),
]
UntilStep = Annotated[
    int | None,
    typer.Option(min=1, help="Save and stop at this step; lab resume goes on from there."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, watch, stop, checkpoint, resume, fork, edit):
        app.command(command.__name__)(command)
    app.command("rm")(remove)
    app.command("delete", hidden=True)(remove)


def run(
    context: typer.Context,
    experiment: ExperimentName,
    configs: Configs = None,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    tags: Tags = None,
    notes: Notes = "",
    file: ConfigsFile = None,
    priority: Priority = None,
    device: Device = None,
    pool: Pool = None,
    writers: Writers = None,
    max_runtime_s: MaxRuntime = None,
    max_retries: MaxRetries = None,
    final_checkpoint: FinalCheckpoint = None,
    first: Annotated[
        list[str] | None,
        typer.Option(
            "--first", help="A config item to compute first; repeat for more, in this order."
        ),
    ] = None,
    until_step: UntilStep = None,
    watch: Watch = False,
    metrics: WatchedMetrics = None,
    as_json: AsJson = False,
) -> None:
    """Start a run and print its id."""
    _refuse_metrics_alone(watch, metrics)
    client, source = connect(context), read_source(experiment)
    options = changed(
        RunOptions(),
        priority=priority,
        device=device,
        pool=pool,
        writers=writers,
        max_runtime_s=max_runtime_s,
        max_retries=max_retries,
        final_checkpoint=final_checkpoint,
    )
    handle = client.create(
        source,
        parse_overrides(client, source, configs or [], file),
        run_order=first,
        name=name,
        tags=tags or (),
        notes=notes,
        options=options,
    )
    _report(_started(handle, until_step), watch, as_json, metrics or ())


def watch(
    context: typer.Context,
    run: RunId,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Glob of the metrics to show; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch a run: its progress, metrics and prints. Ctrl-C leaves it running."""
    _watch(connect(context).run(run), as_json, metrics or ())


def stop(
    context: typer.Context,
    runs: RunIds,
    checkpoint: Annotated[bool, typer.Option(help="Write a checkpoint to resume from.")] = True,
    grace_s: Annotated[
        float | None, typer.Option(min=0, help="Seconds until it is ended by SIGTERM and SIGKILL.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has stopped.")] = False,
) -> None:
    """Ask runs to stop at their next step."""
    client = connect(context)
    handles = [client.run(run_id) for run_id in runs]
    for handle in handles:
        handle.stop(checkpoint=checkpoint, grace_s=grace_s)
    for handle in handles:
        if wait:
            handle.wait()
        typer.echo(f"{handle.id} {handle.info.state}")


def checkpoint(
    context: typer.Context,
    runs: RunIds,
    timeout_s: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until it is saved.")
    ] = 60,
) -> None:
    """Have runs that train save a checkpoint now, and print its step."""
    client = connect(context)
    for handle in [client.run(run_id) for run_id in runs]:
        step = handle.save_checkpoint(timeout_s=timeout_s)
        typer.echo(f"{handle.id} checkpoint {step}")


def resume(
    context: typer.Context,
    runs: RunIds,
    until_step: UntilStep = None,
    watch: Watch = False,
    metrics: WatchedMetrics = None,
    as_json: AsJson = False,
) -> None:
    """Resume stopped or failed runs from their last checkpoints, or start created ones."""
    _refuse_metrics_alone(watch, metrics)
    if watch and len(runs) > 1:
        raise InvalidRequest([Violation("watch", "only one run can be watched; leave --watch out")])
    client = connect(context)
    for handle in [client.run(run_id) for run_id in runs]:
        go_on = handle.start if handle.info.state is RunState.CREATED else handle.resume
        _report(go_on(until_step=until_step), watch, as_json, metrics or ())


def fork(
    context: typer.Context,
    run: RunId,
    configs: Configs = None,
    step: Annotated[
        int | None, typer.Option(help="The checkpoint's step; the newest when not given.")
    ] = None,
    name: Annotated[str, typer.Option(help="Display name; the parent's when not given.")] = "",
    tags: Tags = None,
    more_epochs: Annotated[
        int,
        typer.Option(min=0, help="Epochs beyond the parent's; epochs=N is a total."),
    ] = 0,
    notes: Notes = "",
    file: ConfigsFile = None,
    priority: Priority = None,
    device: Device = None,
    pool: Pool = None,
    writers: Writers = None,
    max_runtime_s: MaxRuntime = None,
    max_retries: MaxRetries = None,
    final_checkpoint: FinalCheckpoint = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show where it would start and end, without running it.")
    ] = False,
    watch: Watch = False,
    metrics: WatchedMetrics = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run from a checkpoint of another, with changed configs; its options are the parent's."""
    _refuse_metrics_alone(watch, metrics)
    client = connect(context)
    parent = client.run(run)
    changes = parse_overrides(client, parent.info.source, configs or [], file)
    options = changed(
        parent.info.options,
        priority=priority,
        device=device,
        pool=pool,
        writers=writers,
        max_runtime_s=max_runtime_s,
        max_retries=max_retries,
        final_checkpoint=final_checkpoint,
    )
    if plan:
        planned = parent.plan_fork(step, changes, options=options, more_epochs=more_epochs)
        _report_plan(planned, as_json)
        return
    handle = parent.fork(
        step,
        changes,
        more_epochs=more_epochs,
        name=name,
        tags=tags,
        notes=notes,
        options=options,
        start=False,
    )
    _report(_started(handle), watch, as_json, metrics or ())


def _report_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    end = "" if plan.total_steps is None else f", the run ends at step {plan.total_steps}"
    typer.echo(f"the checkpoint is at step {plan.start_step}{end}")


def edit(
    context: typer.Context,
    runs: RunIds,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", "-t", help="A tag; may be repeated. Replaces all tags."),
    ] = None,
    add_tags: Annotated[
        list[str] | None, typer.Option("--add-tag", help="A tag to add; may be repeated.")
    ] = None,
    remove_tags: Annotated[
        list[str] | None, typer.Option("--remove-tag", help="A tag to remove; may be repeated.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="The new notes.")] = None,
) -> None:
    """Change the name, tags or notes of runs."""
    if name is None and notes is None and not (tags or add_tags or remove_tags):
        options = "--name, --tag, --add-tag, --remove-tag or --notes"
        raise InvalidRequest([Violation("", f"nothing to change: give {options}")])
    client = connect(context)
    for handle in [client.run(run_id) for run_id in runs]:
        handle.update(
            name=name,
            tags=tags or None,
            notes=notes,
            add_tags=add_tags or (),
            remove_tags=remove_tags or (),
        )
        typer.echo(f"{handle.id} {handle.name} {' '.join(handle.info.tags)}".rstrip())


def remove(
    context: typer.Context,
    runs: RunIds,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete runs that have ended, with all their files."""
    client = connect(context)
    for handle in [client.run(run_id) for run_id in runs]:
        if not yes and not _is_confirmed(f"Delete {handle.id} ({handle.name}) and all its files?"):
            typer.echo(f"{handle.id} kept")
            continue
        handle.delete()
        typer.echo(f"{handle.id} deleted")


def _refuse_metrics_alone(watch: bool, metrics: list[str] | None) -> None:
    if metrics and not watch:
        raise typer.BadParameter("--metric goes with --watch only")


def _started(handle: Run, until_step: int | None = None) -> Run:
    try:
        return handle.start(until_step=until_step)
    except LabError:
        typer.echo(
            f"lab: run {handle.id} is created but not started; start it with: lab resume {handle.id}",
            err=True,
        )
        raise


def _is_confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C or Ctrl-D
            raise typer.Exit(EXIT_INTERRUPTED) from None
        typer.echo()  # behind the question
        sentence = "cannot ask for confirmation without a terminal; confirm with --yes"
        raise InvalidRequest([Violation("yes", sentence)]) from None


def _report(handle: Run, watch: bool, as_json: bool, metrics: Sequence[str]) -> None:
    if watch:
        if not as_json:
            typer.echo(handle.id)
        _watch(handle, as_json, metrics)
    elif as_json:
        print_json(handle.info)
    else:
        typer.echo(handle.id)


def _watch(handle: Run, as_json: bool, metrics: Sequence[str]) -> None:
    """Show a run to its end and exit with the code that says how it ended."""
    try:
        info = print_states(handle) if as_json else show_live(handle, metrics)
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe run goes on. Stop it with: lab stop {handle.id}\n"
            f"Watch it again with: lab watch {handle.id}",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if info.state is not RunState.COMPLETED:
        typer.echo(f"lab: {RunFailed(info.id, info.state, info.reason)}", err=True)
        raise typer.Exit(EXIT_STOPPED if info.state is RunState.STOPPED else EXIT_FAILED)
