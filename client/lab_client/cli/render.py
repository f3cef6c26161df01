"""How runs look on a terminal: tables, times and values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from lab_client.cli.tables import fitting, pairs
from lab_client.metric_names import important, main_names
from lab_client.provenance import Environment, GitState, Provenance
from lab_client.runs import RunInfo, RunState

STYLES = {
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.STOPPED: "yellow",
    RunState.RUNNING: "cyan",
}
_MAX_FILES = 10
_FIRST, _SECOND = "metrics after the first", "metrics after the second"


def number(value: float) -> str:
    """Return a value in few characters."""
    return f"{value:.5g}"


def state(info: RunInfo) -> Text:
    """Return a run's state in its colour, with its place when it waits."""
    text = Text(info.state, style=STYLES.get(info.state, ""))
    if info.queue_position:
        text.append(f" #{info.queue_position}", style="dim")
    return text


def step(info: RunInfo) -> str:
    """Return how far a run is."""
    if info.total_steps:
        percent = 100 * info.step / info.total_steps
        return f"{info.step}/{info.total_steps} ({percent:.0f} %)"
    return str(info.step)


def ago(time: datetime | None) -> str:
    """Return how long ago something was."""
    if time is None:
        return ""
    seconds = max(0.0, (datetime.now(UTC) - time).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def runs_table(runs: Sequence[RunInfo], width: int) -> Table:
    """Return runs as a table that fits a width in characters; what there is no room for it names."""
    tags = ["TAGS"] if any(info.tags for info in runs) else []
    losses = ([_SECOND], [_FIRST], ["METRICS"], ["METRICS", *tags], ["METRICS", *tags, "CREATED"])

    def make(given_up: Sequence[str]) -> Table:
        num_metrics = {"METRICS": 0, _FIRST: 1, _SECOND: 2}.get(given_up[0], 4) if given_up else 4
        shown = [name for name in (*tags, "CREATED") if name not in given_up]
        return _runs_table(runs, num_metrics, shown)

    return fitting(make, losses, width, "lab status RUN, or lab runs --columns")


def _runs_table(runs: Sequence[RunInfo], num_metrics: int, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("RUN", no_wrap=True, min_width=max((len(info.id) for info in runs), default=0))
    for header in ("NAME", "EXPERIMENT"):
        table.add_column(header, overflow="fold")
    for header in ("STATE", "STEP", *(["METRICS"] if num_metrics else []), *columns):
        table.add_column(header, no_wrap=True)
    for info in runs:
        metrics = list(important(info.metrics).items())[:num_metrics]
        cells: list[str | Text] = [info.id, Text(info.name), Text(info.experiment)]
        cells += [state(info), step(info)]
        if num_metrics:
            cells.append(Text("  ".join(f"{k} {number(v)}" for k, v in metrics)))
        if "TAGS" in columns:
            cells.append(Text(" ".join(info.tags)))
        if "CREATED" in columns:
            cells.append(ago(info.create_time))
        table.add_row(*cells)
    return table


def columns_table(names: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> Table:
    """Return runs as a table of chosen values, by their ids, which are never cut."""
    table = Table(box=None, pad_edge=False)
    table.add_column(
        "RUN", no_wrap=True, min_width=max((len(run_id) for run_id, _ in rows), default=0)
    )
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for run_id, values in rows:
        cells = [cell(name, value) for name, value in zip(names, values, strict=True)]
        table.add_row(run_id, *map(Text, cells))
    return table


def cell(name: str, value: object) -> str:
    """Return a value of a run in few characters, nothing for None."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case float() if name.strip() in ("duration", "age"):
            return lasting(value)
        case float():
            return number(value)
        case bool():
            return str(value).lower()
        case tuple():
            return " ".join(map(str, value))
    return str(value)


def lasting(seconds: float) -> str:
    """Return a duration: 4.2 s, 5 min 03 s, 2 h 05 min, 3 d 04 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    units = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
    large, large_unit, small, small_unit = next(unit for unit in units if seconds >= unit[0])
    return f"{seconds // large:.0f} {large_unit} {seconds % large // small:02.0f} {small_unit}"


def ends(info: RunInfo) -> str:
    """Return when a run will end, or its turn comes, and why; "" for one that neither waits nor trains."""
    forecast = info.forecast
    if forecast is None:
        return ""
    if info.queue_position:
        starts = forecast.starts_in_s
        when = "not known" if starts is None else f"in {lasting(starts)} at most"
        return f"its turn: {when}, {forecast.reason}"
    if forecast.ends_in_s is None:
        return f"not known: {forecast.reason}"
    return f"in {lasting(forecast.ends_in_s)}, {forecast.reason}"


def run_table(
    info: RunInfo, show_all: bool = False, usage: Sequence[tuple[str, str]] = ()
) -> Table:
    """Return everything about one run as a table of two columns.

    Args:
        info: the run.
        show_all: also the metrics of single parameters.
        usage: what it uses of its machine, with labels.
    """
    table = pairs()
    rows: list[tuple[str, str | Text]] = [
        ("id", info.id),
        ("name", Text(info.name)),
        ("experiment", Text(info.experiment)),
        ("upload", info.upload_id[:12]),
        ("state", state(info)),
        ("reason", Text(info.reason)),
        ("step", step(info)),
        ("speed", f"{info.steps_per_second:.4g} steps/s" if info.steps_per_second else ""),
        ("ends", Text(ends(info))),
        ("attempt", str(info.attempt) if info.attempt > 1 else ""),
        ("tags", Text(" ".join(info.tags))),
        ("notes", Text(info.notes)),
        ("owner", Text(info.owner)),
        ("slot", info.slot),
        ("device", info.options.device),
        ("priority", str(info.options.priority or "")),
        ("checkpoint", "" if info.checkpoint_step is None else f"step {info.checkpoint_step}"),
        ("continues", f"{info.parent.run_id} at step {info.parent.step}" if info.parent else ""),
        ("created", at(info.create_time)),
        ("started", at(info.start_time)),
        ("ended", at(info.end_time)),
        ("duration", duration(info)),
        ("folder", Text(info.folder)),
    ]
    if info.provenance is not None:
        rows += provenance_rows(info.provenance)
    for label, value in rows:
        if str(value):
            table.add_row(label, value)
    if info.overrides:
        table.add_row("configs", "")
    for key, override in info.overrides.items():
        table.add_row(Text(f"  {key}", style="dim"), Text(repr(override)))
    names = list(info.metrics) if show_all else main_names(info.metrics)
    if names:
        hidden = len(info.metrics) - len(names) - (0 if show_all else len(usage))
        table.add_row("metrics", Text(f"{hidden} more with --all" if hidden else "", style="dim"))
    for key in names:
        table.add_row(Text(f"  {key}", style="cyan"), last_and_range(info, key))
    if usage:
        table.add_row("used", Text("as metrics: lab history ID -m 'system.*'", style="dim"))
    for label, text in usage:
        table.add_row(Text(f"  {label}", style="dim"), Text(text))
    return table


def at(time: datetime | None) -> str:
    """Return a time, in this machine's zone, and how long ago it was."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}  ({ago(time)})" if time else ""


def duration(info: RunInfo) -> str:
    """Return how long a run has trained, or trains."""
    if info.start_time is None:
        return ""
    return lasting(((info.end_time or datetime.now(UTC)) - info.start_time).total_seconds())


def last_and_range(info: RunInfo, metric: str) -> str:
    """Return a metric's last value, with the smallest and the largest where they differ."""
    last, found = number(info.metrics[metric]), info.metric_ranges.get(metric)
    if found is None or found.min_value == found.max_value:
        return last
    return f"{last}  (min {number(found.min_value)}, max {number(found.max_value)})"


def provenance_rows(found: Provenance) -> list[tuple[str, str | Text]]:
    """Return what is known of a run's code, with labels."""
    num = len(found.files)
    files = [
        (f"  {path}", Text(sha256, style="dim"))
        for path, sha256 in list(found.files.items())[:_MAX_FILES]
    ]
    if num > _MAX_FILES:
        files.append(("", Text(f"{num - _MAX_FILES} more with --json", style="dim")))
    if found.num_left_out:
        files.append(("", Text(f"{found.num_left_out} too many or too large to be recorded")))
    return [
        ("code", Text(f"{found.module}:{found.class_name} {found.digest[:12]}")),
        *files,
        ("git", Text(git(found.git))),
        ("made with", Text(versions(found.environment))),
        ("on", Text(machine(found.environment))),
    ]


def git(state: GitState | None) -> str:
    """Return the state of a repository in one line; "" without one."""
    if state is None:
        return ""
    text = f"{state.branch or 'no branch'} at {state.commit[:12]} {state.subject!r}"
    if state.is_dirty:
        text += ", with uncommitted changes (source.diff)"
    if state.untracked:
        text += f", not in git: {', '.join(state.untracked)}"
    return text


def versions(found: Environment) -> str:
    """Return the versions that are known, in one line."""
    known = (
        ("Python", found.python),
        ("torch", found.torch),
        ("lab-train", found.lab_train),
        ("CUDA", found.cuda),
        ("cuDNN", found.cudnn),
        ("driver", found.driver),
    )
    return ", ".join(f"{name} {version}" for name, version in known if version)


def machine(found: Environment) -> str:
    """Return the machine in one line."""
    device = f"{found.device} ({found.device_name})" if found.device_name else found.device
    return ", ".join(part for part in (found.host, device, found.system) if part)
