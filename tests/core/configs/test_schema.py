from __future__ import annotations

import enum
import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType

import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen, MultipleOf

from lab_core.configs import BaseConfigs, Schema, calculate, schema

Width = NewType("Width", int)


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Model: ...


class Types(BaseConfigs):
    a: bool
    b: int
    c: float
    d: str
    e: int | None
    f: list[int]
    g: Sequence[float]
    h: tuple[float, float]
    i: tuple[int, ...]
    j: Literal["x", "y"]
    k: Literal[1, "x", None]
    m: Any
    n: Model
    o: Model | None
    p: dict[str, int]
    q: Color
    r: pathlib.Path
    s: Width
    t: list[list[int] | None]
    u: list  # type: ignore[type-arg]
    v: int = None  # type: ignore[assignment]
    w = [1, 2.0]  # noqa: RUF012
    x = None
    y: list[Model]
    z: "int | str"  # noqa: UP037


def test_types_are_short_texts() -> None:
    assert {item.key: item.type for item in schema(Types).items} == {
        "a": "bool",
        "b": "int",
        "c": "float",
        "d": "str",
        "e": "int | None",
        "f": "list[int]",
        "g": "list[float]",
        "h": "list[float]",
        "i": "list[int]",
        "j": "str",
        "k": "int | str | None",
        "m": "any",
        "n": "object",
        "o": "object | None",
        "p": "object",
        "q": "str",
        "r": "str",
        "s": "int",
        "t": "list[list[int] | None]",
        "u": "list[any]",
        "v": "int | None",
        "w": "list[any]",
        "x": "any",
        "y": "object",
        "z": "int | str",
    }


def test_values_come_as_the_annotation_has_them() -> None:
    conf = calculate(Types, {"h": [1, 2], "q": "BLUE", "r": "a/b", "i": [1], "c": 1})
    assert conf.h == (1.0, 2.0)
    assert isinstance(conf.h[0], float)
    assert conf.q is Color.BLUE
    assert conf.r == pathlib.Path("a/b")
    assert conf.i == (1,)
    assert isinstance(conf.c, float)
    conf = calculate(Types, {"q": Color.RED, "r": pathlib.Path("c"), "n": Model(), "o": None})
    assert conf.q is Color.RED
    assert conf.r == pathlib.Path("c")


def test_defaults_come_as_the_annotation_has_them() -> None:
    class Local(BaseConfigs):
        rate: float = 1
        betas: tuple[float, float] = (0, 1)
        color: Color = Color.RED
        path: pathlib.Path = pathlib.Path("x")

    found = schema(Local).by_key
    assert repr(found["rate"].default) == "1.0"
    assert found["betas"].default == [0.0, 1.0]
    assert (found["color"].default, found["path"].default) == ("RED", "x")
    conf = Local()
    assert repr((conf.rate, conf.betas)) == "(1.0, (0.0, 1.0))"
    assert (conf.color, conf.path) == (Color.RED, pathlib.Path("x"))


def test_constraints_are_plain_data() -> None:
    class Local(BaseConfigs):
        a: Annotated[int, Ge(1)] = 1
        b: Annotated[float, Gt(0), Le(1)] = 1
        c: Annotated[float, Interval(ge=0, lt=1)] | None = None
        d: Annotated[list[int], Len(1, 3)] = [1]  # noqa: RUF012
        e: Annotated[str, MinLen(2), "a note for somebody else"] = "ab"
        f: Annotated[int, MultipleOf(8), Lt(100)] = 8

    assert {i.key: i.constraints for i in schema(Local).items} == {
        "a": {"ge": 1},
        "b": {"gt": 0, "le": 1},
        "c": {"ge": 0, "lt": 1},
        "d": {"min_length": 1, "max_length": 3},
        "e": {"min_length": 2},
        "f": {"multiple_of": 8, "lt": 100},
    }


class Documented(BaseConfigs):
    """Trains.

    At length.
    """

    # how often the data
    # is seen
    epochs: int = 10

    rate: float = 0.1  # the size of a step
    momentum: float = 0.5
    """how much is
    remembered"""
    plain: int = 1

    # fmt: off
    odd: int = 3  # type: ignore[unused-ignore]
    color: str = "#fff"  # of the plot: 'ä'
    steps: int
    note: str = ""


@Documented.calc(Documented.steps)
def steps(c: Documented) -> int:
    """Return all steps.

    With details.
    """
    return 1


class Inherited(Documented):
    rate = 0.2
    momentum = 0.9  # nearer


def test_docs_are_the_comment_or_docstring_beside_the_declaration() -> None:
    found = schema(Documented)
    assert found.doc == "Trains.\n\nAt length."
    assert {i.key: i.doc for i in found.items if i.doc} == {
        "epochs": "how often the data\nis seen",
        "rate": "the size of a step",
        "momentum": "how much is\nremembered",
        "color": "of the plot: 'ä'",
        "steps": "Return all steps.",
    }


def test_docs_are_inherited_where_the_child_says_nothing() -> None:
    found = schema(Inherited).by_key
    assert (found["rate"].doc, found["momentum"].doc) == ("the size of a step", "nearer")


def test_a_class_without_source_has_no_docs() -> None:
    scope: dict[str, Any] = {"__name__": "nowhere", "BaseConfigs": BaseConfigs}
    exec("class Configs(BaseConfigs):\n    epochs: int = 3  # lost\n", scope)
    assert schema(scope["Configs"]).by_key["epochs"].doc == ""


@pytest.mark.parametrize("cls", [Types, Documented, Inherited])
def test_a_schema_survives_json(cls: type[BaseConfigs]) -> None:
    found = schema(cls)
    again = Schema.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.to_json() == found.to_json()
    assert repr(again) == repr(found)  # a float stays a float


def test_what_is_required_is_what_nothing_gives_a_value() -> None:
    class Local(BaseConfigs):
        given: int = 1
        missing: int
        built: Model
        computed: int
        nothing: int | None = None

    Local.calc(Local.computed)(lambda c: 1)
    assert [i.key for i in schema(Local).items if i.required] == ["missing"]


def test_marks_are_in_the_schema() -> None:
    class Local(BaseConfigs):
        a: int = 1
        b: int = 1
        c: int = 1

    Local.set_hyperparams(Local.a, Local.b)
    Local.set_hyperparams("b", "c", is_hyperparam=False)
    assert [(i.is_hyperparam, i.never_hyperparam) for i in schema(Local).items] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_the_default_run_order() -> None:
    class Plain(BaseConfigs):
        def run(self) -> None: ...

    class Seeded(Plain):
        set_seed: Model

    class Main(Seeded):
        main: Model

    orders = [schema(cls).default_run_order for cls in (BaseConfigs, Plain, Seeded, Main)]
    assert orders == [(), ("run",), ("set_seed", "run"), ("set_seed", "main")]
