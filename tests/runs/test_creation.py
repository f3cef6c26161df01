"""What is left of a run that could not be created: nothing, so that the same request may come again."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from lab_server.errors import CheckpointNotFound, StoreError
from lab_server.files.home import Home
from lab_server.model.run import RunParent, RunState
from tests.runs.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")


def folders(rig: Rig) -> set[str]:
    return {path.name for path in (rig.home / "runs").glob("*/*")}


@pytest.mark.parametrize("fails", ["disk", "store", "checkpoint", "server"])
async def test_a_run_that_could_not_be_created_leaves_nothing_and_may_be_created_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    parent = await rig.ended(await rig.start(loop_count=10))
    wanted: dict[str, Any] = {"key": "k", "parent": RunParent(parent.id, 10), "loop_count": 20}
    error: Exception
    error, expected = {
        "disk": (OSError(errno.ENOSPC, "No space left on device"), StoreError),
        "store": (StoreError("the disk is full"), StoreError),
        "checkpoint": (CheckpointNotFound("of step 10"), CheckpointNotFound),
        "server": (ZeroDivisionError("a mistake of ours"), ZeroDivisionError),
    }[fails]

    def fail(*_: object) -> Any:
        raise error

    with monkeypatch.context() as patched:
        if fails == "store":
            patched.setattr(rig.store, "create", fail)
        else:
            patched.setattr(Home, "adopt_checkpoint", fail)
        with pytest.raises(expected):
            await rig.create(**wanted)
    assert folders(rig) == {parent.id}
    run = await rig.create(**wanted)
    assert folders(rig) == {parent.id, run.id}
    assert (run.state, run.reason) == (RunState.CREATED, f"forked from {parent.id} at step 10")
