"""The lazy values of one config instance and of those nested in it.

A thread claims an item while it computes it; a computed value may be read by any thread. No lock is
held while a user's function runs.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, Protocol, cast

from lab_core.configs.classes.annotations import MISSING
from lab_core.configs.classes.build import build
from lab_core.configs.classes.marker import ConfigsMarker
from lab_core.configs.classes.recipe import BoundOption, ItemRecipe
from lab_core.configs.classes.spec import Spec, merged
from lab_core.configs.instances.claims import Claims
from lab_core.configs.instances.values import is_same, own_copy
from lab_core.configs.schema.choices import Choice, Chooser
from lab_core.errors import ConfigError, Violation

_NOT_NEEDED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


class Observer(Protocol):
    """Is called for each item that a function or its class computes; resuming a run uses one."""

    def recall(self, key: str) -> bool:
        """Put an item that was computed ahead into the values; return whether there was one."""

    def holds(self, key: str) -> bool:
        """Return whether an item was computed ahead and not read yet."""

    def begin(self, key: str) -> None:
        """Called before an item is computed, possibly within another computation."""

    def end(self, key: str, is_done: bool) -> None:
        """Called after the computation; the item has its value if `is_done`."""


class _Frame:
    """One computation in progress, while its context is open, and the items it has read so far."""

    __slots__ = ("key", "reads", "state")

    def __init__(self, state: State, key: str) -> None:
        self.state = state
        self.key = key
        self.reads: dict[str, None] = {}

    def __enter__(self) -> _Frame:
        frames = _stack.frames
        frames.append(self)
        if len(frames) > _DEPTH_WITHIN_LIMIT:
            _raise_recursion_limit(len(frames))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _stack.frames.pop()
        if error is not None and not isinstance(error, ConfigError):
            error.add_note(f"while computing the config {self.key!r}")


class _Stack(threading.local):
    """The computations in progress in this thread, the innermost last."""

    def __init__(self) -> None:
        self.frames: list[_Frame] = []


_stack = _Stack()


class Instance(Protocol):
    """The attributes of a config instance that its state uses."""

    _lab_prefix: str

    @property
    def _lab_state(self) -> State: ...


class State:
    """The overrides, assignments and computed values of one config instance.

    Attributes:
        overrides: given to `calculate`; checked.
        assigned: assigned on the instance.
        values: computed or read; fixed from then on.
        reads: for each computed item, the items that its computation read.
        run_order: of the last `calculate`.
        observer: called for each item that is computed.
    """

    def __init__(self, spec: Spec, root: Instance) -> None:
        self.spec = spec
        self.overrides: dict[str, Any] = {}
        self.assigned: dict[str, Any] = {}
        self.values: dict[str, Any] = {}
        self.reads: dict[str, tuple[str, ...]] = {}
        self.run_order: tuple[str, ...] = ()
        self.observer: Observer | None = None
        self._views: dict[str, Instance] = {"": root}
        self._chooser: Chooser | None = None
        self._readers: dict[str, str] = {}
        self._claims = Claims()

    def __getstate__(self) -> dict[str, Any]:
        left_behind = ("spec", "observer", "_chooser", "_claims")
        kept = {k: v for k, v in vars(self).items() if k not in left_behind}
        return {**kept, "_cls": self.spec.cls, "_substitutes": self.spec.substitutes}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.spec = merged(kept.pop("_cls"), kept.pop("_substitutes"))
        self.observer = None
        self._chooser = None
        self._claims = Claims()
        vars(self).update(kept)

    def given(self) -> dict[str, Any]:
        """Return the assigned and overridden values, by key."""
        return {**self.assigned, **self.overrides}

    def choice(self, key: str) -> Choice:
        """Return where an item's value comes from."""
        chooser = self._chooser
        if chooser is None:
            chooser = Chooser(self.spec.schema, self.overrides, self.assigned)
            self._chooser = chooser
        return chooser.choose(key)

    def assign(self, key: str, value: Any) -> None:
        """Set an item by assignment on the instance.

        Raises:
            ConfigError: If the item was read before.
        """
        self._refuse_after_read(key)
        self.assigned[key] = value
        self._chooser = None

    def override(self, overrides: Mapping[str, Any]) -> None:
        """Add overrides, which must be validated."""
        self.overrides.update(overrides)
        self._chooser = None

    def is_overridden(self, key: str, value: Any) -> bool:
        """Return whether an item already has this override."""
        return key in self.overrides and is_same(self.overrides[key], value)

    def after_read(self, key: str) -> Violation | None:
        """Return the violation if an item can no longer be set, else None."""
        if self.observer is not None and self.observer.holds(key):
            return Violation(
                key,
                f"{key!r} was computed when the run was resumed and is fixed from then on; "
                "set it before the run is started",
            )
        if key not in self.values:
            return None
        reader = self._readers.get(key)
        by = f" by {reader!r}" if reader else ""
        return Violation(
            key, f"{key!r} was read already{by} and is fixed from then on; set it before that"
        )

    def _refuse_after_read(self, key: str) -> None:
        problem = self.after_read(key)
        if problem is not None:
            raise ConfigError([problem])

    def read(self, key: str) -> Any:
        """Return an item's value, computed at the first read, and record which item read it."""
        frames = _stack.frames
        if frames and frames[-1].state is self:
            frames[-1].reads[key] = None
        value = self.values.get(key, MISSING)
        if value is MISSING:
            value = self._compute(key)
        if frames and key not in self._readers:
            self._readers[key] = frames[-1].key
        return value

    def view(self, prefix: str) -> Instance:
        """Return the configs under a prefix."""
        if prefix in self._views:
            return self._views[prefix]
        nested: Instance = self.read(prefix[:-1])
        return nested

    def _compute(self, key: str) -> Any:
        choice, source = self.choice(key), self.spec.sources[key]
        if choice.has_value and source.nested is None and self.observer is None:
            # it waits for nothing, so it needs no claim; of two threads the first one's counts
            return self.values.setdefault(key, self._without_function(key, source, choice))
        keys = self._computed_together(key, choice, source)
        claim = self._claims.take(keys, lambda: key in self.values)
        if claim is None:
            return self.values[key]
        try:
            if self.observer is None or not self.observer.recall(key):
                self._find(key, keys)
            return self.values[key]
        finally:
            self._claims.release(claim)

    def _computed_together(self, key: str, choice: Choice, source: ItemRecipe) -> list[str]:
        """Return the item, followed by the others that its function computes."""
        bound = source.options.get(choice.option) if choice.option else None
        if bound is None or len(bound.keys) == 1 or choice.has_value:
            return [key]
        return [key, *(k for k in bound.keys if k != key and self._is_chosen(k, bound))]

    def _find(self, key: str, together: Sequence[str]) -> None:
        source = self.spec.sources[key]
        choice = self.choice(key)
        if choice.source == "missing":
            raise ConfigError([Violation(key, self._missing_sentence(key))])
        bound = source.options.get(choice.option) if choice.option is not None else None
        is_called = not choice.has_value and bound is not None
        is_observed = is_called or (choice.source == "built" and source.nested is None)
        observer = self.observer if is_observed else None
        if observer is not None:
            observer.begin(key)
        try:
            if choice.has_value or bound is None:
                value = self._without_function(key, source, choice)
                if source.nested is not None:
                    value = self._adopt(key, source, value)
                self.values[key] = value
            else:
                self._call(key, bound, together)
        finally:
            if observer is not None:
                observer.end(key, is_done=key in self.values)

    def _without_function(self, key: str, source: ItemRecipe, choice: Choice) -> Any:
        if choice.source == "built":
            if source.nested is not None:
                return source.nested()
            assert source.build is not None
            with _Frame(self, key) as frame:
                value = build(source.info.cls, source.build, self.view(source.prefix))
            self.reads[key] = tuple(frame.reads)
            return value
        if choice.source == "aggregate" and choice.aggregate is not None:
            # as in the schema, if it is plain there: 1 is 1.0 under float
            chosen = choice.aggregate.key, choice.aggregate.option, key
            value = self.spec.aggregate_values[chosen] if choice.value is None else choice.value
        elif choice.source == "default":
            # the schema's default is as the type has it: 1 is 1.0 under float
            is_raw = choice.value is None or (
                choice.option is None and source.info.text == "object"
            )
            value = source.raw if is_raw else choice.value
        else:
            value = choice.value
        if source.nested is not None:
            # the instance in the class stays unchanged: its assigned values are this instance's defaults
            is_default = choice.source == "default"
            return source.nested.__new__(source.nested) if is_default else value
        return self._converted(source, value)

    def _converted(self, source: ItemRecipe, value: Any) -> Any:
        convert, cls = source.info.convert, source.info.cls
        if convert is not None and value is not None and not (cls and isinstance(value, cls)):
            value = convert(value)
        return own_copy(value)

    def _call(self, key: str, bound: BoundOption, together: Sequence[str]) -> None:
        """Call an option's function, and store its results for the items it computes."""
        is_single = len(bound.keys) == 1
        function = bound.option.function
        with _Frame(self, key) as frame:
            view = self.view(bound.prefix)
            result = function(view) if _takes_configs(function) else function()
        reads = tuple(frame.reads)
        results = [result] if is_single else self._several(bound, result)
        for target, value in zip(bound.keys, results, strict=True):
            if target in together:
                source = self.spec.sources[target]
                is_nested = source.nested is not None
                self.values[target] = self._adopt(target, source, value) if is_nested else value
                self.reads[target] = reads

    def _is_chosen(self, key: str, bound: BoundOption) -> bool:
        choice = self.choice(key)
        chosen = self.spec.sources[key].options.get(choice.option or "")
        return chosen is not None and chosen.option is bound.option and not choice.has_value

    def _several(self, bound: BoundOption, result: Any) -> list[Any]:
        expected = len(bound.keys)
        if not isinstance(result, tuple | list) or len(result) != expected:
            got = (
                f"{len(result)}"
                if isinstance(result, tuple | list)
                else repr(type(result).__name__)
            )
            names = ", ".join(bound.keys)
            sentence = f"{bound.option.name!r} computes {names}, so it must return {expected} values, got {got}"
            raise ConfigError([Violation(bound.keys[0], sentence)])
        return list(result)

    def _adopt(self, key: str, source: ItemRecipe, value: Any) -> Any:
        """Make a nested config instance part of this one."""
        assert source.nested is not None
        if not isinstance(value, source.nested):
            return value
        prefix = key + "."
        nested = cast(Instance, value)
        own = nested._lab_state
        if own is self:
            return value
        if nested._lab_prefix:
            raise ConfigError(
                [Violation(key, f"the value of {key!r} already belongs to other configs")]
            )
        if own.values:
            read = ", ".join(own.values)
            raise ConfigError(
                [Violation(key, f"items of {key!r} were read before it was assigned: {read}")]
            )
        if type(value) is not source.nested:
            self._use_subclass(key, type(value))
        for name, given in own.given().items():
            self._refuse_after_read(prefix + name)
            self.assigned.setdefault(prefix + name, given)
        attributes = vars(value)
        attributes["_lab_own_state"] = self
        attributes["_lab_prefix"] = prefix
        self._views[prefix] = nested
        self._chooser = None
        return value

    def _use_subclass(self, key: str, cls: type[ConfigsMarker]) -> None:
        """Replace a nested class by a subclass of it, with the items of the subclass."""
        self.spec = merged(self.spec.cls, {**self.spec.substitutes, key: cls})

    def _missing_sentence(self, key: str) -> str:
        frames = [f.key for f in _stack.frames if f.state is self]
        needed = f", which {frames[-1]!r} needs," if frames else ""
        return f"{key!r}{needed} has no value: give it one, or register a function with calc()"


_DEPTH_WITHIN_LIMIT = 20
_FRAMES_PER_ITEM = 12
_INITIAL_RECURSION_LIMIT = sys.getrecursionlimit()


def _raise_recursion_limit(depth: int) -> None:
    """Raise the recursion limit with the depth of nested computations: long chains are no error."""
    needed = _INITIAL_RECURSION_LIMIT + depth * _FRAMES_PER_ITEM
    # never lowered again: another thread may be deeper
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)


def _takes_configs(function: Any) -> bool:
    """Return whether an option's function takes the configs: it has a required parameter."""
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        code, defaults = function.__code__, function.__defaults__ or ()
        return code.co_argcount > len(defaults) or bool(code.co_flags & inspect.CO_VARARGS)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.default is p.empty and p.kind not in _NOT_NEEDED for p in parameters)
