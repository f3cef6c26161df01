"""A config class merged with its bases and nested classes: its schema, and how to compute it."""

from __future__ import annotations

import enum
import inspect
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab_core.configs._annotations import MISSING, TypeInfo, evaluate, infer, understand
from lab_core.configs._build import Build, how_to_build
from lab_core.configs._declarations import Declarations, Option, read_class, version
from lab_core.configs._plain import Misfit, PlainValue, fit, is_plain, parse_type, to_plain
from lab_core.configs._schema import Aggregate, Group, Schema, SchemaItem
from lab_core.errors import ConfigError, Violation

if TYPE_CHECKING:
    from lab_core.configs._base import BaseConfigs

_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True, eq=False)
class BoundOption:
    """An option, and where in the tree of configs it was registered."""

    option: Option
    prefix: str

    @property
    def keys(self) -> tuple[str, ...]:
        """The full keys of what it computes."""
        return tuple(self.prefix + target for target in self.option.targets)


@dataclass(slots=True, eq=False)
class Source:
    """How one item gets its value at run time."""

    info: TypeInfo
    prefix: str
    raw: Any = MISSING
    options: dict[str, BoundOption] = field(default_factory=dict)
    build: Build | None = None
    nested: type[BaseConfigs] | None = None


@dataclass(slots=True, eq=False)
class Spec:
    """A config class, merged."""

    cls: type[BaseConfigs]
    schema: Schema
    sources: dict[str, Source]
    checks: list[tuple[str, str, Callable[[Any], object]]]
    aggregate_values: dict[tuple[str, str, str], Any]
    substitutes: dict[str, type[BaseConfigs]]

    def top_names(self, prefix: str = "") -> list[str]:
        """Return the names under a prefix, without what is nested deeper."""
        names = (key.removeprefix(prefix) for key in self.sources if key.startswith(prefix))
        return [name for name in names if "." not in name]


def spec_of(cls: type[BaseConfigs]) -> Spec:
    """Return the merged class; kept until something else is registered anywhere."""
    cached = vars(cls).get("_lab_spec")
    if cached is not None and cached[0] == version():
        return cached[1]  # type: ignore[no-any-return]
    merge = _Merge(cls)
    spec = merge.spec()
    if merge.is_final:
        type.__setattr__(cls, "_lab_spec", (version(), spec))
    return spec


def respecified(spec: Spec, key: str, cls: type[BaseConfigs]) -> Spec:
    """Return the spec with another class nested at a key: a subclass of the one declared there."""
    return _Merge(spec.cls, substitutes={**spec.substitutes, key: cls}).spec()


