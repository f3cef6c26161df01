"""Speed of lab_core.configs: `python benchmarks/core_configs.py`. Prints figures, asserts nothing.

Processor time, of this process or of the Python that it starts: the work of others does not count.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from table import Row, at_most, markdown

from lab_core.configs import BaseConfigs, calculate, check, plan, schema

_NUM_ITEMS = 200


def make_class() -> type[BaseConfigs]:
    """Return a fresh config class: half its items are values, half computed from two others."""
    half = _NUM_ITEMS // 2
    lines = ["class Big(BaseConfigs):"]
    lines += [f"    value_{i}: Annotated[int, Ge(0)] = {i}" for i in range(half)]
    lines += [f"    computed_{i}: int" for i in range(half)]
    lines += [
        f"Big.calc(Big.computed_{i}, 'option')(lambda c: c.value_{i} + c.{before})"
        for i in range(half)
        for before in ([f"computed_{i - 1}"] if i else ["value_0"])
    ]
    scope: dict[str, Any] = {"__name__": __name__, "BaseConfigs": BaseConfigs}
    exec("from typing import Annotated\nfrom annotated_types import Ge", scope)
    exec("\n".join(lines), scope)
    made: type[BaseConfigs] = scope["Big"]
    return made


def used_s() -> float:
    """Return the processor time used so far, by this process and by those that it waited for."""
    ours, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def times_ms(action: Callable[[], object], repeats: int = 30) -> tuple[float, float]:
    """Return the median and the best time of an action in milliseconds."""
    times = []
    for _ in range(repeats):
        start = used_s()
        action()
        times.append(used_s() - start)
    return statistics.median(times) * 1000, min(times) * 1000


def python_ms(code: str, repeats: int = 20) -> tuple[float, float]:
    """Return the times of a fresh Python that runs the code."""
    return times_ms(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeats)


def rows() -> list[Row]:
    """Measure the processor time of each, as medians."""
    order = [f"computed_{_NUM_ITEMS // 2 - 1}"]
    cls = make_class()
    described = schema(cls)
    fresh = iter([make_class() for _ in range(30)])
    python, imported = python_ms("pass"), python_ms("import lab_core.configs")
    message = {"value_3": 5}
    costs = (
        (
            f"resolve {_NUM_ITEMS} items of a new class",
            lambda: calculate(next(fresh), message, order),
        ),
        (f"resolve {_NUM_ITEMS} items of a known class", lambda: calculate(cls, message, order)),
        (f"plan {_NUM_ITEMS} items", lambda: plan(described, message, order)),
        (f"check {_NUM_ITEMS} items", lambda: check(cls, message, order)),
    )
    found = []
    for what, action in costs:
        median, best = times_ms(action)
        found.append(at_most(what, median, 5, "ms", f"best {best:.2f} ms"))
    beyond, best = imported[0] - python[0], imported[1] - python[1]
    what = "import lab_core.configs, beyond Python"
    return [*found, at_most(what, beyond, 50, "ms", f"best {best:.1f} ms")]


if __name__ == "__main__":
    print(markdown(rows()))
