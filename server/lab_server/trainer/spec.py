"""A launch order as JSON: how it gets from the server to the forkserver."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab_server.executors.protocol import LaunchSpec


def to_json(spec: LaunchSpec) -> dict[str, Any]:
    """Return the order as plain data."""
    data = {
        field.name: getattr(spec, field.name) for field in dataclasses.fields(LaunchSpec)
    }  # not asdict: it copies
    data["folder"] = str(spec.folder)
    data["overrides"] = dict(spec.overrides)
    data["parent_folder"] = None if spec.parent_folder is None else str(spec.parent_folder)
    return data


def from_json(data: Mapping[str, Any]) -> LaunchSpec:
    """Return the order that `to_json` made plain."""
    parent_folder = data["parent_folder"]
    return LaunchSpec(
        **{
            **data,
            "folder": Path(data["folder"]),
            "run_order": tuple(tuple(group) for group in data["run_order"]),
            "models": tuple(data["models"]),
            "writers": tuple(data["writers"]),
            "tags": tuple(data["tags"]),
            "parent_folder": None if parent_folder is None else Path(parent_folder),
        }
    )
