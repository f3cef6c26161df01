"""One forkserver for all tests of this folder: it takes seconds to start, and no test can harm it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lab_server.executors.local import LocalExecutor
from lab_server.model.slot import Slot
from tests.runs.rig import TOYS, Gate, Rig, Slotted
from tests.runs.twins import STEPS, Undisturbed


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def executor() -> AsyncIterator[LocalExecutor]:
    """An executor that knows the toys."""
    executor = LocalExecutor((Slot("cpu:0", "cpu"),), experiments=(str(TOYS),))
    yield executor
    await executor.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def undisturbed(
    executor: LocalExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    """The twin of the runs that the tests disturb."""
    rig = Rig(tmp_path_factory.mktemp("twin"), executor)
    await rig.open()
    twin = Undisturbed()
    run = await rig.ended(await rig.start())
    twin.points, twin.weights = await rig.points(run), rig.weights(run, STEPS)
    await rig.end()
    return twin


@pytest_asyncio.fixture(loop_scope="session")
async def make_rig(
    tmp_path: Path, executor: LocalExecutor, store_url: str
) -> AsyncIterator[Callable[..., Any]]:
    """Open rigs over one home, with options of the supervisor and slots; closed at the end."""
    rigs: list[Rig] = []

    async def make(num_slots: int = 2, slots: tuple[Slot, ...] = (), **options: Any) -> Rig:
        chosen = slots or tuple(Slot(f"cpu:{index}", "cpu") for index in range(num_slots))
        rig = Rig(tmp_path, Slotted(executor, chosen), store_url, **options)
        await rig.open()
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        await rig.end()


@pytest_asyncio.fixture(loop_scope="session")
async def rig(make_rig: Callable[..., Any]) -> Rig:
    """A rig with two slots."""
    made: Rig = await make_rig()
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A gate for one run."""
    return Gate(tmp_path)
