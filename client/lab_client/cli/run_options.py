"""Options of all commands that make a run: how it is executed, and configs from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from lab_client import errors
from lab_client.runs import RunOptions

Notes: TypeAlias = Annotated[str, typer.Option(help="Free text about the run.")]
Priority: TypeAlias = Annotated[
    int | None, typer.Option(help="Runs with a higher priority start first; 0 when not given.")
]
Device: TypeAlias = Annotated[
    str | None, typer.Option(help="The device, such as cpu or cuda:0; any when not given.")
]
Pool: TypeAlias = Annotated[
    str | None, typer.Option(help="The pool of agents, such as gpus; any slot when not given.")
]
MaxRuntime: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="Stop after this many seconds; 0 is no limit.")
]
MaxRetries: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0, help="How often to retry after a crash; the server's default when not given."
    ),
]
Writers: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What records it, separated by commas: sqlite,tensorboard; both otherwise."),
]
FinalCheckpoint: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--final-checkpoint/--no-final-checkpoint",
        help="End with a checkpoint of the models; so unless not wanted.",
        show_default=False,
    ),
]
ConfigsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--file",
        exists=True,
        dir_okay=False,
        help="YAML with configs, or a run's configs.yaml; KEY=VALUE wins over it.",
    ),
]


def changed(options: RunOptions, **given: Any) -> RunOptions:
    """Return options with those of the command line that were given."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "writers" in changes:
        changes["writers"] = tuple(w.strip() for w in changes["writers"].split(",") if w.strip())
    return replace(options, **changes)


def read_configs(path: Path | None) -> dict[str, Any]:
    """Return the configs in a YAML file, by dotted keys; of a run's configs.yaml those that it was given.

    Raises:
        ConfigError: If it has none.
    """
    if path is None:
        return {}
    import yaml  # not for every command

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise _wrong(f"{path} cannot be read: {reason}") from None
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise _wrong(f"{path} is no mapping of configs, such as 'epochs: 2'")
    if isinstance(data.get("items"), Mapping) and "configs" in data:
        return {
            str(key): item["option"] if item.get("option") is not None else item.get("value")
            for key, item in data["items"].items()
            if item.get("origin") == "override"
        }
    return dict(_flat(data, ""))


def _flat(data: Mapping[Any, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        pairs += _flat(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return pairs


def _wrong(sentence: str) -> errors.ConfigError:
    return errors.ConfigError([errors.Violation("file", sentence)])
