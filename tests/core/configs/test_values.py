from __future__ import annotations

import enum
import math
import pathlib
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Interval, Len, MultipleOf

from lab_core.configs import BaseConfigs, ConfigError, calculate, check, plan, schema


class Configs(BaseConfigs):
    flag: bool = False
    count: Annotated[int, Ge(1)] = 10
    rate: float = 0.1
    name: str = ""
    maybe: int | None = None
    sizes: list[int] = [1]  # noqa: RUF012
    betas: tuple[float, float] = (0.9, 0.999)
    mode: Literal["fast", "slow"] = "fast"
    width: Annotated[int, Interval(gt=0, le=512), MultipleOf(8)] = 8
    words: Annotated[list[str], Len(1, 2)] = ["a"]  # noqa: RUF012
    either: int | str = 1
    anything: Any = None
    model: dict[str, int]


SCHEMA = schema(Configs)


def planned(key: str, value: object, **options: Any) -> object:
    return plan(SCHEMA, {key: value}, **options).by_key[key].value


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("flag", True, True),
        ("count", 3, 3),
        ("rate", 3, 3.0),
        ("rate", math.inf, math.inf),
        ("name", "x", "x"),
        ("maybe", None, None),
        ("maybe", 3, 3),
        ("sizes", [], []),
        ("sizes", (1, 2), [1, 2]),
        ("betas", [0, 1], [0.0, 1.0]),
        ("either", "3", "3"),
        ("anything", [1, "a", [None]], [1, "a", [None]]),
        ("anything", True, True),
        ("rate", np.float32(0.5), 0.5),
        ("rate", np.float64(0.5), 0.5),
        ("rate", np.int32(3), 3.0),
        ("flag", np.True_, True),
        ("count", np.int16(3), 3),
        ("sizes", [np.int64(3)], [3]),
        ("anything", np.float32(0.5), 0.5),
    ],
)
def test_values_of_the_right_type_are_taken(key: str, value: object, expected: object) -> None:
    found = planned(key, value)
    assert found == expected
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("flag", 1, "flag must be a bool, got 1"),
        ("count", True, "count must be an int, got True"),
        ("count", np.True_, "count must be an int, got np.True_"),
        ("flag", np.int64(1), "flag must be a bool, got np.int64(1)"),
        ("count", 2.0, "count must be an int, got 2.0"),
        ("count", "2", "count must be an int, got '2'"),
        ("count", None, "count must be an int, got None"),
        ("count", -3, "count must be at least 1, got -3"),
        ("rate", "fast", "rate must be a float, got 'fast'"),
        ("rate", False, "rate must be a float, got False"),
        ("rate", 10**400, "rate must be a float, got 1000"),
        ("count", 2**63, "count must fit in 64 bits, got 9223372036854775808"),
        ("sizes", [2**70], "sizes must fit in 64 bits, got [1180591620717411303424]"),
        ("anything", -(2**70), "anything must be a plain value, got -118"),
        ("name", 3, "name must be a string, got 3"),
        ("maybe", "x", "maybe must be an int or None, got 'x'"),
        ("sizes", [1, "a"], "sizes must be a list, each an int, got [1, 'a']"),
        ("betas", [1], "betas must have a length of at least 2, got 1"),
        ("mode", "fas", "mode must be one of 'fast', 'slow', got 'fas'; did you mean 'fast'?"),
        ("mode", "x", "mode must be one of 'fast', 'slow', got 'x'"),
        ("width", 0, "width must be greater than 0, got 0"),
        ("width", 1024, "width must be at most 512, got 1024"),
        ("width", 9, "width must be a multiple of 8, got 9"),
        ("words", ["a", "b", "c"], "words must have a length of at most 2, got 3"),
        ("anything", {"a": 1}, "anything must be a plain value, got {'a': 1}"),
        ("model", 3, "model is set by the experiment's code only, got 3"),
        ("cuont", 3, "unknown config 'cuont'; did you mean 'count'?"),
    ],
)
def test_wrong_values_are_refused_with_a_sentence(key: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(key, value)
    [problem] = caught.value.violations
    assert problem.key == key
    assert problem.message.startswith(sentence)


def test_not_a_number_meets_no_bound() -> None:
    class Local(BaseConfigs):
        rate: Annotated[float, Ge(0)] = 0.0

    with pytest.raises(ConfigError, match="must be at least 0, got nan"):
        plan(schema(Local), {"rate": math.nan})


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("rate", "0.01", 0.01),
        ("rate", "1e-3", 0.001),
        ("rate", "3", 3.0),
        ("count", "12", 12),
        ("flag", "true", True),
        ("flag", "No", False),
        ("flag", "1", True),
        ("name", "12", "12"),
        ("name", "true", "true"),
        ("maybe", "none", None),
        ("maybe", "4", 4),
        ("sizes", "[1,2]", [1, 2]),
        ("sizes", "1, 2", [1, 2]),
        ("sizes", "[]", []),
        ("betas", "(0.9, 1)", [0.9, 1.0]),
        ("words", "[a,'b']", ["a", "b"]),
        ("either", "3", 3),
        ("either", "x", "x"),
        ("anything", "[1, {}]", "[1, {}]"),
        ("anything", "[1, 2.5]", [1, 2.5]),
        ("anything", "word", "word"),
        ("mode", "slow", "slow"),
    ],
)
def test_strings_of_a_command_line_are_read_by_type(key: str, text: str, expected: object) -> None:
    found = planned(key, text, coerce_strings=True)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("key", "text"),
    [("count", "1.5"), ("count", "0"), ("flag", "maybe"), ("rate", ""), ("sizes", "[1,a]")],
)
def test_strings_that_do_not_read_are_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} must be "):
        planned(key, text, coerce_strings=True)


