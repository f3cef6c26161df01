"""The language in which people look for runs: what it means, and what it says is wrong."""

from __future__ import annotations

import dataclasses
import math
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_server.errors import InvalidRequest
from lab_server.model.run import Run, RunOptions, RunParent, RunRequest, RunState
from lab_server.where import AllOf, AnyOf, Compare, Kind, Name, Not, parse, parse_name
from lab_server.where.condition import unknown_names
from lab_server.where.parser import MAX_CHARS, MAX_COMPARISONS, MAX_DEPTH
from tests.conditions import holds

DAY_NS = 86400 * 10**9
NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9
RUN = Run(
    "20261120-120000-abc123",
    RunRequest(
        "mnist",
        name="First try",
        tags=("best", "grid 3"),
        notes="looks good",
        options=RunOptions(priority=3, device="cuda:0"),
        parent=RunParent("20261119-1", 40),
    ),
    owner="ann",
    state=RunState.COMPLETED,
    step=500,
    metrics={"accuracy": 0.975, "train_loss": math.nan, "valid loss": 2.0, "step": 7.0},
    extremes={"accuracy": (0.1, 0.98)},
    configs={
        "learning_rate": 0.05,
        "epochs": 10,
        "dataset": "mnist_5k",
        "optimizer.momentum": 0.9,
        "is_save_models": True,
        "limit": None,
        "digits": "10",
        "kernels": [3, 5],
    },
    create_time_ns=NOON,
    start_time_ns=NOON + 10**9,
    end_time_ns=NOON + 91 * 10**9,
)


def matches(text: str, run: Run = RUN, now_ns: int = NOON + DAY_NS) -> bool:
    return holds(run, parse(text), now_ns)


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate < 0.1 and accuracy > 0.97 and state = completed",
        "state=COMPLETED",
        "state in (running, completed)",
        "state not in (failed, stopped)",
        "not state = failed",
        "not (state = failed or epochs > 10)",
        "epochs = 10 or nothing = 1 and nothing = 2",
        "(epochs = 3 or epochs = 10) and dataset == mnist_5k",
        "epochs=10.0 AND learning_rate>=5e-2",
        "dataset ~ MNIST",
        "dataset contains 5k",
        "dataset !~ cifar",
        "dataset not contains cifar",
        "name ~ first",
        "name = 'First try'",
        'name != "first try"',
        "notes ~ good",
        "tag = best",
        "tags = 'grid 3'",
        "tags ~ GRID",
        "tag in (worst, best)",
        "tag != worst",
        "is_save_models = true",
        "is_save_models != false",
        "limit = none",
        "nothing = none",
        "accuracy != none",
        "train_loss = nan",
        f"epochs < {'9' * 400} and step > -{'9' * 400}",
        "train_loss != none",
        "not train_loss < 5",
        "nothing != 3",
        "optimizer.momentum > 0.8",
        "config.epochs = 10",
        "metric.step = 7",
        "step = 500",
        'metric["valid loss"] = 2',
        "config['epochs'] = 10",
        "max(accuracy) > 0.975",
        "min(metric.accuracy) <= 0.1",
        "last(accuracy) < 0.98",
        "owner = ann and owner in (bob, ann)",
        "device = cuda:0 and priority = 3",
        "parent != none and parent = 20261119-1",
        "id ~ abc123",
        "created > 2026-11-20",
        "created = 2026-11-20",
        "created >= 2026-11-20T12:00 and created <= '2026-11-20 12:00:00+00:00'",
        "created > 2026-11-20T13:30+02:00",
        "ended < 2026-11-21 and started != none",
        "duration > 1min and duration <= 90s and duration < 1.5h",
        "age = 1d and age >= 24h and age < 1w",
        "digits = '10'",
        "not digits = 10",
    ],
)
def test_a_condition_holds(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "state = failed",
        "accuracy > 0.98",
        "epochs = 3 and dataset = mnist_5k or nothing = 2",
        "dataset = mnist",
        "dataset = MNIST_5K",
        "nothing > 0 or nothing <= 0",
        "nothing = 3",
        "train_loss < 5 or train_loss >= 5",
        "is_save_models = 1",
        "epochs = true",
        "epochs = '10'",
        "kernels = 3",
        "tag = bes",
        "tag = none",
        "limit != none",
        "created < 2026-11-20",
        "created = 2026-11-19",
        "metric.epochs = 10",
        "config.accuracy > 0",
        "search != none",
        "checkpoint_step != none",
        f"learning_rate > {'9' * 400}",
    ],
)
def test_a_condition_does_not_hold(text: str) -> None:
    assert not matches(text)


