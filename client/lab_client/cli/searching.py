"""`lab search` and what else there is for searches."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lab_client.cli.arguments import ServedExperiment
from lab_client.cli.context import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    AsJson,
    connect,
    console,
    print_json,
)
from lab_client.cli.run_options import (
    Device,
    FinalCheckpoint,
    MaxRetries,
    MaxRuntime,
    Pool,
    Priority,
    Writers,
    changed,
)
from lab_client.cli.search_arguments import SearchId, Space, parse_space
from lab_client.cli.search_live import show_live
from lab_client.cli.search_render import search_table, searches_table, trials_table
from lab_client.errors import InvalidRequest, SearchFailed, Violation
from lab_client.runs import RunOptions
from lab_client.searches import Halving, MedianStopping, SearchState
from lab_client.sync.search import Search
from lab_client.uploads.bundle import refuse_code
from lab_client.views.search_progress import SearchLines

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Watch the search until it ends.")]
Trials = Annotated[
    int | None,
    typer.Option("--trials", "-n", min=1, help="Trials in all; the whole grid when not given."),
]
Parallel = Annotated[int, typer.Option("--parallel", "-p", min=1, help="Trials at a time.")]
MaxSteps = Annotated[
    int, typer.Option(min=0, help="Propose nothing more after so many steps of all trials.")
]
MaxSeconds = Annotated[
    float, typer.Option(min=0, help="Propose and promote nothing more after so many seconds.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("search")(search)
    app.command("searches")(searches)
    app.command("search-status")(status)
    app.command("search-watch")(watch)
    app.command("search-stop")(stop)
    app.command("search-pause")(pause)
    app.command("search-resume")(resume)
    app.command("search-extend")(extend)
    app.command("search-try")(try_point)
    app.command("search-rm")(remove)


def search(
    context: typer.Context,
    experiment: ServedExperiment,
    space: Space = None,
    maximize: Annotated[str, typer.Option(help="The metric whose larger values are better.")] = "",
    minimize: Annotated[str, typer.Option(help="The metric whose smaller values are better.")] = "",
    trials: Trials = None,
    parallel: Parallel = 1,
    sampler: Annotated[
        str,
        typer.Option(
            help="grid, random, quasi_random or tpe; grid when every item is a list, else tpe."
        ),
    ] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same trials.")
    ] = None,
    lockstep: Annotated[
        bool | None,
        typer.Option(
            "--lockstep/--async",
            help="Whether the result must not depend on which trial is faster; so with --seed.",
        ),
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="STEPS",
            help="Train every trial for STEPS steps, then continue the best.",
        ),
    ] = None,
    eta: Annotated[
        int | None,
        typer.Option(min=2, help="With --halving: one in ETA goes on.", show_default="3"),
    ] = None,
    median: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="STEPS", help="Stop trials worse than the median, every STEPS steps."
        ),
    ] = None,
    reduction: Annotated[
        str, typer.Option(help="Which value of a trial counts: last, best, or mean.")
    ] = "last",
    num_last: Annotated[int, typer.Option(min=0, help="With mean: of how many last values.")] = 0,
    max_steps: MaxSteps = 0,
    max_seconds: MaxSeconds = 0,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    tags: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="A tag; may be repeated.")
    ] = None,
    notes: Annotated[str, typer.Option(help="Free text about the search.")] = "",
    priority: Priority = None,
    device: Device = None,
    pool: Pool = None,
    writers: Writers = None,
    max_runtime_s: MaxRuntime = None,
    max_retries: MaxRetries = None,
    final_checkpoint: FinalCheckpoint = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Learn from this earlier search or run; may be repeated. Needs tpe.",
        ),
    ] = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Search for good configs and print the search's id; each trial is a run."""
    if eta is not None and halving is None:
        raise typer.BadParameter("--eta goes with --halving STEPS only")
    if bool(maximize) == bool(minimize):
        sentence = "say what to look for: --maximize METRIC or --minimize METRIC, one of them"
        raise InvalidRequest([Violation("objective", sentence)])
    refuse_code(experiment)
    client = connect(context)
    found = client.search(
        experiment,
        parse_space(client, experiment, space or []),
        maximize=maximize,
        minimize=minimize,
        max_trials=trials,
        parallel=parallel,
        sampler=sampler,
        seed=seed,
        lockstep=lockstep,
        halving=Halving(halving, eta or 3) if halving else None,
        median_stopping=MedianStopping(median) if median else None,
        max_steps=max_steps,
        max_seconds=max_seconds,
        reduction=reduction,
        num_last=num_last,
        name=name,
        tags=tags or (),
        notes=notes,
        options=changed(
            RunOptions(),
            priority=priority,
            device=device,
            pool=pool,
            writers=writers,
            max_runtime_s=max_runtime_s,
            max_retries=max_retries,
            final_checkpoint=final_checkpoint,
        ),
        warm_start=warm_start or (),
    )
    for warning in found.info.warnings:
        typer.echo(f"lab: warning: {warning}", err=True)
    if watch:
        if not as_json:
            typer.echo(found.id)
        _watch(found, as_json)
    elif as_json:
        print_json(found.info)
    else:
        typer.echo(found.id)