def test_a_command_line_may_give_an_item_with_options_a_value() -> None:
    class Local(BaseConfigs):
        steps: Annotated[int, Ge(1)]

    Local.calc(Local.steps, "by_epoch")(lambda c: 7)
    found = schema(Local)
    assert plan(found, {"steps": "12"}, coerce_strings=True).by_key["steps"].value == 12
    assert plan(found, {"steps": "by_epoch"}, coerce_strings=True).by_key["steps"].option
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        plan(found, {"steps": "0"}, coerce_strings=True)
    with pytest.raises(ConfigError, match="unknown option 'by_epok' for 'steps'; did you mean"):
        plan(found, {"steps": "by_epok"}, coerce_strings=True)
    with pytest.raises(
        ConfigError, match=r"steps must be an int \(or one of its options: by_epoch"
    ):
        plan(found, {"steps": 1.5})


def test_a_sentence_never_echoes_a_huge_value_or_key() -> None:
    huge = "\n" + "x" * 1_000_000
    problems = check(Configs, {huge: 1, "count": huge, "mode": huge, "anything": {huge: 1}}, [huge])
    assert len(problems) == 5
    assert str(check(Configs, {"count": 10**5000})[0]) == "count must fit in 64 bits, got <int>"
    assert all(len(p.message) < 400 and "\n" not in p.message for p in problems)


def test_every_problem_of_a_message_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        calculate(Configs, {"cuont": 1, "rate": "x", "mode": "y"}, ["man"])
    assert [v.key for v in caught.value.violations] == ["cuont", "rate", "mode", "run_order"]
    assert str(caught.value).count("\n") == 3


def test_code_may_override_with_objects_of_the_right_class() -> None:
    class Model: ...

    class Local(BaseConfigs):
        model: Model
        loose: object
        unknown: Nowhere  # type: ignore[name-defined]  # noqa: F821

    model = Model()
    conf = calculate(Local, {"model": model, "loose": print, "unknown": 3})
    assert conf.model is model
    assert (conf.loose, conf.unknown) == (print, 3)
    with pytest.raises(ConfigError, match="model is set by the experiment's code only, got 3"):
        calculate(Local, {"model": 3})


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_floats_of_numpy_are_taken_as_floats(name: str) -> None:
    np = pytest.importorskip("numpy")
    given = getattr(np, name)(0.5)
    conf = calculate(Configs, {"rate": given, "anything": [given]})
    assert (conf.rate, conf.anything) == (0.5, [0.5])
    assert type(conf.rate) is type(conf.anything[0]) is float


@pytest.mark.parametrize("name", ["int8", "uint8", "int32", "int64", "uint64"])
def test_ints_of_numpy_are_taken_as_ints(name: str) -> None:
    np = pytest.importorskip("numpy")
    given = getattr(np, name)(3)
    conf = calculate(Configs, {"count": given, "rate": given, "anything": given})
    assert (conf.count, conf.rate, conf.anything) == (3, 3.0, 3)
    assert [type(v) for v in (conf.count, conf.rate, conf.anything)] == [int, float, int]


