"""`lab runs`, `lab status`, `lab logs`, `lab history`: what there is to see of runs."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from lab_client.cli.arguments import RunId
from lab_client.cli.context import (
    EXIT_INTERRUPTED,
    AsJson,
    ShowAll,
    connect,
    console,
    print_json,
    tell_hidden,
    with_main_metrics,
)
from lab_client.cli.render import number, run_table, runs_table
from lab_client.errors import InvalidRequest, Violation
from lab_client.history import Series
from lab_client.metric_names import main_names
from lab_client.runs import RunState

_FIELDS = ("create_time", "name", "state", "step")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("runs")(runs)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("history")(history)


def _complete_state(incomplete: str) -> list[str]:
    return [state.lower() for state in RunState if state.lower().startswith(incomplete.lower())]


def runs(
    context: typer.Context,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="Only runs in this state; may be repeated.",
            autocompletion=_complete_state,
        ),
    ] = None,
    experiment: Annotated[str, typer.Option(help="Only runs of this experiment.")] = "",
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="Only runs with this tag; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="Only runs with this text in their name.")] = "",
    sort: Annotated[
        str, typer.Option(help="Sort by create_time, name, state, step or a metric, largest first.")
    ] = "",
    ascending: Annotated[bool, typer.Option("--asc", help="Sort smallest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The most runs to list.")] = 20,
    show_all: ShowAll = False,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    order_by = ""
    key = sort if sort in _FIELDS else sort.removeprefix("metrics.")
    if sort:
        field = key if key in _FIELDS else f"metrics.{key}"
        order_by = field if ascending else f"{field} desc"
    found = [
        run.info
        for run in connect(context).runs(
            experiment=experiment,
            states=states or (),
            tags=tags or (),
            name_contains=name,
            order_by=order_by,
            limit=limit,
        )
    ]
    if as_json:
        shown = [with_main_metrics(info, show_all) for info in found]
        print_json(shown)
        tell_hidden(sum(len(i.metrics) - len(s.metrics) for i, s in zip(found, shown, strict=True)))
    elif found:
        if sort and key not in _FIELDS and not any(key in info.metrics for info in found):
            typer.echo(f"lab: none of these runs has a metric {key!r} to sort by", err=True)
        out = console()
        out.print(runs_table(found, out.width))
    elif states or experiment or tags or name:
        typer.echo("No run matches; see all with: lab runs", err=True)
    else:
        typer.echo("There are no runs; start one with: lab run EXPERIMENT", err=True)


def status(
    context: typer.Context, run: RunId, show_all: ShowAll = False, as_json: AsJson = False
) -> None:
    """Show all that is known about a run."""
    info = connect(context).get(run)
    if as_json:
        shown = with_main_metrics(info, show_all)
        print_json(shown)
        tell_hidden(len(info.metrics) - len(shown.metrics))
    else:
        console().print(run_table(info, show_all))


def logs(
    context: typer.Context,
    run: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow until the run ends.")
    ] = False,
) -> None:
    """Print what a run logged or printed."""
    handle = connect(context).run(run)
    try:
        for line in handle.logs(follow=follow):
            typer.echo(line.text)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def history(
    context: typer.Context,
    run: RunId,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", "-m", help="Glob of metric names; may be repeated. All when not given."
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a line for each step.")] = False,
    max_points: Annotated[
        int, typer.Option(min=0, help="The most points for each metric, downsampled; 0 is all.")
    ] = 0,
    show_all: ShowAll = False,
    as_json: AsJson = False,
) -> None:
    """Print a run's metrics: a summary, or all values with --csv or --json."""
    handle = connect(context).run(run)
    found = handle.history(names or (), max_points=max_points)
    if names and not found:
        known = ", ".join(main_names(handle.info.metrics)[:10]) or "none yet"
        sentence = f"run {handle.id} has no metric {' or '.join(map(repr, names))}; it has: {known}"
        raise InvalidRequest([Violation("names", sentence)])
    # A name that was asked for is shown, whatever it is.
    shown = [found[name] for name in (found if show_all or names else main_names(found))]
    num_hidden = len(found) - len(shown)
    if as_json:
        print_json({item.name: {"steps": item.steps, "values": item.values} for item in shown})
        tell_hidden(num_hidden)
    elif as_csv:
        _print_csv(shown)
        tell_hidden(num_hidden)
    elif not shown:
        typer.echo(f"Run {handle.id} has no metrics yet.", err=True)
    else:
        _print_summary(shown, num_hidden)


def _print_csv(series: Sequence[Series]) -> None:
    rows: dict[int, dict[str, float]] = {}
    for item in series:
        for step, value in zip(item.steps, item.values, strict=True):
            rows.setdefault(step, {})[item.name] = value
    names = [item.name for item in series]
    writer = csv.DictWriter(sys.stdout, ["step", *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"step": step, **rows[step]} for step in sorted(rows))


def _print_summary(series: Sequence[Series], num_hidden: int) -> None:
    out = console()
    for item in series:
        if item.values:
            last, low, high = map(number, (item.last_value, item.min_value, item.max_value))
            points = "point" if item.num_points == 1 else "points"
            summary = f"last {last}  min {low}  max {high}  ({item.num_points} {points})"
            out.print(Text(f"{item.name}: {summary}"))
    if num_hidden:
        out.print(Text(f"{num_hidden} more with --all", style="dim"))
