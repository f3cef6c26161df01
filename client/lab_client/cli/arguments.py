"""Arguments that several commands take: configs as KEY=VALUE, run ids, and their completion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from lab_client import errors
from lab_client.cli.context import Settings
from lab_client.cli.run_options import read_configs
from lab_client.configs import ExperimentSchema, PlainValue
from lab_client.runs import SentCode
from lab_client.sync.client import Client
from lab_client.uploads.bundle import Bundle, collect, is_code

_WORDS: dict[str, PlainValue] = {"true": True, "false": False, "null": None, "none": None}
_TEXT = re.compile(r"str( \| None)?")


def read_source(text: str) -> str | Bundle:
    """Return what an experiment's argument means: a name, or code, collected now for all calls."""
    return collect(text) if is_code(text) else text


def parse_overrides(
    client: Client,
    experiment: str | Bundle | SentCode,
    arguments: Iterable[str],
    file: Path | None = None,
) -> dict[str, PlainValue]:
    """Return configs given as KEY=VALUE, and those of a file, each of the type that its item asks for.

    Args:
        client: knows the experiment.
        experiment: its name.
        arguments: as they were typed; they win over the file.
        file: with more configs, as `read_configs` reads it.

    Raises:
        ConfigError: if an argument is not KEY=VALUE, or a key comes twice.
    """
    pairs = split_pairs(arguments)
    configs = read_configs(file) | dict(pairs)
    if not configs:
        return {}
    schema = client.experiment(experiment).schema
    # also in a file: YAML takes 1e-3 for a text
    return {
        key: parse_value(value, schema, key) if isinstance(value, str) else value
        for key, value in configs.items()
    }


def split_pairs(arguments: Iterable[str]) -> list[tuple[str, str]]:
    """Return KEY=VALUE as pairs.

    Raises:
        ConfigError: if an argument is not KEY=VALUE, or a key comes twice.
    """
    arguments = list(arguments)
    wrong = [text for text in arguments if not text.partition("=")[0] or "=" not in text]
    keys = [text.partition("=")[0] for text in arguments]
    twice = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if twice and not wrong:
        raise errors.ConfigError([errors.Violation(key, f"{key} is given twice") for key in twice])
    if wrong:
        raise errors.ConfigError(
            [
                errors.Violation(text, f"{text!r} is not KEY=VALUE, such as epochs=2")
                for text in wrong
            ]
        )
    return [(key, text) for key, _, text in (text.partition("=") for text in arguments)]


def parse_value(text: str, schema: ExperimentSchema, key: str) -> PlainValue:
    """Return the value that a text means for an item; the server says what is wrong with it."""
    item = next((item for item in schema.items if item.key == key), None)
    if item is not None and (_TEXT.fullmatch(item.type) or text in item.options):
        return None if text.lower() in ("none", "null") and "None" in item.type else text
    return literal(text)


def literal(text: str) -> PlainValue:
    """Return what a text means by itself: a truth value, a number, a list, else the text."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text[:1] in ("[", '"'):
        try:
            parsed: PlainValue = json.loads(text)
        except ValueError:
            return text
        return parsed
    return text


def split_columns(text: str) -> list[str]:
    """Return the names in a text that are separated by commas, none of them empty."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def client_for_completion(context: typer.Context) -> Client:
    """Return a client that does not wait long: somebody waits for the shell."""
    root = context.find_root().params
    settings = Settings(
        *(root.get(name) for name in ("server", "token", "tls", "ca", "cert", "key"))
    )
    return settings.open(timeout_s=2, retry_timeout_s=0)


def complete_runs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of the newest runs that begin so."""
    try:
        with client_for_completion(ctx) as client:
            runs = client.runs(limit=100)
            return [
                (run.id, f"{run.name} {run.info.state}")
                for run in runs
                if run.id.startswith(incomplete)
            ]
    except errors.LabError:
        return []


def complete_experiments(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the experiments that begin so."""
    try:
        with client_for_completion(ctx) as client:
            return [
                (item.name, item.summary)
                for item in client.experiments()
                if item.name.startswith(incomplete)
            ]
    except errors.LabError:
        return []


def complete_configs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the config keys that begin so, or behind KEY= the options and values of that config."""
    try:
        with client_for_completion(ctx) as client:
            name = ctx.params.get("experiment")
            name = name or client.get(str(ctx.params.get("run"))).experiment
            schema = client.experiment(name).schema
    except errors.LabError:
        return []
    key, is_value, _ = incomplete.partition("=")
    if not is_value:
        return [(f"{i.key}=", i.doc) for i in schema.items if i.key.startswith(incomplete)]
    found = next((item for item in schema.items if item.key == key), None)
    if found is None:
        return []
    values = list(found.options) or (["true", "false"] if found.type == "bool" else [])
    for constraint in found.constraints:
        if constraint.rule == "choice" and isinstance(constraint.operand, list):
            values += map(str, constraint.operand)
    return [(f"{key}={v}", found.doc) for v in values if f"{key}={v}".startswith(incomplete)]


def _not_empty(run_id: str) -> str:
    if not run_id.strip():
        raise typer.BadParameter("a run's id is not empty; list runs with: lab runs")
    return run_id


def _none_empty(run_ids: list[str]) -> list[str]:
    return [_not_empty(run_id) for run_id in run_ids]


RunIds = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="Ids of runs, or unique prefixes of them.",
        autocompletion=complete_runs,
        callback=_none_empty,
    ),
]
RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's id, or a unique prefix of it.",
        autocompletion=complete_runs,
        callback=_not_empty,
    ),
]
ExperimentName = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="An experiment's name, or code to send: ./sine.py, ./my_package or ./sine.py:NAME.",
        autocompletion=complete_experiments,
    ),
]
ServedExperiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="The name of an experiment that the server has.",
        autocompletion=complete_experiments,
    ),
]
Configs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Configs, such as epochs=2 conv1_kernal=3.",
        autocompletion=complete_configs,
    ),
]
