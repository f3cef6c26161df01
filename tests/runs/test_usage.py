"""What a run uses of its machine: read beside the training, as metrics of its own that move nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab_server.processes.family import own_use
from lab_server.trainer.usage import CPU_CORES, MEMORY_BYTES, Usage
from tests.runs.rig import Gate


def test_a_reading_comes_once_an_interval_and_once_a_step() -> None:
    usage = Usage(5.0, "cpu", now=100.0)
    assert usage.read(104.9, 1) == []
    first = {reading.name: reading for reading in usage.read(105.0, 7)}
    assert list(first) == [CPU_CORES, MEMORY_BYTES]
    assert {reading.steps for reading in first.values()} == {(7,)}
    assert usage.read(109.0, 8) == []
    assert usage.read(111.0, 7) == [], "the step is the same"
    assert len(usage.read(130.0, 8)) == 2


def test_the_step_at_which_an_attempt_begins_has_no_reading() -> None:
    usage = Usage(5.0, "cpu", now=0.0, step=40)
    assert usage.read(20.0, 40) == []
    assert usage.read(25.0, 41) != []


def test_no_reading_comes_when_it_is_turned_off() -> None:
    assert Usage(0.0, "cuda:0", now=0.0).read(1e9, 5) == []


def test_cpu_is_what_was_busy_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    from lab_server.trainer import usage as module

    times = iter([10.0, 14.0, 13.0, 20.0])
    use = type(own_use())
    monkeypatch.setattr(module, "own_use", lambda: use(next(times), 5000))
    usage = Usage(1.0, "cpu", now=0.0)
    read = [usage.read(now, step)[0].values[0] for step, now in enumerate((2.0, 4.0, 6.0), 1)]
    assert read == [2.0, 0.0, 3.5]


def test_a_child_counts_while_it_lives_and_after() -> None:
    before = own_use()
    program = "import sys; x = bytearray(50_000_000); sum(range(10**7)); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    living = own_use()
    child.communicate()
    after = own_use()
    assert living.memory_bytes > before.memory_bytes + 40_000_000
    assert after.memory_bytes < living.memory_bytes
    assert after.cpu_s >= living.cpu_s > before.cpu_s


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
async def test_a_run_whose_use_is_recorded_is_otherwise_as_one_whose_is_not(
    make_rig: Callable[..., Any], gate: Gate
) -> None:
    rig = await make_rig(usage_interval_s=0.01)
    disturbed = {"wait_at": 30, "gate": gate.path, "kill_at": [45]}
    run = await rig.start(**disturbed)
    await rig.until(run, lambda now: CPU_CORES in now.metrics)
    gate.open()
    watched = await rig.ended(run)
    assert watched.metrics[MEMORY_BYTES] > 10_000_000
    events = await rig.kinds(watched, "metrics")
    names = {tuple(column.name for column in metrics.columns) for metrics in events}
    assert names == {("loss", "noise"), (CPU_CORES, MEMORY_BYTES)}

    await rig.restart(grace_s=5.0)
    plain = await rig.ended(await rig.start(**disturbed))
    assert CPU_CORES not in plain.metrics
    points = await rig.points(watched)
    assert (CPU_CORES, 30) in points
    tracked = {at: value for at, value in points.items() if not at[0].startswith("system.")}
    assert tracked == await rig.points(plain)
    assert rig.recorded(watched) == rig.recorded(plain) == tracked
    assert rig.weights(watched, 60) == rig.weights(plain, 60)
    assert watched.step == plain.step == 60