def searches(
    context: typer.Context,
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="Of this experiment.")] = "",
    states: Annotated[
        list[str] | None, typer.Option("--state", help="In this state; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List searches, the newest first."""
    client = connect(context)
    found = list(client.searches(experiment=experiment, states=states or (), limit=limit + 1))
    is_cut, found = len(found) > limit, found[:limit]
    if as_json:
        print_json([one.info for one in found])
    elif found:
        out = console()
        out.print(searches_table([one.info for one in found], out.width))
    else:
        typer.echo("no searches", err=True)
    if is_cut:
        typer.echo(f"lab: only the newest {limit}; --limit shows more", err=True)


def status(context: typer.Context, search: SearchId, as_json: AsJson = False) -> None:
    """Show a search and its trials."""
    found = connect(context).get_search(search)
    trials = found.trials()
    if as_json:
        print_json({"search": found.info, "trials": trials})
        return
    out = console()
    out.print(search_table(found.info))
    out.print()
    out.print(trials_table(found.info, trials, found.info.best, out.width))


def watch(context: typer.Context, search: SearchId, as_json: AsJson = False) -> None:
    """Watch a search: its trials, live. Ctrl-C leaves it running."""
    _watch(connect(context).get_search(search), as_json)


def stop(
    context: typer.Context,
    search: SearchId,
    keep_trials: Annotated[
        bool,
        typer.Option("--keep-trials", help="Let running trials train to their rung or end first."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it has stopped.")] = False,
) -> None:
    """Stop a search, and its running trials."""
    found = connect(context).get_search(search).stop(with_trials=not keep_trials)
    if wait:
        found.wait()
    typer.echo(f"{found.id} {found.info.state}")


def pause(context: typer.Context, search: SearchId) -> None:
    """Let a search propose nothing more until search-resume; what trains goes on."""
    found = connect(context).get_search(search).pause()
    typer.echo(f"{found.id} {found.info.state}")


def resume(context: typer.Context, search: SearchId) -> None:
    """Let a paused search go on."""
    found = connect(context).get_search(search).resume()
    typer.echo(f"{found.id} {found.info.state}")


def extend(
    context: typer.Context,
    search: SearchId,
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=1, help="Trials in all, from now on.")
    ] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", "-p", min=1, help="Trials at a time.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="Steps in all; 0: no limit.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds in all; 0: no limit.")
    ] = None,
) -> None:
    """Change a search's budget; one that has ended goes on with a larger one."""
    if (trials, parallel, max_steps, max_seconds) == (None,) * 4:
        options = "--trials, --parallel, --max-steps or --max-seconds"
        raise InvalidRequest([Violation("", f"nothing to change: give {options}")])
    found = connect(context).get_search(search)
    found.extend(trials, parallel=parallel, max_steps=max_steps, max_seconds=max_seconds)
    typer.echo(f"{found.id} {found.info.state} {found.info.budget.max_trials} trials")


def try_point(
    context: typer.Context,
    search: SearchId,
    point: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE", help="A point; what is missing in it is proposed."),
    ],
) -> None:
    """Let a search try a point before anything that it proposes."""
    client = connect(context)
    found = client.get_search(search)
    found.enqueue(parse_space(client, found.experiment, point))
    typer.echo(found.id)


def remove(
    context: typer.Context,
    searches: Annotated[list[str], typer.Argument(metavar="SEARCH", help="Searches to delete.")],
) -> None:
    """Delete searches that have ended; their runs stay."""
    client = connect(context)
    for found in [client.get_search(search_id) for search_id in searches]:
        found.delete()
        typer.echo(f"{found.id} deleted")


def _watch(found: Search, as_json: bool) -> None:
    """Show a search to its end and exit with the code that says how it ended."""
    try:
        if as_json:
            for entry in found.watch():
                print_json(entry, one_line=True)
        elif sys.stdout.isatty():
            show_live(found)
        else:
            with SearchLines(found.info, sys.stdout) as lines:
                found.show_progress(lines)
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe search goes on. Stop it with: lab search-stop {found.id}\n"
            f"Watch it again with: lab search-watch {found.id}",
            err=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    info = found.refresh()
    if info.state is not SearchState.COMPLETED:
        typer.echo(f"lab: {SearchFailed(info.id, info.state, info.reason)}", err=True)
        raise typer.Exit(EXIT_STOPPED if info.state is SearchState.STOPPED else EXIT_FAILED)
