from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from lab_core.configs import BaseConfigs, ConfigError, schema

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckersConfigs


class Configs(BaseConfigs):
    width: int = 3


class TakesNothing:
    def __init__(self, size: int = 7, *, name: str = "x") -> None:
        self.size = size


class TakesAnnotated:
    def __init__(self, settings: Configs) -> None:
        self.c = settings


class TakesNamed:
    def __init__(self, conf) -> None:  # type: ignore[no-untyped-def]
        self.c = conf


class TakesNamedAny:
    def __init__(self, c: Any, *, scale: int = 2) -> None:
        self.c = c


class TakesUnevaluated:
    def __init__(self, settings: OnlyForCheckersConfigs) -> None:
        self.c = settings


class TakesOptional:
    def __init__(self, settings: Configs = None) -> None:  # type: ignore[assignment]
        self.c = settings


class NoConstructor:
    pass


class InheritsVariadic(dict):  # type: ignore[type-arg]
    pass


class Number(int):
    pass


class NeedsInt:
    def __init__(self, c: int) -> None: ...


class NeedsUnnamed:
    def __init__(self, name) -> None: ...  # type: ignore[no-untyped-def]


class NeedsKeyword:
    def __init__(self, *, c: Configs) -> None: ...


class NeedsTwo:
    def __init__(self, c: Configs, other: int) -> None: ...


class Variadic:
    def __init__(self, *args: Any) -> None: ...


class Abstract(abc.ABC):
    @abc.abstractmethod
    def step(self) -> None: ...


class Shape(Protocol):
    def area(self) -> float: ...


class Color(enum.Enum):
    RED = 1


def with_item(cls: type) -> type[BaseConfigs]:
    class Local(Configs):
        item: cls  # type: ignore[valid-type]

    return Local


@pytest.mark.parametrize(
    "cls", [TakesAnnotated, TakesNamed, TakesNamedAny, TakesUnevaluated, TakesOptional]
)
def test_a_constructor_that_takes_configs_gets_them(cls: type) -> None:
    conf: Any = with_item(cls)()
    assert conf.item.c is conf
    assert conf.item.c.width == 3


@pytest.mark.parametrize("cls", [TakesNothing, NoConstructor])
def test_a_constructor_that_needs_nothing_gets_nothing(cls: type) -> None:
    conf: Any = with_item(cls)()
    assert type(conf.item) is cls
    assert getattr(conf.item, "size", 7) == 7


@pytest.mark.parametrize(
    "cls",
    [NeedsInt, NeedsUnnamed, NeedsKeyword, NeedsTwo, Variadic, Abstract, Shape, Color, int, dict],
)
def test_what_needs_anything_else_is_a_missing_value(cls: type) -> None:
    made = with_item(cls)
    assert schema(made).by_key["item"].required
    conf: Any = made()
    with pytest.raises(ConfigError, match="'item' has no value"):
        _ = conf.item


def test_a_value_or_an_option_goes_before_building() -> None:
    class Local(Configs):
        one: NoConstructor
        two: NoConstructor = "two"  # type: ignore[assignment]

    @Local.calc(Local.one)
    def first(c: Local) -> str:
        return "first"

    @Local.calc(Local.two)
    def two(c: Local) -> str:
        return "second"

    conf = Local()
    assert (conf.one, conf.two) == ("first", "second")  # type: ignore[comparison-overlap]


def test_a_class_can_be_registered_as_a_function() -> None:
    class Local(Configs):
        item: object

    Local.calc(Local.item)(TakesAnnotated)
    conf = Local()
    assert isinstance(conf.item, TakesAnnotated)
    assert conf.item.c is conf
    assert schema(Local).by_key["item"].options == ("TakesAnnotated",)
