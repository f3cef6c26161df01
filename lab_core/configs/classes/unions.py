"""Unions: which values and bounds their members have together."""

from __future__ import annotations

import re
import typing
from typing import Any

from lab_core.configs.classes.type_info import TypeInfo, converted, fits, infer, is_of_type
from lab_core.configs.schema.constraints import LENGTHS, constraint_problem
from lab_core.configs.schema.plain import PlainValue, parse_type

_NUMBER = re.compile(r"\b(int|float|any)\b")  # of a list's elements, too
_LOOSEST: dict[str, typing.Callable[[Any], Any]] = {
    **dict.fromkeys(("ge", "gt", "min_length"), min),
    **dict.fromkeys(("le", "lt", "max_length"), max),
}


def union(infos: list[TypeInfo]) -> TypeInfo:
    """Return what a union says, from what its members say."""
    if any(info.text == "object" for info in infos):
        return TypeInfo("object | None" if any(i.text == "None" for i in infos) else "object")
    constraints = bounds_of(infos)
    if choices := choices_of(infos):
        constraints["choices"] = choices

    def convert(value: Any) -> Any:
        info = next((i for i in infos if i.convert is not None and fits(i, value)), None)
        return value if info is None else converted(info, value)

    classes = [info.cls for info in infos if info.cls is not None]
    is_told = all(
        constraints.get(name) == bound
        for info in infos
        for name, bound in info.constraints.items()
        if name != "choices"
    )
    return TypeInfo(
        " | ".join(dict.fromkeys(info.text for info in infos)),
        constraints,
        convert if any(info.convert is not None for info in infos) else None,
        classes[0] if len(classes) == 1 else None,
        () if is_told else tuple(infos),
    )


def choices_of(infos: list[TypeInfo]) -> list[PlainValue]:
    """Return the choices of all members, without those of a type of which another member takes any value."""
    is_open = {info.text for info in infos if "choices" not in info.constraints}
    if "any" in is_open:
        return []
    if "float" in is_open:
        is_open.add("int")  # which is taken as a float
    listed = [typing.cast(list[PlainValue], i.constraints.get("choices", [])) for i in infos]
    kept = [choice for each in listed for choice in each if infer(choice).text not in is_open]
    return [*kept, None] if kept and "None" in is_open else kept


def member_problem(info: TypeInfo, value: Any) -> str | None:
    """Return the bound that a plain value breaks in each member of a union that is of its type, or None."""
    members = [member for member in info.members if is_of_type(member, value)]
    problems = [constraint_problem(member.constraints, value) for member in members]
    return problems[0] if problems and None not in problems else None


def bounds_of(infos: list[TypeInfo]) -> dict[str, PlainValue]:
    """Return the bounds that hold whichever member a value is of; of those that differ the loosest."""
    kept: dict[str, PlainValue] = {}
    for name in dict.fromkeys(name for info in infos for name in info.constraints):
        reached = [info.constraints.get(name) for info in infos if _reaches(name, info)]
        if name != "choices" and None not in reached:
            loosest = _LOOSEST.get(name, min)(reached)
            if name in _LOOSEST or reached.count(loosest) == len(reached):
                kept[name] = loosest
    return kept


def _reaches(name: str, info: TypeInfo) -> bool:
    """Return whether a bound of this name would be checked of a value of this type."""
    if name in LENGTHS:
        return any(atom.name in ("str", "list", "any") for atom in parse_type(info.text))
    return _NUMBER.search(info.text) is not None
