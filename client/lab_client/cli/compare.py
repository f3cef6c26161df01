"""`lab compare`: where runs differ, in configs, in code and in results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lab_client.cli.arguments import complete_runs
from lab_client.cli.context import (
    AsJson,
    ShowAll,
    connect,
    console,
    plain,
    print_json,
    tell_hidden,
)
from lab_client.cli.render import git, number
from lab_client.errors import ArtifactNotFound, InvalidRequest, LabError, Violation
from lab_client.metric_names import main_names
from lab_client.runs import RunInfo
from lab_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    context: typer.Context,
    run_ids: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Two or more runs.", autocompletion=complete_runs),
    ],
    show_diff: Annotated[
        bool,
        typer.Option("--diff/--no-diff", help="Show how the code differs from the first run's."),
    ] = True,
    show_all: ShowAll = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs: the configs in which they differ, their metrics, and their code."""
    if len(run_ids) < 2:
        raise InvalidRequest([Violation("", "give at least two runs to compare")])
    client = connect(context)
    infos = [client.get(run_id) for run_id in run_ids]
    configs = differing([_configs(client, info) for info in infos])
    metrics = union([info.metrics for info in infos])
    names = list(metrics) if show_all else main_names(metrics)
    code = differing([_code(info) for info in infos])
    diffs = list(_diffs(client, infos)) if show_diff else []
    if as_json:
        shown = {name: metrics[name] for name in names}
        print_json(
            {
                "runs": [info.id for info in infos],
                "configs": configs,
                "metrics": shown,
                "code": code,
                "diffs": diffs,
            }
        )
        tell_hidden(len(metrics) - len(names))
        return
    rows = _rows(infos, configs, {name: metrics[name] for name in names}, code)
    out = console()
    for table in tables([info.id for info in infos], rows, out.width):
        out.print(table)
    for diff in diffs:
        out.print()
        for line in diff.splitlines():
            out.print(Text(line, style=_style(line)), soft_wrap=True)


def tables(
    run_ids: Sequence[str], rows: Sequence[tuple[Text, Sequence[str]]], width: int
) -> Iterator[Table]:
    """Yield tables with a column for each run, one below the other: the ids are never cut."""
    label_width = max(len(label) for label, _ in rows)
    column_width = 1 + max(map(len, run_ids))
    num_columns = max(1, (width - label_width - 1) // column_width)
    for first in range(0, len(run_ids), num_columns):
        shown = slice(first, first + num_columns)
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for run_id in run_ids[shown]:
            table.add_column(run_id, min_width=len(run_id), max_width=column_width, overflow="fold")
        for label, cells in rows:
            table.add_row(label, *map(Text, cells[shown]))
        yield table


def _configs(client: Client, info: RunInfo) -> Mapping[str, Any]:
    # With the defaults: two runs differ in one that only one of them overrides, or that was edited.
    if info.configs:
        return info.configs
    try:  # it is of an older server
        return client.plan(info.source, info.overrides).values
    except LabError:  # the experiment may be gone, or have other configs by now
        return info.overrides


def _rows(
    infos: Sequence[RunInfo],
    configs: Mapping[str, list[Any]],
    metrics: Mapping[str, list[Any]],
    code: Mapping[str, list[Any]],
) -> list[tuple[Text, list[str]]]:
    experiments = [info.experiment for info in infos]
    rows: list[tuple[Text, list[str]]] = [
        *([(Text("experiment"), experiments)] if len(set(experiments)) > 1 else []),
        (Text("name"), [info.name for info in infos]),
        (Text("state"), [info.state for info in infos]),
        (Text("step"), [str(info.step) for info in infos]),
    ]
    if not configs:
        rows.append((Text("configs"), ["equal"] * len(infos)))
    for key, values in configs.items():
        rows.append((Text(key), ["" if value is None else str(value) for value in values]))
    for key, values in metrics.items():
        cells = ["" if value is None else number(value) for value in values]
        rows.append((Text(key, style="cyan"), cells))
    if not code and all(info.provenance for info in infos):
        rows.append((Text("code", style="dim"), ["equal"] * len(infos)))
    for key, values in code.items():
        rows.append((Text(key, style="dim"), ["" if value is None else value for value in values]))
    return rows


def _code(info: RunInfo) -> Mapping[str, Any]:
    """Return what tells the code of a run, and where it ran, as far as that is known."""
    found = info.provenance
    if found is None:
        return {}
    environment = {name: value for name, value in plain(found.environment).items() if value}
    return {"code": found.digest[:12], "git": git(found.git) or None, **environment}


def _diffs(client: Client, infos: Sequence[RunInfo]) -> Iterator[str]:
    first, *others = infos
    for other in others:
        if first.provenance is None or other.provenance is None:
            continue
        if first.provenance.changed_files(other.provenance):
            try:
                yield client.code_diff(first.id, other.id)
            except ArtifactNotFound as error:  # somebody removed the copies
                yield f"the code of {first.id} and {other.id} cannot be compared: {error}"


def _style(line: str) -> str:
    if line.startswith(("---", "+++")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of the keys in which configs differ, one for each config."""
    rows = union(configs)
    return {key: values for key, values in rows.items() if len({repr(v) for v in values}) > 1}


def union(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return for each key of any mapping the values of all of them, None where one has none."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key) for column in columns] for key in keys}
