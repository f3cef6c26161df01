"""Parse an annotation: its plain type, its constraints, and its class."""

from __future__ import annotations

import collections.abc
import enum
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lab_core.configs.schema.constraints import LENGTHS, constraint_problem, read_metadata
from lab_core.configs.schema.plain import Misfit, PlainValue, fit, is_plain, parse_type, to_plain

MISSING: Any = object()
"""There is no annotation, or it cannot be evaluated."""


class TypeInfo(NamedTuple):
    """A parsed annotation.

    Attributes:
        text: the plain type; `object` when a message cannot set it.
        constraints: bounds and choices as plain data.
        convert: turns a plain value into the annotated type: a list into a tuple, a name into an enum.
        cls: the class of an `object`, for checking and building values; of a converted value, too.
    """

    text: str
    constraints: Mapping[str, PlainValue] = {}
    convert: Callable[[Any], Any] | None = None
    cls: type | None = None


_OBJECT = TypeInfo("object")
_ATOMS: dict[object, TypeInfo] = {
    bool: TypeInfo("bool"),
    int: TypeInfo("int"),
    float: TypeInfo("float"),
    str: TypeInfo("str"),
    None: TypeInfo("None"),
    type(None): TypeInfo("None"),
    Any: TypeInfo("any"),
    list: TypeInfo("list[any]"),
    tuple: TypeInfo("list[any]", convert=tuple),
    collections.abc.Sequence: TypeInfo("list[any]"),
    object: _OBJECT,
}


def evaluate(
    annotation: object, global_scope: Mapping[str, Any], local_scope: Mapping[str, Any]
) -> Any:
    """Return the annotation with its strings evaluated, or MISSING when that cannot be done."""
    if annotation is None or isinstance(annotation, type):
        return annotation
    probe = types.SimpleNamespace(__annotations__={"item": annotation})
    try:
        hints = typing.get_type_hints(
            probe, typing.cast(dict[str, Any], global_scope), local_scope, include_extras=True
        )
        return hints["item"]
    except Exception:
        # e.g. names imported under TYPE_CHECKING, forward references, syntax errors: not an error here
        return MISSING


def understand(annotation: Any) -> TypeInfo:
    """Return the type information of an evaluated annotation."""
    try:
        if annotation in _ATOMS:
            return _ATOMS[annotation]
    except TypeError:  # an unhashable annotation
        return _OBJECT
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = understand(arguments[0])
        constraints = {**inner.constraints, **read_metadata(arguments[1:])}
        return TypeInfo(inner.text, constraints, inner.convert, inner.cls)
    if origin is typing.Literal:
        return _literal(arguments)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin in (list, collections.abc.Sequence):
        return _list(arguments[0], None)
    if origin is tuple:
        return _tuple(arguments)
    if origin is typing.Final:
        return understand(arguments[0])
    supertype = getattr(annotation, "__supertype__", None)  # a NewType
    if supertype is not None:
        return understand(supertype)
    return _class(origin if isinstance(origin, type) else annotation)


def is_path_class(cls: type) -> bool:
    """Return whether values of this class are paths."""
    # where one is, pathlib is imported already; importing it takes a tenth of what this package does
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and issubclass(cls, pathlib.PurePath)


def infer(value: object) -> TypeInfo:
    """Return the type of an item that has no annotation, from its value."""
    if isinstance(value, bool):
        return _ATOMS[bool]
    for kind in (int, float, str):
        if type(value) is kind:
            return _ATOMS[kind]
    if value is None:
        return _ATOMS[Any]
    if isinstance(value, list | tuple) and is_plain(value):
        inner = {infer(v).text for v in value}
        text = f"list[{inner.pop() if len(inner) == 1 else 'any'}]"
        return TypeInfo(text, convert=tuple if isinstance(value, tuple) else None)
    return _OBJECT


def _literal(values: tuple[Any, ...]) -> TypeInfo:
    if not all(is_plain(v) for v in values):
        return _OBJECT
    text = " | ".join(dict.fromkeys(infer(v).text if v is not None else "None" for v in values))
    return TypeInfo(text, {"choices": [to_plain(v) for v in values]})


def _union(members: tuple[Any, ...]) -> TypeInfo:
    infos = [understand(m) for m in members]
    if any(info.text == "object" for info in infos):
        return TypeInfo("object | None") if any(i.text == "None" for i in infos) else _OBJECT
    constraints: dict[str, PlainValue] = {}
    for info in infos:
        constraints.update(info.constraints)
    if choices := _choices(infos):
        constraints["choices"] = choices
    else:
        constraints.pop("choices", None)

    def convert(value: Any) -> Any:
        info = next((i for i in infos if i.convert is not None and _fits(i, value)), None)
        return value if info is None else _converted(info, value)

    classes = [info.cls for info in infos if info.cls is not None]
    return TypeInfo(
        " | ".join(dict.fromkeys(info.text for info in infos)),
        constraints,
        convert if any(info.convert is not None for info in infos) else None,
        classes[0] if len(classes) == 1 else None,
    )


def _choices(infos: list[TypeInfo]) -> list[PlainValue]:
    """Return the choices of all members, without those of a type of which another member takes any value."""
    is_open = {info.text for info in infos if "choices" not in info.constraints}
    if "any" in is_open:
        return []
    if "float" in is_open:
        is_open.add("int")  # which is taken as a float
    listed = [typing.cast(list[PlainValue], i.constraints.get("choices", [])) for i in infos]
    kept = [choice for each in listed for choice in each if infer(choice).text not in is_open]
    return [*kept, None] if kept and "None" in is_open else kept


def _fits(info: TypeInfo, value: Any) -> bool:
    try:
        fit(parse_type(info.text), value)
    except Misfit:
        return False
    return constraint_problem(info.constraints, value) is None


def _converted(info: TypeInfo, value: Any) -> Any:
    """Return a plain value as the annotation has it; what is so already as it is."""
    is_done = value is None or (info.cls is not None and isinstance(value, info.cls))
    return value if info.convert is None or is_done else info.convert(value)


def _list(element: Any, convert: Callable[[Any], Any] | None) -> TypeInfo:
    inner = understand(element)
    if inner.text == "object":
        return TypeInfo("object", cls=tuple if convert else list)
    constraints = {key: bound for key, bound in inner.constraints.items() if key not in LENGTHS}
    if inner.convert is not None:
        whole = convert or list

        def convert(values: Any) -> Any:
            return whole(_converted(inner, value) for value in values)

    return TypeInfo(f"list[{inner.text}]", constraints, convert)


def _tuple(elements: tuple[Any, ...]) -> TypeInfo:
    if len(elements) == 2 and elements[1] is Ellipsis:
        return _list(elements[0], tuple)
    infos = [understand(e) for e in elements]
    if not infos or any(info.text == "object" for info in infos):
        return TypeInfo("object", cls=tuple)
    constraints: dict[str, PlainValue] = {"min_length": len(infos), "max_length": len(infos)}
    if choices := _choices(infos):
        constraints["choices"] = choices

    def convert(values: Any) -> Any:
        return tuple(map(_converted, infos, values))

    text = f"list[{' | '.join(dict.fromkeys(info.text for info in infos))}]"
    return TypeInfo(text, constraints, convert)


def _class(cls: Any) -> TypeInfo:
    if not isinstance(cls, type):
        return _OBJECT
    if issubclass(cls, enum.Enum):
        names: list[PlainValue] = list(cls.__members__)
        return TypeInfo("str", {"choices": names}, cls.__getitem__, cls)
    if is_path_class(cls):
        return TypeInfo("str", convert=cls, cls=cls)
    return TypeInfo("object", cls=cls)
