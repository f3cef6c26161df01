"""The items that one class declares, without those of its bases; `merge` combines them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab_core.configs.classes.type_info import TypeInfo


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Option:
    """A function that computes one item, or several at once.

    Attributes:
        name: selects the option in a config message.
        function: takes the configs it was registered on, or nothing.
        targets: keys of the items it computes, relative to the class it was registered on.
    """

    name: str
    function: Callable[..., Any]
    targets: tuple[str, ...]


@dataclass(slots=True, eq=False, repr=False)
class Declarations:
    """One class's own items and registrations, in source order."""

    global_scope: Mapping[str, Any] = field(default_factory=dict)
    local_scope: dict[str, Any] = field(default_factory=dict)
    understood: dict[str, TypeInfo | None] = field(default_factory=dict)
    annotations: dict[str, object] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    shadows: frozenset[str] = frozenset()
    options: dict[str, dict[str, Option]] = field(default_factory=dict)
    aggregates: dict[str, dict[str, tuple[tuple[str, Any], ...]]] = field(default_factory=dict)
    hyperparams: dict[str, bool] = field(default_factory=dict)
    checks: dict[str, Callable[[Any], object]] = field(default_factory=dict)

    def names(self) -> Iterator[str]:
        """Yield every item that the class declares, each once."""
        yield from dict.fromkeys((*self.annotations, *self.values, *self.options, *self.aggregates))


class _Version:
    """Counts registrations, to detect outdated merged specs."""

    current = 0


def registered() -> None:
    """Invalidate every merged spec."""
    _Version.current += 1


def version() -> int:
    """Return the number of registrations so far."""
    return _Version.current


def read_class(cls: type, global_scope: Mapping[str, Any] | None = None) -> Declarations:
    """Collect the items of a class's body; annotations are evaluated later, in the given scope."""
    body = vars(cls)
    found = Declarations()
    if global_scope is None:
        module = sys.modules.get(cls.__module__)
        global_scope = vars(module) if module else {}
    found.global_scope = global_scope
    shadows = set()
    for name, annotation in _own_annotations(cls).items():
        if not name.startswith("_") and not _is_class_var(annotation):
            found.annotations[name] = annotation
    for name, value in body.items():
        if name.startswith("_"):
            continue
        if name not in found.annotations and (
            hasattr(type(value), "__get__")
            or _is_inner_class(value, cls)
            or _is_class_var_name(cls, name)
        ):
            shadows.add(name)
        else:
            found.values[name] = value
    found.shadows = frozenset(shadows)
    return found


def _own_annotations(cls: type) -> dict[str, object]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return dict(annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF))
    return dict(vars(cls).get("__annotations__", {}))


def _is_class_var(annotation: object) -> bool:
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return text.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))


def _is_class_var_name(cls: type, name: str) -> bool:
    return _is_class_var(_own_annotations(cls).get(name, ""))


def _is_inner_class(value: object, cls: type) -> bool:
    return isinstance(value, type) and value.__qualname__ == f"{cls.__qualname__}.{value.__name__}"