def test_a_run_that_trains_lasts_until_now() -> None:
    run = dataclasses.replace(RUN, end_time_ns=0, state=RunState.RUNNING)
    assert matches("duration = 61s", run, NOON + 62 * 10**9)
    run = dataclasses.replace(run, start_time_ns=0)
    assert matches("duration = none", run)


def test_days_have_names() -> None:
    run = dataclasses.replace(RUN, create_time_ns=int(datetime.now(UTC).timestamp() * 1e9))
    assert matches("created >= yesterday and created < 9999-01-01", run)
    assert not matches("created < yesterday", run)


def test_and_binds_before_or_and_not_before_and() -> None:
    a, b, c = (Compare(Name(Kind.VALUE, key), "=", 1) for key in "abc")
    assert parse("a=1 or b=1 and c=1") == AnyOf((a, AllOf((b, c))))
    assert parse("not a=1 and b=1") == AllOf((Not(a), b))
    assert parse("not (a=1 and b=1)") == Not(AllOf((a, b)))


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "expected a name, such as learning_rate or state, found the end"),
        ("learning_rate <", 15, "expected a value, found the end"),
        ("learning_rate < and x = 1", 16, "expected a value, found 'and'"),
        ("learning_rate 0.1", 14, "expected =, !=, <, <=, >, >=, ~, in or contains, found '0.1'"),
        ("0.1 < learning_rate", 0, "expected a name, such as learning_rate or state, found '0.1'"),
        ("a = 1 b = 2", 6, "expected 'and' or 'or', found 'b'"),
        ("(a = 1", 6, "expected ')' at the end of the group, found the end"),
        ("a = 1)", 5, "expected 'and' or 'or', found ')'"),
        ("a in 1", 5, "expected '(' before the values of 'in', found '1'"),
        ("a in (1 2)", 8, "expected ')' or ',' after a value of 'in', found '2'"),
        ("a in ()", 6, "expected a value, found ')'"),
        ("a not = 1", 6, "expected in or contains, found '='"),
        ("name = 'x", 7, "this quote has no end"),
        ("a = 1 ! b", 6, "'!' means nothing here"),
        ("state = complted", 8, "there is no state 'complted'; did you mean 'completed'?"),
        ("state < running", 6, "'state' is a state: compare it by =, != or in"),
        ("name < b", 5, "'name' is a text: compare it by =, !=, ~ or in"),
        ("tags > b", 5, "'tags' is a set of tags: compare it by =, !=, ~ or in"),
        ("step ~ 5", 5, "'step' is a number: compare it by =, !=, <, <=, >, >= or in"),
        ("step = many", 7, "expected a number, found 'many'; 'step' is a number of the run itself"),
        ("metric.acc > high", 13, "expected a number, found 'high'; a metric is one"),
        ("duration > 5x", 11, "expected a duration, such as 90s, 5min, 2h or 3d, found '5x'"),
        ("created > monday", 10, "expected a time, such as 2026-11-20, 2026-11-20T14:30 or today"),
        ("a < none", 2, "none and nan are compared by = or !="),
        ("a >= nan", 2, "none and nan are compared by = or !="),
        ("dataset < mnist", 8, "'<' compares numbers; for texts there are =, !=, ~ and in"),
        ("dataset ~ 5", 8, "'~' looks for a text; put it in quotes"),
        ("avg(acc) > 1", 0, "there is no function 'avg'"),
        ("max(state) > 1", 4, "expected the name of a metric in max(…), found 'state'"),
        ("max(acc > 1", 8, "expected ')' at the end of max(…), found '>'"),
        ("metric[acc] > 1", 7, "expected a name in quotes, found 'acc'"),
        ("config. > 1", 0, "expected a name after 'config.'"),
        ("__import__('os').system('ls')", 0, "there is no function '__import__'"),
        ("and = 1", 0, "expected a name, such as learning_rate or state, found 'and'"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, position: int, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    (violation,) = caught.value.violations
    first, shown, caret = violation.message.split("\n")
    assert violation.key == "where"
    assert message in first
    assert first.endswith(f"at character {position + 1}")
    assert caret.index("^") == 2 + position
    assert shown[2:].rstrip() == text.rstrip()
    assert pickle.loads(pickle.dumps(caught.value)).violations == caught.value.violations


def test_the_place_in_a_long_text_is_shown_with_what_is_around_it() -> None:
    text = " and ".join(["learning_rate < 0.1"] * 20) + "\nand\t? = 1"
    with pytest.raises(InvalidRequest) as caught:
        parse(text)
    first, shown, caret = str(caught.value).split("\n")
    assert shown[caret.index("^")] == text[text.index("?")] == "?"
    assert len(shown) < 120
    assert f"at character {text.index('?') + 1}" in first


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "1" * MAX_CHARS,
        "not " * (MAX_DEPTH + 1) + "a = 1",
        "(" * (MAX_DEPTH + 1) + "a = 1" + ")" * (MAX_DEPTH + 1),
        "a in (" + ",".join("1" * (MAX_COMPARISONS + 1)) + ")",
    ],
)
def test_what_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"at most|deep|more than"):
        parse(text)


