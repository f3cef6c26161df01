"""How runs and experiments look in a notebook: a small table, and a sparkline for each metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from lab_client.configs import ExperimentInfo, ExperimentSchema
from lab_client.history import History
from lab_client.runs import RunInfo

_WIDTH, _HEIGHT = 160, 28
_COLOURS = {"COMPLETED": "#2a7", "FAILED": "#c33", "STOPPED": "#b80", "RUNNING": "#28c"}


def run_html(info: RunInfo, history: History) -> str:
    """Return a run's state, configs and metrics as HTML."""
    colour = _COLOURS.get(info.state, "#888")
    total = f" of {info.total_steps}" if info.total_steps else ""
    head = (
        f"<b>{escape(info.name or info.id)}</b> <code>{escape(info.id)}</code> "
        f"<span style='color:{colour}'>{info.state}</span> step {info.step}{total}"
    )
    if info.reason:
        head += f"<br><small>{escape(info.reason)}</small>"
    configs = _table((key, repr(value)) for key, value in info.overrides.items())
    rows = []
    for item in history.values():
        last = f"{item.values[-1]:.5g}" if item.values else ""
        rows.append(
            f"<tr><td>{escape(item.name)}</td><td>{sparkline(item.values)}</td>"
            f"<td style='text-align:right'>{last}</td></tr>"
        )
    metrics = f"<table>{''.join(rows)}</table>" if rows else ""
    return f"<div>{head}{configs}{metrics}</div>"


def experiment_html(info: ExperimentInfo, schema: ExperimentSchema) -> str:
    """Return an experiment's config items as HTML."""
    head = f"<b>{escape(info.name)}</b> {escape(info.summary)}"
    rows = [
        f"<tr><td><code>{escape(item.key)}</code></td><td>{escape(item.type)}</td>"
        f"<td>{escape(' | '.join(item.options) or repr(item.default))}</td>"
        f"<td style='text-align:left'>{escape(item.doc)}</td></tr>"
        for item in schema.items
    ]
    return f"<div>{head}<table>{''.join(rows)}</table></div>"


def sparkline(values: Sequence[float]) -> str:
    """Return a small line drawing (SVG) of the values; what is not finite is left out."""
    finite = [(index, value) for index, value in enumerate(values) if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low = min(value for _, value in finite)
    high = max(value for _, value in finite)
    span = (high - low) or 1.0
    last = finite[-1][0] or 1
    points = " ".join(
        f"{index / last * _WIDTH:.1f},{_HEIGHT - 2 - (value - low) / span * (_HEIGHT - 4):.1f}"
        for index, value in finite
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}'>"
        f"<polyline points='{points}' fill='none' stroke='currentColor'/></svg>"
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(value)}</td></tr>"
        for key, value in rows
    )
    return f"<table>{cells}</table>" if cells else ""