@dataclass(slots=True, eq=False)
class _Merge:
    """Merges one class; nested ones are merged first and taken over under their prefix."""

    cls: type[BaseConfigs]
    depth: int = 0
    substitutes: dict[str, type[BaseConfigs]] = field(default_factory=dict)
    is_final: bool = True  # no annotation waits for a name that is not defined yet
    sources: dict[str, Source] = field(default_factory=dict)
    aggregates: dict[tuple[str, str], tuple[tuple[str, Any], ...]] = field(default_factory=dict)
    hyperparams: dict[str, bool] = field(default_factory=dict)
    checks: list[tuple[str, str, Callable[[Any], object]]] = field(default_factory=list)

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
        names = dict.fromkeys(
            name for own in reversed(layers) for name in own.names() if "." not in name
        )
        return [name for name in names if not _is_shadowed(name, layers)]

    def _declare(self, name: str, layers: list[Declarations]) -> None:
        raw = next((own.values[name] for own in layers if name in own.values), MISSING)
        info = None
        for own in layers:
            if name in own.annotations:
                found = evaluate(own.annotations[name], own.global_scope, own.local_scope)
                if found is MISSING:
                    self.is_final = False
                else:
                    info = understand(found)
                    break
        if info is None:
            info = TypeInfo("object") if raw is MISSING else infer(raw)
        nested = self.substitutes.get(name) or _nested_class(info, raw)
        self.sources[name] = Source(info, "", raw, nested=nested)
        if nested is not None:
            self._take_over(name, nested, raw)

    def _infer_from_functions(self, layers: list[Declarations]) -> None:
        """Take the type of what only functions describe from the first one's return annotation."""
        annotated = {name for own in layers for name in own.annotations}
        for key, source in self.sources.items():
            if not source.options or key in annotated or "." in key:
                continue
            if source.raw is not MISSING and source.raw not in source.options:
                continue
            bound = source.options.get(source.raw) or next(iter(source.options.values()))
            function = bound.option.function
            returns = getattr(function, "__annotations__", {}).get("return", MISSING)
            scope = getattr(function, "__globals__", {})
            found = MISSING if returns is MISSING else evaluate(returns, scope, {})
            is_one = found is not MISSING and len(bound.option.targets) == 1
            source.info = understand(found) if is_one else TypeInfo("object")

    def _take_over(self, name: str, nested: type[BaseConfigs], raw: Any) -> None:
        prefix = name + "."
        deeper = {
            k.removeprefix(prefix): c for k, c in self.substitutes.items() if k.startswith(prefix)
        }
        inner = _Merge(nested, self.depth + 1, deeper)
        inner.run()
        self.is_final = self.is_final and inner.is_final
        given = raw._lab_state.given() if isinstance(raw, nested) else {}
        for key, source in inner.sources.items():
            options = {
                n: BoundOption(b.option, prefix + b.prefix) for n, b in source.options.items()
            }
            self.sources[prefix + key] = Source(
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
        problems = []
        for own in reversed(layers):  # the nearest class comes last, and to the front
            for key, options in own.options.items():
                if key not in self.sources:
                    problems.append(_unknown_target(self.cls, key))
                    continue
                source = self.sources[key]
                bound = {name: BoundOption(option, "") for name, option in options.items()}
                source.options = {
                    **bound,
                    **{n: o for n, o in source.options.items() if n not in bound},
                }
            for key, aggregates in own.aggregates.items():
                for option, choices in aggregates.items():
                    self.aggregates[key, option] = choices
                    for target, _ in choices:
                        if target not in self.sources:
                            problems.append(_unknown_target(self.cls, target))
            for key, mark in own.hyperparams.items():
                if key not in self.sources:
                    problems.append(_unknown_target(self.cls, key))
                self.hyperparams[key] = mark
        if problems:
            raise ConfigError(problems)
        named = {f.__name__: f for own in reversed(layers) for f in own.checks.values()}
        self.checks += [(name, "", function) for name, function in named.items()]

    def spec(self) -> Spec:
        self.run()
        targets, default_order = _run_targets(self.cls, self.sources)
        schema = Schema(
            name=self.cls.__name__,
            items=tuple(self._schema_item(key, s) for key, s in self.sources.items()),
            run_targets=targets,
            default_run_order=default_order,
            groups=self._groups(),
            aggregates=tuple(
                Aggregate(
                    key,
                    option,
                    tuple((k, to_plain(v) if is_plain(v) else None) for k, v in choices),
                )
                for (key, option), choices in self.aggregates.items()
            ),
        )
        values = {
            (key, option, target): value
            for (key, option), choices in self.aggregates.items()
            for target, value in choices
        }
        return Spec(self.cls, schema, self.sources, self.checks, values, self.substitutes)

    def _schema_item(self, key: str, source: Source) -> SchemaItem:
        names = [*source.options, *(o for k, o in self.aggregates if k == key)]
        default = plain_default(source, names)
        if isinstance(default, str) and default in names:
            names.remove(default)
            names.insert(0, default)
        is_given = source.raw is not MISSING or source.nested is not None
        type_text = source.info.text
        if source.raw is None and source.info.text != "object":
            type_text = _with_none(type_text)  # `x: int = None` means it
        mark = self.hyperparams.get(key)
        return SchemaItem(
            key=key,
            type=type_text,
            default=default,
            has_default=source.raw is not MISSING,
            options=tuple(dict.fromkeys(names)),
            functions=tuple(source.options),
            constraints=source.info.constraints,
            is_hyperparam=mark is True,
            never_hyperparam=mark is False,
            required=not is_given and not names and source.build is None,
            is_nested=source.nested is not None,
        )

    def _groups(self) -> tuple[Group, ...]:
        groups: dict[tuple[str, Option], list[str]] = {}
        for key, source in self.sources.items():
            for bound in source.options.values():
                if len(bound.option.targets) > 1:
                    groups.setdefault((bound.prefix, bound.option), []).append(key)
        return tuple(
            Group(option.name, tuple(keys)) for (_, option), keys in groups.items() if len(keys) > 1
        )


def plain_default(source: Source, names: list[str]) -> PlainValue:
    """Return the class's value as a message would carry it; None also for what no message can."""
    raw = source.raw
    if isinstance(raw, str) and raw in names:
        return raw
    if isinstance(raw, enum.Enum):
        return raw.name
    if isinstance(raw, pathlib.PurePath):
        return str(raw)
    if raw is MISSING or not is_plain(raw):
        return None
    try:
        return fit(parse_type(source.info.text), raw)
    except Misfit:
        return to_plain(raw)  # said so when the config is planned


def _with_none(type_text: str) -> str:
    if any(atom.name in ("None", "any") for atom in parse_type(type_text)):
        return type_text
    return f"{type_text} | None"


def _layers(cls: type) -> Iterator[Declarations]:
    """Yield what each class of the MRO declares, the nearest first."""
    from lab_core.configs._base import BaseConfigs

    for base in cls.__mro__:
        if base in (object, BaseConfigs) or base.__module__ == "typing":
            continue
        own = vars(base).get("_lab_own")
        yield own if own is not None else read_class(base)


def _is_shadowed(name: str, layers: list[Declarations]) -> bool:
    """Say whether a nearer class made a method of the item."""
    for own in layers:
        if name in own.shadows:
            return True
        if name in own.annotations or name in own.values or name in own.options:
            return False
    return False


def _nested_class(info: TypeInfo, raw: Any) -> type[BaseConfigs] | None:
    from lab_core.configs._base import BaseConfigs

    if isinstance(raw, BaseConfigs):
        return type(raw)
    if raw is MISSING and info.cls is not None and issubclass(info.cls, BaseConfigs):
        return info.cls
    return None


def _run_targets(
    cls: type[BaseConfigs], sources: dict[str, Source]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    targets = []
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if name.startswith("_") or name in sources or name in targets:
                continue
            if inspect.isfunction(value) and len(inspect.signature(value).parameters) == 1:
                targets.append(name)
    order = ["set_seed"] if "set_seed" in sources else []
    order += ["main"] if "main" in sources else ["run"] if "run" in targets else []
    return tuple(targets), tuple(order)


def _unknown_target(cls: type, key: str) -> Violation:
    return Violation(key, f"{cls.__name__} registers something for {key!r}, which it does not have")
