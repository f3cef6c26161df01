"""Merge a config class with its bases, along its MRO, and with the config classes nested in it."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lab_core.configs.classes.annotations import MISSING, evaluate, understand
from lab_core.configs.classes.build import how_to_build
from lab_core.configs.classes.declarations import Declarations, Option, read_class
from lab_core.configs.classes.marker import ConfigsMarker, declares_items
from lab_core.configs.classes.recipe import BoundOption, ItemRecipe
from lab_core.configs.classes.type_info import TypeInfo, infer
from lab_core.errors import ConfigError, Violation

_MAX_DEPTH = 8


@dataclass(slots=True, eq=False, repr=False)
class Merge:
    """Merges one class; nested ones are merged first and added under their prefix."""

    cls: type[ConfigsMarker]
    depth: int = 0
    substitutes: dict[str, type[ConfigsMarker]] = field(default_factory=dict)
    is_final: bool = True  # no annotation waits for a name that is not defined yet
    sources: dict[str, ItemRecipe] = field(default_factory=dict)
    aggregates: dict[tuple[str, str], tuple[tuple[str, Any], ...]] = field(default_factory=dict)
    hyperparams: dict[str, bool] = field(default_factory=dict)
    checks: list[tuple[str, str, Callable[[Any], object]]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)

    def run(self) -> None:
        if self.depth > _MAX_DEPTH:
            raise ConfigError([Violation("", f"{self.cls.__name__} is nested in itself")])
        layers = list(_layers(self.cls))
        for name in self._names(layers):
            self._declare(name, layers)
        self._register(layers)
        self._infer_from_functions(layers)
        for key, source in self.sources.items():
            if source.raw is MISSING and not source.options and source.nested is None:
                source.build = how_to_build(source.info.cls) if "." not in key else source.build

    def _names(self, layers: list[Declarations]) -> list[str]:
        # the items of the nearest class come first: readers of the schema look for those
        names = dict.fromkeys(name for own in layers for name in own.names() if "." not in name)
        self.hidden = {name for name in names if _is_shadowed(name, layers)}
        return [name for name in names if name not in self.hidden]

    def _declare(self, name: str, layers: list[Declarations]) -> None:
        raw = next((own.values[name] for own in layers if name in own.values), MISSING)
        info = None
        for own in layers:
            if name in own.annotations:
                info, is_evaluated = _understood(own, own.annotations[name])
                self.is_final = self.is_final and is_evaluated
                if info is not None:
                    break
        if info is None:
            info = TypeInfo("object") if raw is MISSING else infer(raw)
        nested = self.substitutes.get(name) or _nested_class(info, raw)
        self.sources[name] = ItemRecipe(info, "", raw, nested=nested)
        if nested is not None:
            self._add_nested(name, nested, raw)

    def _infer_from_functions(self, layers: list[Declarations]) -> None:
        """Give items without an annotation the return type of their first function."""
        annotated = {name for own in layers for name in own.annotations}
        for key, source in self.sources.items():
            if (
                source.options and source.info.text == "None"
            ):  # `set_seed: None`: computed for its side effect
                source.info = TypeInfo("object")
            if not source.options or key in annotated or "." in key:
                continue
            names_option = isinstance(source.raw, str) and source.raw in source.options
            if source.raw is not MISSING and not names_option:
                continue
            first = next(iter(source.options.values()))
            bound = source.options[source.raw] if names_option else first
            function = bound.option.function
            returns = getattr(function, "__annotations__", {}).get("return", MISSING)
            scope = getattr(function, "__globals__", {})
            found = MISSING if returns is MISSING else evaluate(returns, scope, {})
            # a function that returns None is there for its side effect: set_seed
            is_one = found not in (MISSING, None, type(None)) and len(bound.option.targets) == 1
            source.info = understand(found) if is_one else TypeInfo("object")

    def _add_nested(self, name: str, nested: type[ConfigsMarker], raw: Any) -> None:
        prefix = name + "."
        deeper = {
            k.removeprefix(prefix): c for k, c in self.substitutes.items() if k.startswith(prefix)
        }
        inner = Merge(nested, self.depth + 1, deeper)
        inner.run()
        self.is_final = self.is_final and inner.is_final
        given = raw._lab_given() if isinstance(raw, nested) else {}
        for key, source in inner.sources.items():
            options = {
                n: BoundOption.bind(b.option, prefix + b.prefix) for n, b in source.options.items()
            }
            self.sources[prefix + key] = ItemRecipe(
                source.info,
                prefix + source.prefix,
                given.get(key, source.raw),
                options,
                source.build,
                source.nested,
            )
        for (key, option), choices in inner.aggregates.items():
            self.aggregates[prefix + key, option] = tuple((prefix + k, v) for k, v in choices)
        self.hyperparams.update({prefix + k: v for k, v in inner.hyperparams.items()})
        self.checks += [(n, prefix + p, f) for n, p, f in inner.checks]

    def _register(self, layers: list[Declarations]) -> None:
        problems: list[Violation] = []

        def is_known(key: str) -> bool:
            if key not in self.sources and key not in self.hidden:
                problems.append(_unknown_target(self.cls, key))
            return key in self.sources

        for own in reversed(layers):  # the nearest class last, so that its options come first
            for key, options in own.options.items():
                if is_known(key):
                    _put_first(self.sources[key], options)
            for key, aggregates in own.aggregates.items():
                for option, choices in aggregates.items():
                    self.aggregates[key, option] = tuple(c for c in choices if is_known(c[0]))
            self.hyperparams.update({k: m for k, m in own.hyperparams.items() if is_known(k)})
        if problems:
            raise ConfigError(problems)
        named = {f.__name__: f for own in reversed(layers) for f in own.checks.values()}
        self.checks += [(name, "", function) for name, function in named.items()]


def _put_first(source: ItemRecipe, options: Mapping[str, Option]) -> None:
    """Add a nearer class's options before the existing ones; they replace those of the same name."""
    bound = {name: BoundOption.bind(option) for name, option in options.items()}
    rest = {name: option for name, option in source.options.items() if name not in bound}
    source.options = {**bound, **rest}


def _understood(own: Declarations, annotation: object) -> tuple[TypeInfo | None, bool]:
    """Return what an annotation says of a type, if anything, and whether it could be evaluated.

    What its text says is kept: many items share one.
    """
    text = annotation if isinstance(annotation, str) else None
    if text is not None and text in own.understood:
        return own.understood[text], True
    found = evaluate(annotation, own.global_scope, own.local_scope)
    if found is MISSING:
        return None, False
    info = None if found is typing.Final else understand(found)
    if text is not None:
        own.understood[text] = info
    return info, True


def _layers(cls: type) -> Iterator[Declarations]:
    """Yield the declarations of each class in the MRO, the nearest first."""
    for base in cls.__mro__:
        if not declares_items(base):
            continue
        own = vars(base).get("_lab_own")
        yield own if own is not None else read_class(base)


def _is_shadowed(name: str, layers: list[Declarations]) -> bool:
    """Return whether a nearer class replaced the item by a method."""
    for own in layers:
        if name in own.shadows:
            return True
        if name in own.annotations or name in own.values or name in own.options:
            return False
    return False


def _nested_class(info: TypeInfo, raw: Any) -> type[ConfigsMarker] | None:
    if isinstance(raw, ConfigsMarker):
        return type(raw)
    if raw is MISSING and info.cls is not None and issubclass(info.cls, ConfigsMarker):
        return info.cls
    return None


def _unknown_target(cls: type, key: str) -> Violation:
    return Violation(key, f"{cls.__name__} registers {key!r}, but has no such item")
