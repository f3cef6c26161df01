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


def main() -> None:
    """Print the figures beside what they are to be."""
    order = [f"computed_{_NUM_ITEMS // 2 - 1}"]
    cls = make_class()
    described = schema(cls)
    fresh = iter([make_class() for _ in range(30)])
    python, imported = python_ms("pass"), python_ms("import lab_core.configs")
    beyond = (imported[0] - python[0], imported[1] - python[1])
    message = {"value_3": 5}
    rows = [
        (
            f"resolve {_NUM_ITEMS} items of a new class",
            times_ms(lambda: calculate(next(fresh), message, order)),
            "< 5",
        ),
        (
            f"resolve {_NUM_ITEMS} items of a known class",
            times_ms(lambda: calculate(cls, message, order)),
            "< 5",
        ),
        (f"plan {_NUM_ITEMS} items", times_ms(lambda: plan(described, message, order)), ""),
        (f"check {_NUM_ITEMS} items", times_ms(lambda: check(cls, message, order)), ""),
        ("import lab_core.configs, beyond Python", beyond, "< 50"),
        ("Python itself", python, ""),
    ]
    print(f"{'':42} {'median':>11} {'best':>11}  wanted")
    for name, (median, best), target in rows:
        print(f"{name:42} {median:8.2f} ms {best:8.2f} ms  {target}")


if __name__ == "__main__":
    main()
