"""Long chains of items, and containers that are items."""

from __future__ import annotations

import sys
from typing import Any

from lab_core.configs import BaseConfigs, calculate


def chain(num_items: int) -> type[BaseConfigs]:
    """Return configs of which each item needs the one before."""

    class Chain(BaseConfigs):
        item_0: int = 1

    for i in range(1, num_items):

        def step(c: BaseConfigs, i: int = i) -> int:
            return int(getattr(c, f"item_{i - 1}")) + 1

        Chain.calc(f"item_{i}")(step)
    return Chain


# Python 3.12 bounds calls through C, such as that of a property, beside its recursion limit
LONG = 500 if sys.version_info[:2] == (3, 12) else 1000


def test_a_chain_of_many_items_is_computed() -> None:
    conf = calculate(chain(LONG), {}, [f"item_{LONG - 1}"])
    assert getattr(conf, f"item_{LONG - 1}") == LONG


def test_a_function_that_calls_itself_for_ever_still_ends_in_a_recursion_error() -> None:
    class Endless(BaseConfigs):
        item: int

    def again() -> int:
        return again()

    Endless.calc(Endless.item)(again)
    limit = sys.getrecursionlimit()
    try:
        _ = Endless().item
    except RecursionError:
        pass
    else:
        raise AssertionError("expected a RecursionError")
    assert sys.getrecursionlimit() == limit


def test_instances_share_no_container_that_the_class_gives() -> None:
    class Local(BaseConfigs):
        options: dict[str, Any] = {"betas": [0.9, 0.999], "names": {"a"}}  # noqa: RUF012
        nested: list[list[int]] = [[1], [2]]  # noqa: RUF012
        pair = ([1], [2])

    first, second = Local(), Local()
    first.options["betas"].append(1.0)
    first.options["names"].add("b")
    first.options["more"] = 1
    first.nested[0].append(5)
    first.pair[0].append(5)
    for other in (second, Local()):
        assert other.options == {"betas": [0.9, 0.999], "names": {"a"}}
        assert other.nested == [[1], [2]]
        assert other.pair == ([1], [2])


def test_instances_share_no_container_that_a_caller_gives() -> None:
    class Local(BaseConfigs):
        options: dict[str, int]

    given = {"a": 1}
    conf = calculate(Local, {"options": given})
    conf.options["b"] = 2
    assert given == {"a": 1}
