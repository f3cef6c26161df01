"""Parse an annotation: its plain type, its constraints, and its class."""

from __future__ import annotations

import collections.abc
import enum
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from lab_core.configs.classes.type_info import TypeInfo, converted, infer
from lab_core.configs.classes.unions import bounds_of, choices_of, union
from lab_core.configs.schema.constraints import LENGTHS, read_metadata
from lab_core.configs.schema.plain import PlainValue, is_plain, to_plain

MISSING: Any = object()
"""There is no annotation, or it cannot be evaluated."""


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
        return union([understand(member) for member in arguments])
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


def _literal(values: tuple[Any, ...]) -> TypeInfo:
    if not all(is_plain(v) for v in values):
        return _OBJECT
    text = " | ".join(dict.fromkeys(infer(v).text if v is not None else "None" for v in values))
    return TypeInfo(text, {"choices": [to_plain(v) for v in values]})


def _list(element: Any, convert: Callable[[Any], Any] | None) -> TypeInfo:
    inner = understand(element)
    if inner.text == "object":
        return TypeInfo("object", cls=tuple if convert else list)
    constraints = {key: bound for key, bound in inner.constraints.items() if key not in LENGTHS}
    if inner.convert is not None:
        whole = convert or list

        def convert(values: Any) -> Any:
            return whole(converted(inner, value) for value in values)

    return TypeInfo(f"list[{inner.text}]", constraints, convert)


def _tuple(elements: tuple[Any, ...]) -> TypeInfo:
    if len(elements) == 2 and elements[1] is Ellipsis:
        return _list(elements[0], tuple)
    infos = [understand(e) for e in elements]
    if not infos or any(info.text == "object" for info in infos):
        return TypeInfo("object", cls=tuple)
    constraints = {key: bound for key, bound in bounds_of(infos).items() if key not in LENGTHS}
    constraints |= {"min_length": len(infos), "max_length": len(infos)}
    if choices := choices_of(infos):
        constraints["choices"] = choices

    def convert(values: Any) -> Any:
        return tuple(map(converted, infos, values))

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
