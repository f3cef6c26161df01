"""Runs that are disturbed, held against a twin that nobody disturbed."""

from __future__ import annotations

from lab_server.model.run import Run, RunState
from tests.runs.rig import Points, Rig

STEPS = 60


class Undisturbed:
    """How a run ends that nobody disturbs."""

    points: Points
    weights: dict[str, str]


async def assert_same(rig: Rig, run: Run, twin: Undisturbed) -> None:
    """Hold a run's log, its sqlite.db and its weights against those of its twin."""
    assert run.state is RunState.COMPLETED, run.reason
    assert await rig.points(run) == twin.points
    assert rig.recorded(run) == twin.points
    series = {
        name: [v for (n, _), v in twin.points.items() if n == name] for name, _ in twin.points
    }
    assert run.extremes == {name: (min(values), max(values)) for name, values in series.items()}
    assert not run.has_stale_extremes
    assert rig.weights(run, STEPS) == twin.weights


async def resumes(rig: Rig, run: Run) -> list[int]:
    """Return the steps of the checkpoints that a run went on from; -1 for one that began anew."""
    truncates = await rig.kinds(run, "truncate")
    return [t.checkpoint_step if t.HasField("checkpoint_step") else -1 for t in truncates]
