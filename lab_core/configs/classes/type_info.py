"""What an annotation says of an item's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lab_core.configs.schema.constraints import constraint_problem
from lab_core.configs.schema.plain import Misfit, PlainValue, fit, is_plain, parse_type


class TypeInfo(NamedTuple):
    """A parsed annotation.

    Attributes:
        text: the plain type; `object` when a message cannot set it.
        constraints: bounds and choices as plain data.
        convert: turns a plain value into the annotated type: a list into a tuple, a name into an enum.
        cls: the class of an `object`, for checking and building values; of a converted value, too.
        members: of a union of which plain data cannot say which bound is whose.
    """

    text: str
    constraints: Mapping[str, PlainValue] = {}
    convert: Callable[[Any], Any] | None = None
    cls: type | None = None
    members: tuple[TypeInfo, ...] = ()


def infer(value: object) -> TypeInfo:
    """Return the type of an item that has no annotation, from its value."""
    if isinstance(value, bool):
        return TypeInfo("bool")
    for kind in (int, float, str):
        if type(value) is kind:
            return TypeInfo(kind.__name__)
    if value is None:
        return TypeInfo("any")
    if isinstance(value, list | tuple) and is_plain(value):
        inner = {infer(v).text for v in value}
        text = f"list[{inner.pop() if len(inner) == 1 else 'any'}]"
        return TypeInfo(text, convert=tuple if isinstance(value, tuple) else None)
    return TypeInfo("object")


def is_of_type(info: TypeInfo, value: Any) -> bool:
    """Return whether a plain value is of the type, within its bounds or not."""
    try:
        fit(parse_type(info.text), value)
    except Misfit:
        return False
    return True


def fits(info: TypeInfo, value: Any) -> bool:
    """Return whether a plain value is of the type and within its bounds."""
    return is_of_type(info, value) and constraint_problem(info.constraints, value) is None


def converted(info: TypeInfo, value: Any) -> Any:
    """Return a plain value as the annotation has it; what is so already as it is."""
    is_done = value is None or (info.cls is not None and isinstance(value, info.cls))
    return value if info.convert is None or is_done else info.convert(value)
