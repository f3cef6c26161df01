"""A Run as a row of the table runs, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from sqlalchemy import RowMapping

from lab_server.model.run import (
    Run,
    RunOptions,
    RunParent,
    RunRequest,
    RunState,
    TrainerProcess,
    TrialOf,
)
from lab_server.model.upload import Upload

_NAN_OBJECT = {"float": "nan"}
_NAN = json.dumps(_NAN_OBJECT)
_STRICT = json.JSONEncoder(allow_nan=False).encode  # made once: each event has some JSON
# fields of a run that are columns of their own, by which lists filter and order
_PROGRESS = (
    "reason",
    "attempt",
    "step",
    "total_steps",
    "slot",
    "start_time_ns",
    "end_time_ns",
    "last_seq",
    "checkpoint_step",
    "config_hash",
)
_COLUMNS = (*_PROGRESS, "queue_key", "create_time_ns")
_DETAILS = (
    "num_retries",
    "steps_per_second",
    "spool_offset",
    "is_stop_requested",
    "has_resumed",
    "until_step",
    "code_digest",
    "provenance_seq",
    "has_stale_extremes",
    "planned_digest",
    "home",
)


_progress_of, _details_of = attrgetter(*_PROGRESS), attrgetter(*_DETAILS)


def progress_of(run: Run) -> dict[str, Any]:
    """Return the columns that change with each event; PostgreSQL has no index of them."""
    details = dict(zip(_DETAILS, _details_of(run), strict=True))
    if run.process is not None:
        details["process"] = [run.process.pid, run.process.start_ticks, run.process.agent]
    return {
        "metrics": _metrics_json(run.metrics),
        **dict(zip(_PROGRESS, _progress_of(run), strict=True)),
        "details": json.dumps(details),
        "extremes": strict_json(run.extremes),
    }


def row_of(run: Run) -> dict[str, Any]:
    """Return the columns of a run that may change."""
    parent, trial = run.request.parent, run.request.trial
    return {
        **progress_of(run),
        "device": run.request.options.device,
        "notes": run.request.notes,
        "parent": parent.run_id if parent else None,
        "search": trial.search_id if trial else None,
        "trial": trial.number if trial else None,
        "name": run.request.name,
        "state": run.state.value,
        "tags": json.dumps(run.request.tags),
        "priority": run.request.options.priority,
        "queue_key": run.queue_key,
        "request": _request_json(run.request),
    }


def new_row_of(run: Run) -> dict[str, Any]:
    """Return the columns of a run, with those that never change."""
    return {
        **row_of(run),
        "id": run.id,
        "experiment": run.experiment,
        "owner": run.owner,
        "create_time_ns": run.create_time_ns,
        "configs": strict_json(run.configs),
    }


def run_of(row: RowMapping, only_metrics: frozenset[str] | None = None) -> Run:
    """Return the run of a row, with the metrics of these names alone if there are any."""
    details = json.loads(row["details"])
    process = details.pop("process", None)
    metrics = json.loads(row["metrics"])
    return Run(
        id=row["id"],
        request=_request_of(row),
        owner=row["owner"],
        state=RunState(row["state"]),
        metrics={
            name: math.nan if value is None else float(value)
            for name, value in metrics.items()
            if only_metrics is None or name in only_metrics
        },
        process=TrainerProcess(*process) if process else None,
        configs=parse_json(row["configs"]),
        extremes={name: (low, high) for name, (low, high) in parse_json(row["extremes"]).items()},
        **{name: row[name] for name in _COLUMNS},
        **details,
    )


def strict_json(value: Any) -> str:
    """Return plain data as JSON that SQLite reads, too.

    It has no NaN, which becomes an object, and reads 9e999 as infinite.
    """
    try:
        return _STRICT(value)
    except ValueError:
        return _json(value)


def _json(value: Any) -> str:
    match value:
        case float():
            return _NAN if math.isnan(value) else _number(value)
        case dict():
            return f"{{{','.join(f'{json.dumps(k)}:{_json(v)}' for k, v in value.items())}}}"
        case list() | tuple():
            return f"[{','.join(map(_json, value))}]"
    return json.dumps(value)


def parse_json(text: str) -> Any:
    """Return what `strict_json` wrote."""
    if '"float"' not in text:
        return json.loads(text)  # in half the time
    return json.loads(text, object_hook=lambda found: math.nan if found == _NAN_OBJECT else found)


def _metrics_json(metrics: Mapping[str, float]) -> str:
    # strict JSON, which databases read: it has no NaN, and 9e999 is infinite to all readers
    return f"{{{','.join(f'{json.dumps(name)}:{_number(v)}' for name, v in metrics.items())}}}"


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    if math.isnan(value):
        return "null"
    return "9e999" if value > 0 else "-9e999"


def _request_json(request: RunRequest) -> str:
    options, parent, trial = request.options, request.parent, request.trial
    upload = request.upload
    return strict_json(
        {
            "overrides": dict(request.overrides),
            "run_order": request.run_order,
            "models": request.models,
            "pool": options.pool,
            "max_runtime_s": options.max_runtime_s,
            "max_retries": options.max_retries,
            "writers": options.writers,
            "final_checkpoint": options.final_checkpoint,
            "parent": [parent.run_id, parent.step] if parent else None,
            **({"trial": [trial.search_id, trial.number, trial.seed]} if trial else {}),
            **({"upload": [upload.id, upload.module]} if upload else {}),
        }
    )


def _request_of(row: RowMapping) -> RunRequest:
    data = parse_json(row["request"])
    return RunRequest(
        experiment=row["experiment"],
        overrides=data["overrides"],
        run_order=tuple(tuple(group) for group in data["run_order"]),
        models=tuple(data["models"]),
        options=RunOptions(
            priority=row["priority"],
            device=row["device"],
            pool=data.get("pool", ""),
            max_runtime_s=data["max_runtime_s"],
            max_retries=data["max_retries"],
            writers=tuple(data["writers"]),
            final_checkpoint=data.get("final_checkpoint", True),
        ),
        name=row["name"],
        tags=tuple(json.loads(row["tags"])),
        notes=row["notes"],
        parent=RunParent(*data["parent"]) if data["parent"] else None,
        trial=TrialOf(*data["trial"]) if "trial" in data else None,
        upload=Upload(*data["upload"]) if "upload" in data else None,
    )
