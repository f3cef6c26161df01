"""Report a config instance: rows to print, data to save, hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lab_core.configs.classes.annotations import MISSING
from lab_core.configs.instances.base import BaseConfigs
from lab_core.configs.instances.state import State
from lab_core.configs.schema.choices import Choice
from lab_core.configs.schema.plain import PlainValue, is_plain, to_plain
from lab_core.configs.schema.plan import config_hash, is_hyperparam, origin_of
from lab_core.configs.schema.schema import SchemaItem
from lab_core.configs.schema.suggest import shown

_MAX_TEXT = 80


@dataclass(frozen=True, slots=True)
class ListingRow:
    """One line of the `Configs:` listing.

    Attributes:
        key: the item's key.
        value: as text, shortened; "" if it was not computed and is not known.
        option: the selected option.
        other_options: the options that were not selected.
        is_hyperparam: whether the item is a hyper-parameter.
        is_used: its value was given or read; unused items are dimmed and listed last.
        origin: as in a plan.
    """

    key: str
    value: str
    option: str | None
    other_options: tuple[str, ...]
    is_hyperparam: bool
    is_used: bool
    origin: str

    def __str__(self) -> str:
        mark = "*" if self.is_hyperparam else " "
        value = f" = {self.value}" if self.value else ""
        option = f"  {self.option}" if self.option else ""
        others = f"  [{', '.join(self.other_options)}]" if self.other_options else ""
        return f"{mark}{self.key}{value}{option}{others}"


def listing(conf: BaseConfigs) -> list[ListingRow]:
    """Return the rows of the `Configs:` listing: used items first."""
    state = conf._lab_state
    rows = []
    for item in state.spec.schema.items:
        if item.is_nested and not item.options:
            continue
        choice = state.choice(item.key)
        value = _known_value(state, item.key, choice)
        rows.append(
            ListingRow(
                key=item.key,
                value="" if value is MISSING else _text(value),
                option=choice.option,
                other_options=tuple(o for o in item.options if o != choice.option),
                is_hyperparam=_is_hyperparam(item, choice),
                is_used=item.key in state.values or choice.source in ("override", "assigned"),
                origin=origin_of(item, choice),
            )
        )
    return sorted(rows, key=lambda row: not row.is_used)


def to_yaml_data(conf: BaseConfigs) -> dict[str, Any]:
    """Return the configs as plain data: values, origins, and which item read which."""
    state = conf._lab_state
    items: dict[str, dict[str, Any]] = {}
    resolved: list[tuple[str, PlainValue, str | None]] = []
    for item in state.spec.schema.items:
        choice = state.choice(item.key)
        value = _known_value(state, item.key, choice)
        planned = choice.value if choice.has_value and is_plain(choice.value) else None
        resolved.append((item.key, to_plain(planned), choice.option))
        if item.is_nested and not item.options:
            continue
        entry: dict[str, Any] = {
            "value": to_plain(value) if value is not MISSING and is_plain(value) else None,
            "origin": origin_of(item, choice),
            "type": item.type,
        }
        if value is not MISSING and not is_plain(value):
            entry["text"] = _text(value)
        if choice.option is not None:
            entry["option"] = choice.option
        if item.options:
            entry["options"] = list(item.options)
        entry["hyperparam"] = _is_hyperparam(item, choice)
        entry["used"] = item.key in state.values
        if state.reads.get(item.key):
            entry["reads"] = list(state.reads[item.key])
        items[item.key] = entry
    return {
        "configs": state.spec.schema.name,
        "hash": config_hash(resolved, state.run_order),
        "run_order": list(state.run_order),
        "items": items,
    }


def hyperparams(conf: BaseConfigs) -> dict[str, PlainValue]:
    """Return the hyper-parameters as plain values: the option's name if an option computes the item."""
    state = conf._lab_state
    found: dict[str, PlainValue] = {}
    for item in state.spec.schema.items:
        choice = state.choice(item.key)
        if not _is_hyperparam(item, choice):
            continue
        value = _known_value(state, item.key, choice)
        if choice.option is not None and (
            choice.source in ("override", "assigned") or not is_plain(value)
        ):
            found[item.key] = choice.option
        elif value is not MISSING and is_plain(value):
            found[item.key] = to_plain(value)
        elif value is not MISSING:
            found[item.key] = _text(value)
    return found


def computed(conf: BaseConfigs) -> dict[str, Any]:
    """Return the values that were read or computed so far, by key."""
    return dict(conf._lab_state.values)


def _is_hyperparam(item: SchemaItem, choice: Choice) -> bool:
    """Return whether an item is a hyper-parameter; objects assigned in code are not."""
    given = choice.source in ("override", "assigned")
    if given and choice.has_value and not is_plain(choice.value) and not item.is_hyperparam:
        return False
    return is_hyperparam(item, (item.key,) if given else ())


def _known_value(state: State, key: str, choice: Choice) -> Any:
    """Return the value if it is known without computing anything, else MISSING."""
    if key in state.values:
        return state.values[key]
    if choice.source == "default" and choice.value is None and choice.option is None:
        return state.spec.sources[key].raw
    return choice.value if choice.has_value else MISSING


def _text(value: object) -> str:
    """Return a value as one short line."""
    if is_plain(value):
        return shown(value)
    name = f"<{type(value).__name__}>"
    if _is_bulky(value):
        return name
    try:
        text = repr(value)
    except Exception:  # a user's __repr__ must not end a run
        return name
    return name if "\n" in text or len(text) > _MAX_TEXT or " at 0x" in text else text


def _is_bulky(value: object) -> bool:
    """Return whether it is or holds an array: its repr takes milliseconds and is too long to show."""
    parts = [value]
    if is_dataclass(value):
        parts = [getattr(value, field.name, None) for field in fields(value)]
    return any(hasattr(part, "shape") for part in parts)
