"""What `lab search` takes: a space as KEY=WHAT, and the id of a search."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import typer

from lab_client import errors
from lab_client.cli.arguments import client_for_completion, literal, parse_value, split_pairs
from lab_client.configs import ConfigItem, ExperimentSchema, PlainValue
from lab_client.searches import (
    Domain,
    anything,
    choice,
    int_range,
    log_uniform,
    uniform,
)
from lab_client.sync.client import Client

_RANGE = re.compile(
    r"(?P<log>log:)?(?P<low>[^./]+(?:\.[^./]+)?)\.\.(?P<high>[^/]+?)(?:/(?P<step>.+))?"
)


def parse_space(
    client: Client, experiment: str, arguments: Iterable[str]
) -> dict[str, Domain | PlainValue]:
    """Return what is searched: `3,5`, `0.1..0.9`, `log:1e-4..1e-1`, `1..9/2`, `*`, or a plain value.

    Raises:
        ConfigError: if an argument is not KEY=WHAT, or a key comes twice.
    """
    pairs = split_pairs(arguments)
    if not pairs:
        return {}
    schema = client.experiment(experiment).schema
    return {key: _parse(key, text, schema) for key, text in pairs}


def _parse(key: str, text: str, schema: ExperimentSchema) -> Domain | PlainValue:
    item = next((item for item in schema.items if item.key == key), None)
    if text == "*":
        return anything()
    found = _RANGE.fullmatch(text)
    if found and (item is None or item.type.partition(" ")[0] in ("int", "float")):
        return _parse_range(key, found, item)
    values = text.split(",") if not text.startswith("[") else [text]
    if len(values) > 1:
        return choice(*(parse_value(value.strip(), schema, key) for value in values))
    return parse_value(text, schema, key)


def _parse_range(key: str, found: re.Match[str], item: ConfigItem | None) -> Domain:
    ends = [literal(found[name]) for name in ("low", "high")]
    step = literal(found["step"]) if found["step"] else 0
    numbers = [n for n in (*ends, step) if isinstance(n, int | float) and not isinstance(n, bool)]
    if len(numbers) < 3:
        sentence = f"{key}: a range is LOW..HIGH or LOW..HIGH/STEP, of numbers, got {found[0]!r}"
        raise errors.ConfigError([errors.Violation(key, sentence)])
    low, high, step = numbers
    if found["step"] and step <= 0:
        sentence = f"{key}: a step is above 0, got {found['step']}"
        raise errors.ConfigError([errors.Violation(key, sentence)])
    is_int = item is not None and item.type.partition(" ")[0] == "int"
    if is_int and isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
        return int_range(low, high, step=step or 1, is_log=bool(found["log"]))
    if found["log"]:
        if step:
            sentence = f"{key}: a log-scale range has no step"
            raise errors.ConfigError([errors.Violation(key, sentence)])
        return log_uniform(low, high)
    return uniform(low, high, step=step)


def complete_searches(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of the newest searches that begin so."""
    try:
        with client_for_completion(ctx) as client:
            return [
                (search.id, f"{search.name} {search.info.state}")
                for search in client.searches(limit=100)
                if search.id.startswith(incomplete)
            ]
    except errors.LabError:
        return []


def _not_empty(search_id: str) -> str:
    if not search_id.strip():
        raise typer.BadParameter("a search's id is not empty; list searches with: lab searches")
    return search_id


SearchId = Annotated[
    str,
    typer.Argument(
        metavar="SEARCH",
        help="A search's id, or a unique prefix of it.",
        autocompletion=complete_searches,
        callback=_not_empty,
    ),
]
Space = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=WHAT",
        help="What to search: conv1_kernal=3,5 learning_rate=log:1e-4..1e-1 dropout=0..0.5/0.1 "
        "optimizer=* (all that the schema allows), or a value for all trials: epochs=2.",
    ),
]