WORDS: Any = st.sampled_from(
    [*"()=<>~!,[]\"'", "and", "or", "not", "in", "a", "state", "max", "metric", "1", "none", "nan"]
)


@given(st.text(max_size=30) | st.lists(WORDS, max_size=12).map(" ".join))
def test_any_text_is_a_condition_or_a_sentence(text: str) -> None:
    try:
        condition = parse(text)
    except InvalidRequest as error:
        assert "^" in str(error)  # noqa: PT017  # some texts are conditions
    else:
        holds(RUN, condition, NOON)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("step", Name(Kind.NUMBER, "step")),
        ("created", Name(Kind.TIME, "create_time")),
        ("learning_rate", Name(Kind.VALUE, "learning_rate")),
        ("optimizer.momentum", Name(Kind.VALUE, "optimizer.momentum")),
        ("config.step", Name(Kind.CONFIG, "step")),
        ("metrics.valid (loss)", Name(Kind.METRIC, "valid (loss)")),
        ("max(acc)", Name(Kind.METRIC, "acc", "max")),
        (" min( metric.a b ) ", Name(Kind.METRIC, "a b", "min")),
        ("", None),
        ("metrics.", None),
        ("max(state)", None),
        ("max(max(a))", None),
        ("avg(a)", None),
        ("a)", None),
    ],
)
def test_a_text_names_what_to_order_by(text: str, name: Name | None) -> None:
    assert parse_name(text) == name


def test_names_that_no_run_has_are_told_once_with_what_is_near() -> None:
    condition = parse(
        "acuracy > 1 or max(acuracy) > 1 and epochs = 1 and not config.lr = 2 and xyz = 1"
    )
    assert unknown_names(condition, {"accuracy", "epochs", "learning_rate"}) == [
        "no recent run has a config or metric 'acuracy'; did you mean 'accuracy'?",
        "no recent run has a config or metric 'lr'; did you mean 'learning_rate'?",
        "no recent run has a config or metric 'xyz'",
    ]
    assert "did you mean 'state'" in unknown_names(parse("sate = failed"), {"accuracy"})[0]
    assert unknown_names(parse("state = failed"), set()) == []
