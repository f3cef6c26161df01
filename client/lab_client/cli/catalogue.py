"""`lab experiments`, `lab show`, `lab slots`, `lab plan`: what can be run, and what configs resolve to."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from lab_client.cli.arguments import Configs, ExperimentName, parse_overrides, read_source
from lab_client.cli.context import AsJson, connect, console, print_json
from lab_client.cli.run_options import ConfigsFile, Device, Pool, changed
from lab_client.cli.tables import columns
from lab_client.configs import ConfigItem, Constraint, ExperimentSchema, Plan, ValueOrigin
from lab_client.runs import RunOptions

_WIDE = 100
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("experiments")(experiments)
    app.command("show")(show)
    app.command("slots")(slots)
    app.command("plan")(plan)


def experiments(context: typer.Context, as_json: AsJson = False) -> None:
    """List the experiments that the server can run."""
    found = connect(context).experiments()
    if as_json:
        print_json(found)
        return
    table = columns("EXPERIMENT", "DESCRIPTION")
    for item in found:
        table.add_row(
            item.name, Text(item.error, style="red") if item.error else Text(item.summary)
        )
    console().print(table)


def slots(context: typer.Context, as_json: AsJson = False) -> None:
    """List the places in which runs train, those of agents included, and which run has each."""
    info = connect(context).server_info()
    if as_json:
        print_json({"slots": info.slots, "queue_length": info.queue_length})
        return
    out = console()
    table = columns("SLOT", "RUN")
    for slot in info.slots:
        table.add_row(slot.name, slot.run_id or Text("free", style="dim"))
    if info.slots:
        out.print(table)
    elif info.absent_leader:
        out.print(
            f"The slots are not known: the server {info.absent_leader}, which leads, does not answer."
            " Another one takes over within seconds."
        )
    else:
        out.print("The server has no slots now: no agent is attached.")
    if info.queue_length:
        runs = "1 run waits" if info.queue_length == 1 else f"{info.queue_length} runs wait"
        out.print(f"{runs} for a slot.")


def show(context: typer.Context, experiment: ExperimentName, as_json: AsJson = False) -> None:
    """Show an experiment's configs: types, defaults, options and what they are for."""
    handle = connect(context).experiment(read_source(experiment))
    if as_json:
        print_json({"experiment": handle.info, "schema": handle.schema})
        return
    out = console()
    out.print(Text(handle.schema.doc or handle.info.summary))
    if handle.info.error:
        out.print(Text(handle.info.error, style="red"))
        out.print(Text(handle.info.traceback.rstrip()), soft_wrap=True)
        return
    out.print(configs_table(handle.schema, out.width))
    order = " → ".join(", ".join(group) for group in handle.schema.default_run_order)
    out.print(Text(f"Computed first: {order or 'nothing'}", style="dim"))


def configs_table(schema: ExperimentSchema, width: int) -> Table:
    """Return the config items as a table; keys and options, which people type, are never cut.

    Where there is little room the constraints stand in the description.
    """
    is_wide = width >= _WIDE
    longest = max((len(item.key) for item in schema.items), default=0)
    table = Table(box=None, pad_edge=False)
    table.add_column("CONFIG", no_wrap=True, min_width=longest)
    for header in ("TYPE", "DEFAULT", *(["CONSTRAINTS"] if is_wide else []), "DESCRIPTION"):
        table.add_column(header, overflow="fold")
    for item in schema.items:
        key = Text(item.key, style="bold" if item.is_hyperparam else "")
        constraints = ", ".join(map(_constraint, item.constraints))
        if is_wide:
            table.add_row(key, item.type, _default(item), constraints, Text(item.doc))
        else:
            doc = f"{item.doc} ({constraints})" if constraints else item.doc
            table.add_row(key, item.type, _default(item), Text(doc))
    return table


def plan(
    context: typer.Context,
    experiment: ExperimentName,
    configs: Configs = None,
    file: ConfigsFile = None,
    device: Device = None,
    pool: Pool = None,
    as_json: AsJson = False,
) -> None:
    """Show what configs resolve to, without running anything."""
    client, source = connect(context), read_source(experiment)
    resolved = client.plan(
        source,
        parse_overrides(client, source, configs or [], file),
        options=changed(RunOptions(), device=device, pool=pool),
    )
    if as_json:
        print_json(resolved)
        return
    console().print(plan_table(resolved))


def plan_table(resolved: Plan) -> Table:
    """Return a plan as a table; what was overridden stands out, what comes later is dim."""
    table = columns("CONFIG", "VALUE", "FROM", "OTHER OPTIONS")
    for item in resolved.items:
        is_known = item.origin in (ValueOrigin.DEFAULT, ValueOrigin.OVERRIDE)
        value = item.option or (repr(item.value) if is_known else "…")
        style = "bold" if item.origin is ValueOrigin.OVERRIDE else "" if is_known else "dim"
        others = ", ".join(item.other_options)
        table.add_row(item.key, Text(value), item.origin, others, style=style)
    return table


def _default(item: ConfigItem) -> Text:
    if item.options:
        text = Text(item.options[0])
        if item.options[1:]:
            text.append(f" | {' | '.join(item.options[1:])}", style="dim")
        return text
    if item.is_required:
        return Text("required", style="red")
    return Text("" if item.type == "object" else repr(item.default))


def _constraint(constraint: Constraint) -> str:
    if constraint.rule == "choice" and isinstance(constraint.operand, list):
        return f"one of {', '.join(map(str, constraint.operand))}"
    sign = _SIGNS.get(constraint.rule, constraint.rule.replace("_", " "))
    return f"{sign} {constraint.operand}"
