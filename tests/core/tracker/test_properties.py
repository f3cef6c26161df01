"""Whatever is added and saved, in whatever order: what is written is what a simple model says."""

from __future__ import annotations

import math
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from lab_core.tracker import Kind, Tracker
from lab_core.writers import MemoryWriter

NAMES = st.sampled_from(["scalar", "queue", "histogram"])
NUMBERS = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
ADD = st.tuples(NAMES, NUMBERS | st.lists(NUMBERS, min_size=1, max_size=4))
ACTIONS = st.lists(ADD | st.just("save") | st.just("flush") | st.just("checkpoint"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_what_is_written_is_what_a_simple_model_says(  # noqa: C901  # the model is told whole
    actions: list[object],
) -> None:
    kept = MemoryWriter()
    current = start(kept)
    pending: dict[str, list[float]] = {}
    window: deque[float] = deque(maxlen=5)
    expected: dict[str, list[tuple[int, float]]] = {}
    num_in_histograms: list[int] = []
    for step, action in enumerate([*actions, "save"]):
        if action == "save":
            current.save(step)
            for name, numbers in pending.items():
                if name == "queue":
                    window.extend(numbers)
                    numbers = list(window)
                if name != "scalar":
                    num_in_histograms.append(len(numbers))
                expected.setdefault(name, []).append((step, sum(numbers) / len(numbers)))
            pending = {}
        elif action == "flush":
            assert current.flush()
        elif action == "checkpoint":
            state = current.state_dict()
            assert current.close()
            for name in pending:  # close saves what is left; the checkpoint knows it as unsaved
                kept.scalars[name].pop()
            del kept.histograms[len(num_in_histograms) :]
            kept.scalars = {name: points for name, points in kept.scalars.items() if points}
            current = start(kept)
            current.load_state_dict(state)
        elif isinstance(action, tuple):
            name, value = action
            current.add({name: value})
            values = value if isinstance(value, list) else [value]
            pending.setdefault(name, []).extend(map(float, values))
    assert current.close()
    assert kept.scalars.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in kept.scalars[name]] == [step for step, _ in points]
        for (_, found), (_, value) in zip(kept.scalars[name], points, strict=True):
            assert math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-6)
    assert [h.num for h in kept.histograms] == num_in_histograms


def start(kept: MemoryWriter) -> Tracker:
    current = Tracker([kept], get_step=lambda: 0)
    current.declare(Kind.QUEUE, "queue", 5)
    current.declare(Kind.HISTOGRAM, "histogram")
    current.start()
    return current