def test_bools_of_numpy_are_taken_as_bools_and_nothing_else() -> None:
    np = pytest.importorskip("numpy")
    conf = calculate(Configs, {"flag": np.bool_(True), "anything": np.bool_(False)})
    assert conf.flag is True
    assert conf.anything is False
    with pytest.raises(ConfigError, match="count must be an int, got"):
        calculate(Configs, {"count": np.bool_(True)})


@pytest.mark.parametrize("text", ["uint64(2**63)", "complex64(1)", "datetime64('2026-01-01')"])
def test_what_numpy_has_beyond_plain_numbers_is_refused(text: str) -> None:
    np = pytest.importorskip("numpy")
    given = eval(f"np.{text}", {"np": np})
    with pytest.raises(ConfigError):
        calculate(Configs, {"count": given})
    with pytest.raises(ConfigError):
        calculate(Configs, {"rate": [given]})
    with pytest.raises(ConfigError):
        calculate(Configs, {"anything": given})


def test_a_default_of_numpy_is_a_plain_default() -> None:
    np = pytest.importorskip("numpy")

    class Local(BaseConfigs):
        rate: float = np.float32(0.5)
        flag: bool = np.bool_(True)

    found = plan(schema(Local)).by_key
    assert (found["rate"].value, found["flag"].value) == (0.5, True)
    assert (Local().rate, Local().flag) == (0.5, True)


def test_an_int_that_the_class_gives_beyond_64_bits_is_told_in_the_plan() -> None:
    class Local(BaseConfigs):
        steps: int = 2**63

    with pytest.raises(ConfigError, match="steps must fit in 64 bits, but the class sets it to"):
        plan(schema(Local))
    with pytest.raises(ConfigError, match="steps must fit in 64 bits"):
        plan(schema(Local), {"steps": 2**64})


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Mixed(BaseConfigs):
    size: Literal["auto"] | int = "auto"
    scale: Literal["auto"] | Annotated[float, Ge(1)] = "auto"
    word: Literal["a"] | str = "b"
    share: Literal[1] | float = 2
    tint: Color | int = 3
    maybe: Color | None = None
    palette: list[Color] = [Color.RED]  # noqa: RUF012
    pair: tuple[Color, int] = (Color.RED, 1)
    files: list[pathlib.Path] = []  # noqa: RUF012
    ranges: list[tuple[int, int]] = []  # noqa: RUF012
    widths: list[Annotated[int, Ge(1)]] = [1]  # noqa: RUF012
    letters: Annotated[list[Literal["a", "b"]], Len(1, 2)] = ["a"]  # noqa: RUF012


def test_each_alternative_of_a_type_has_its_own_choices_and_class() -> None:
    assert check(Mixed) == ()
    assert Mixed().palette == [Color.RED]
    assert Mixed().pair == (Color.RED, 1)
    for key, value, expected in (
        ("size", 5, 5),
        ("scale", 2, 2.0),
        ("word", "zzz", "zzz"),
        ("share", 3, 3),
        ("tint", 5, 5),
        ("tint", "BLUE", Color.BLUE),
        ("maybe", "RED", Color.RED),
        ("maybe", Color.RED, Color.RED),
        ("palette", ["BLUE"], [Color.BLUE]),
        ("pair", ["BLUE", 3], (Color.BLUE, 3)),
        ("files", ["a"], [pathlib.Path("a")]),
        ("ranges", [[1, 2]], [(1, 2)]),
    ):
        found = getattr(calculate(Mixed, {key: value}), key)
        assert (key, type(found), found) == (key, type(expected), expected)
    assert schema(Mixed).by_key["palette"].default == ["RED"]
    assert schema(Mixed).by_key["pair"].default == ["RED", 1]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("size", "aut", "size must be one of 'auto', got 'aut'; did you mean 'auto'?"),
        ("scale", 0.5, "scale must be at least 1, got 0.5"),
        ("tint", "GREEN", "tint must be one of 'RED', 'BLUE', got 'GREEN'"),
        ("palette", ["RED", "GREEN"], "palette must be one of 'RED', 'BLUE', got 'GREEN'"),
        ("pair", ["GREEN", 1], "pair must be one of 'RED', 'BLUE', got 'GREEN'"),
        ("widths", [1, 0], "widths must be at least 1, got 0"),
        ("letters", ["c"], "letters must be one of 'a', 'b', got 'c'"),
        ("letters", [], "letters must have a length of at least 1, got 0"),
    ],
)
def test_what_is_wrong_in_a_list_or_an_alternative_is_told(
    key: str, value: object, sentence: str
) -> None:
    [problem] = check(Mixed, {key: value})
    assert problem.message.startswith(sentence)
