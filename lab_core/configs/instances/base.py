"""BaseConfigs: declare items in a class, register how they are computed, read them lazily."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lab_core.configs.classes.declarations import Declarations, Option, read_class, registered
from lab_core.configs.classes.marker import ConfigsMarker, declares_items
from lab_core.configs.classes.spec import spec_of
from lab_core.configs.instances.items import ItemAttribute, key_of
from lab_core.configs.instances.state import State
from lab_core.configs.schema.suggest import did_you_mean
from lab_core.errors import ConfigError, Violation

F = TypeVar("F", bound=Callable[..., Any])

_RESERVED = frozenset({"aggregate", "calc", "check", "set_hyperparams"})


class _ConfigsMeta(type):
    """Turns the public attributes of a class into items, also when they are assigned later."""

    _lab_own: Declarations

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
    ) -> _ConfigsMeta:
        cls = super().__new__(mcs, name, bases, namespace, **kwargs)
        # annotations are evaluated later, in the scope of the class statement, which may be a function
        frame = sys._getframe(1)
        own = read_class(cls, frame.f_globals)
        if "<locals>" in cls.__qualname__:
            # only what an annotation can name: keeping other locals would keep their data alive
            local = {k: v for k, v in frame.f_locals.items() if _may_annotate(v)}
            own.local_scope = {**local, name: cls}
        type.__setattr__(cls, "_lab_own", own)
        if declares_items(cls):
            taken = _RESERVED.intersection(own.names())
            if taken:
                first = sorted(taken)[0]
                raise ConfigError(
                    [Violation(first, f"{first!r} is a method of every config class; rename it")]
                )
            for base in cls.__mro__[1:]:
                # a plain mixin declares items too
                if declares_items(base) and not isinstance(base, _ConfigsMeta):
                    cls._install(read_class(base).names())
            cls._install(own.names())
        registered()
        return cls

    def _install(cls, names: Any) -> None:
        for name in names:
            type.__setattr__(cls, name, ItemAttribute(name))

    if not TYPE_CHECKING:  # otherwise type checkers would accept every attribute

        def __setattr__(cls, name: str, value: Any) -> None:
            if name.startswith("_") or hasattr(type(value), "__get__"):
                type.__setattr__(cls, name, value)
                return
            cls._lab_own.values[name] = value
            cls._install([name])
            registered()


class BaseConfigs(ConfigsMarker, metaclass=_ConfigsMeta):
    """The base of every config class.

    Annotated or assigned public attributes are items. `Configs.item` is the item, for `calc` and similar
    methods; `conf.item` is its value, computed when it is first read and fixed from then on.

    Example:
        >>> class Configs(BaseConfigs):
        ...     epochs: int = 10
        ...     steps: int
        >>> @Configs.calc(Configs.steps)
        ... def steps(c: Configs) -> int:
        ...     return c.epochs * 100
        >>> Configs().steps
        1000
    """

    _lab_prefix: str

    @property
    def _lab_state(self) -> State:
        """The state, created on first use: a subclass need not call `super().__init__()`."""
        attributes = vars(self)
        state = attributes.get("_lab_own_state")
        if state is None:
            state = State(spec_of(type(self)), self)
            attributes["_lab_own_state"] = state
        return state

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: Any) -> None:
            if not name.startswith("_") and not isinstance(_find(type(self), name), ItemAttribute):
                known = self._lab_state.spec.top_names(self._lab_prefix)
                hint = did_you_mean(name, known)
                raise ConfigError([Violation(name, f"unknown config {name!r}{hint}")])
            object.__setattr__(self, name, value)

    def _lab_given(self) -> dict[str, Any]:
        return self._lab_state.given()

    def __deepcopy__(self, memo: object) -> Self:
        """Return the same instance: a copied model refers to the same configs."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' ' + self._lab_prefix[:-1] if self._lab_prefix else ''}>"

    @classmethod
    def calc(cls, name: object = None, option: str | None = None) -> Callable[[F], F]:
        """Register the decorated function as an option of an item.

        Args:
            name: the item (`Configs.model`), its name, or a list of them for a function that returns
                several results; by default the item has the function's name.
            option: the option's name; by default the function's. The first option of the nearest
                class is the default.
        """
        if isinstance(name, FunctionType):  # `@Configs.calc` without parentheses
            return cls.calc()(name)

        def register(function: F) -> F:
            given = name if name is not None else function.__name__
            many = given if isinstance(given, list | tuple) else [given]
            keys = tuple(cls._lab_item(item) for item in many)
            made = Option(option or function.__name__, function, keys)
            for key in keys:
                cls._lab_own.options.setdefault(key, {})[made.name] = made
                cls._lab_declare(key)
            registered()
            return function

        return register

    @classmethod
    def set_hyperparams(cls, *items: Any, is_hyperparam: bool = True) -> None:
        """Mark items as hyper-parameters, or as never being hyper-parameters."""
        for item in items:
            cls._lab_own.hyperparams[key_of(item)] = is_hyperparam
        registered()

    @classmethod
    def aggregate(cls, item: Any, option: str, *choices: tuple[Any, Any]) -> None:
        """Let one option of an item select options of other items: each choice is an item and its option."""
        key = cls._lab_item(item)
        chosen = tuple((key_of(target), value) for target, value in choices)
        cls._lab_own.aggregates.setdefault(key, {})[option] = chosen
        cls._lab_declare(key)
        registered()

    @classmethod
    def check(cls, function: F) -> F:
        """Register a check across items: it raises ValueError when their values do not fit together.

        It may only read plain items, so that it can run before anything is built.
        """
        cls._lab_own.checks[function.__name__] = function
        registered()
        return function

    @classmethod
    def _lab_item(cls, item: object) -> str:
        """Return the key of an item that is there, or may be made."""
        key = key_of(item)
        if "." not in key and not isinstance(_find(cls, key), ItemAttribute | None):
            sentence = f"{key!r} is a method of {cls.__name__}; give the item another name"
            raise ConfigError([Violation(key, sentence)])
        return key

    @classmethod
    def _lab_declare(cls, key: str) -> None:
        if "." not in key and not isinstance(_find(cls, key), ItemAttribute):
            cls._install([key])


BaseConfigs._lab_prefix = ""


def _may_annotate(value: object) -> bool:
    return isinstance(value, type | ModuleType) or type(value).__module__ in ("types", "typing")


def _find(cls: type, name: str) -> object:
    """Return a class attribute without calling descriptors."""
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None
