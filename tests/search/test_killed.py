"""Wherever a server is killed, the same search ends with the same trials, values, winner and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab_server.model.search import Halving, MedianStopping, Sampler, SearchSpec
from tests.search.rig import PLANE, SearchRig, spec

pytestmark = pytest.mark.slow

SEARCHES = {
    "grid": spec(),
    "random": spec(sampler=Sampler.RANDOM, space=PLANE),
    "quasi-random": spec(sampler=Sampler.QUASI_RANDOM, space=PLANE),
    "tpe": spec(sampler=Sampler.TPE, space=PLANE, max_trials=14, parallel=3),
    "halving": spec(
        sampler=Sampler.TPE,
        space=PLANE,
        max_trials=12,
        parallel=3,
        early_stopping=Halving(2, 2),
    ),
    "median": spec(
        sampler=Sampler.RANDOM,
        space=PLANE,
        max_trials=12,
        parallel=3,
        early_stopping=MedianStopping(3, 3, 3),
    ),
}


async def undisturbed(home: Path, wanted: SearchSpec, seed: int) -> tuple[Any, ...]:
    rig = SearchRig(home, seed)
    await rig.open()
    outcome = await rig.outcome(await rig.create(wanted))
    await rig.close()
    return outcome


async def killed_at_every_write(
    home: Path, wanted: SearchSpec, *, is_before: bool
) -> tuple[tuple[Any, ...], int]:
    rig = SearchRig(home, seed=5)
    await rig.open()
    search_id = await rig.create(wanted)
    await rig.close()
    num_kills = 0
    while True:
        # each server gets one write further than the one before
        await rig.open(**({"kill_before": 1} if is_before else {"kill_after": 0}))
        if not rig.searches.live():
            break
        await rig.until(lambda: rig.is_killed.is_set() or not rig.searches.live())
        num_kills += rig.is_killed.is_set()
        await rig.close()
    outcome = await rig.outcome(search_id)
    await rig.close()
    return outcome, num_kills


@pytest.mark.parametrize(
    ("name", "is_before"),
    [*((name, False) for name in SEARCHES), ("grid", True), ("halving", True)],
)
async def test_a_server_killed_at_every_entry_ends_the_same(
    tmp_path: Path, name: str, is_before: bool
) -> None:
    wanted = SEARCHES[name]
    expected = await undisturbed(tmp_path / "undisturbed", wanted, seed=1)
    found, num_kills = await killed_at_every_write(tmp_path / "killed", wanted, is_before=is_before)
    assert found == expected
    assert num_kills > 2 * wanted.budget.max_trials


@pytest.mark.parametrize("name", SEARCHES)
async def test_who_is_faster_does_not_matter(tmp_path: Path, name: str) -> None:
    outcomes = [await undisturbed(tmp_path / str(seed), SEARCHES[name], seed) for seed in range(3)]
    assert outcomes[0] == outcomes[1] == outcomes[2]


async def test_another_seed_is_another_search(tmp_path: Path) -> None:
    wanted = SEARCHES["tpe"]
    one = await undisturbed(tmp_path / "1", wanted, seed=1)
    other = spec(sampler=Sampler.TPE, space=PLANE, max_trials=14, parallel=3, seed=2)
    assert (await undisturbed(tmp_path / "2", other, seed=1))[0] != one[0]
