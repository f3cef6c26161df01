"""`lab runs`, `lab status`, `lab logs`, `lab history`: what there is to see of runs."""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.text import Text

from lab_client.cli.arguments import RunId, RunIds, split_columns
from lab_client.cli.context import (
    EXIT_INTERRUPTED,
    AsJson,
    ShowAll,
    connect,
    console,
    has_colours,
    print_json,
    tell_hidden,
    told_warnings,
    with_main_metrics,
)
from lab_client.cli.render import columns_table, number, run_table, runs_table
from lab_client.cli.usage import usage_of
from lab_client.errors import InvalidRequest, Violation
from lab_client.events import LogLevel, LogLine
from lab_client.history import Series
from lab_client.metric_names import chosen, main_names
from lab_client.runs import RunState

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d)")
_COLOURS = {LogLevel.WARNING: "yellow", LogLevel.ERROR: "red"}
_MOST = 20  # runs listed unless more are asked for
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("runs")(runs)
    app.command("ls", hidden=True)(runs)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("history")(history)


def _complete_level(incomplete: str) -> list[str]:
    return [level.lower() for level in LogLevel if level.lower().startswith(incomplete.lower())]


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
        list[str] | None,
        typer.Option("--tag", "-t", help="Only runs with this tag; may be repeated."),
    ] = None,
    name: Annotated[str, typer.Option(help="Only runs with this text in their name.")] = "",
    where: Annotated[
        str,
        typer.Option(
            help="Only runs for which this holds, such as "
            "'learning_rate < 0.1 and max(accuracy) > 0.97 and state = completed'."
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            help="Sort by a field (create_time, duration, …), a config or a metric, largest first."
        ),
    ] = "",
    ascending: Annotated[
        bool, typer.Option("--asc", help="Sort smallest first; without --sort the oldest.")
    ] = False,
    columns: Annotated[
        str,
        typer.Option(
            help="What to show of each run, separated by commas: name,learning_rate,max(accuracy)."
        ),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, help=f"The most runs to list.  [default: {_MOST}]"),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="List all runs.")] = False,
    all_metrics: Annotated[
        bool, typer.Option(help="With --json, include the indicators of single parameters.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    limit = _limit(limit, show_all)
    client = connect(context)
    filters: dict[str, Any] = {
        "experiment": experiment,
        "states": states or (),
        "tags": tags or (),
        "name_contains": name,
        "where": where,
    }
    order_by = f"{sort or 'create_time'}{'' if ascending else ' desc'}" if sort or ascending else ""
    with told_warnings():
        handles = list(client.runs(**filters, order_by=order_by, limit=limit))
    found = [handle.info for handle in handles]
    names = split_columns(columns)
    if as_json and names:
        print_json([{"id": run.id} | {name: run.value(name) for name in names} for run in handles])
    elif as_json:
        shown = [with_main_metrics(info, all_metrics) for info in found]
        print_json(shown)
        num_hidden = sum(len(i.metrics) - len(s.metrics) for i, s in zip(found, shown, strict=True))
        tell_hidden(num_hidden, "--all-metrics")
    elif found:
        if sort and all(handle.value(sort) is None for handle in handles):
            typer.echo(f"lab: none of these runs has {sort!r} to sort by", err=True)
        for name in names:
            if all(handle.value(name) is None for handle in handles):
                typer.echo(f"lab: none of these runs has {name!r} to show", err=True)
        out = console()
        rows = [(run.id, [run.value(name) for name in names]) for run in handles]
        out.print(columns_table(names, rows) if names else runs_table(found, out.width))
    elif any(filters.values()):
        typer.echo("No run matches; see all with: lab runs", err=True)
    else:
        typer.echo("There are no runs; start one with: lab run EXPERIMENT", err=True)
    if limit is not None and len(found) == limit:
        num_all = client.count_runs(**filters)
        if num_all > limit:
            typer.echo(f"lab: {limit} of {num_all}; --all shows them", err=True)


def _limit(given: int | None, show_all: bool) -> int | None:
    """Return how many runs to list; None for all."""
    if show_all and given is not None:
        raise typer.BadParameter(f"give --all or --limit {given}, not both")
    return None if show_all else given or _MOST


def status(
    context: typer.Context, runs: RunIds, show_all: ShowAll = False, as_json: AsJson = False
) -> None:
    """Show all that is known about runs; as JSON one value, or a list of several."""
    client = connect(context)
    infos = [client.get(run_id) for run_id in runs]
    if as_json:
        shown = [with_main_metrics(info, show_all) for info in infos]
        print_json(shown if len(shown) > 1 else shown[0])
        tell_hidden(sum(len(i.metrics) - len(s.metrics) for i, s in zip(infos, shown, strict=True)))
        return
    out = console()
    for index, info in enumerate(infos):
        if index:
            out.print()
        out.print(run_table(info, show_all, usage_of(client, info)))


def logs(
    context: typer.Context,
    run: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow until the run ends.")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Begin with the last N lines.")
    ] = None,
    since: Annotated[
        str,
        typer.Option(help="Only lines since then: 90s, 5min, 2h, or 2026-11-20T14:30 (local)."),
    ] = "",
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Print when each line was recorded.")
    ] = False,
    level: Annotated[
        str,
        typer.Option(
            help="The least serious lines to print: stdout, stderr, warning or error; stderr prints "
            "warnings and errors, too.",
            autocompletion=_complete_level,
        ),
    ] = "debug",
) -> None:
    """Print what a run logged or printed; warnings and errors in colour on a terminal."""
    first_ns = since_ns(since) if since else 0
    handle = connect(context).run(run)
    is_coloured = has_colours()
    try:
        past: Iterable[LogLine] = handle.logs(level=level, follow=False)
        if tail is not None:
            past = deque(past, tail)
        for line in past:
            _print_line(line, first_ns, timestamps, is_coloured)
        if follow and not handle.info.state.is_terminal:
            for line in handle.logs(level=level, after_seq=handle.info.last_seq):
                _print_line(line, first_ns, timestamps, is_coloured)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def since_ns(text: str, now: datetime | None = None) -> int:
    """Return the time that a text means, in nanoseconds since 1970 UTC.

    Args:
        text: a duration before now, such as 5min, or a local time in ISO 8601.
        now: the present time.

    Raises:
        InvalidRequest: if it is neither.
    """
    now = now or datetime.now().astimezone()
    found = _DURATION.fullmatch(text.strip())
    try:
        if found:
            moment = now - timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
        else:
            moment = datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        sentence = f"since is a duration, 5min, or a time, 2026-11-20T14:30, not {text!r}"
        raise InvalidRequest([Violation("since", sentence)]) from None
    return int(moment.timestamp() * 1e9)


def _print_line(line: LogLine, first_ns: int, has_time: bool, is_coloured: bool) -> None:
    if line.time_unix_ns < first_ns:
        return
    moment = datetime.fromtimestamp(line.time_unix_ns / 1e9, UTC).astimezone()
    text = f"{moment:%Y-%m-%d %H:%M:%S}  {line.text}" if has_time else line.text
    typer.secho(text, fg=_COLOURS.get(line.level) if is_coloured else None)


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
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")
    handle = connect(context).run(run)
    found = handle.history(names or (("*",) if show_all else ()), max_points=max_points)
    if names and not found:
        known = ", ".join(main_names(handle.info.metrics)[:10]) or "none yet"
        sentence = f"run {handle.id} has no metric {' or '.join(map(repr, names))}; it has: {known}"
        raise InvalidRequest([Violation("names", sentence)])
    for glob in names or ():
        if not chosen(dict.fromkeys(found, 0.0), [glob]):
            typer.echo(f"lab: run {handle.id} has no metric {glob!r}", err=True)
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
