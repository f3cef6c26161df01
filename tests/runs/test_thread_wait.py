"""How a trainer's threads wait for each other: decided from the slots, by a setting, or by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab_server.executors.local import LocalExecutor
from lab_server.executors.thread_wait import environment, resolve
from lab_server.model.slot import Slot

SLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}
MANY = len(os.sched_getaffinity(0)) + 1


@pytest.fixture(autouse=True)
def no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


def test_threads_spin_where_those_of_all_slots_have_a_core_each() -> None:
    assert resolve("auto", 1)[0] == "spin"
    spin = environment("auto", 1)
    assert spin["OMP_WAIT_POLICY"] == "ACTIVE"
    assert 1_000 <= int(spin["GOMP_SPINCOUNT"]) <= 1_000_000


def test_threads_sleep_where_they_outnumber_the_cores() -> None:
    assert resolve("auto", MANY) == ("sleep", f"{MANY} trainer threads on {MANY - 1} cores")
    assert environment("auto", MANY) == SLEEP


def test_a_setting_decides_it_otherwise() -> None:
    assert environment("sleep", 1) == SLEEP
    assert environment("spin", MANY)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_environment_of_the_server_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    # a spin count would win over the policy in libgomp
    assert environment("spin", 1) == {}


def variables_of(pid: int) -> set[bytes]:
    return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("num_slots", [1, MANY])
async def test_the_forkserver_is_started_with_it(num_slots: int) -> None:
    slots = [Slot(f"cpu:{index}", "cpu") for index in range(num_slots)]
    executor = LocalExecutor(slots, preload=())
    try:
        await executor.describe()
        found = variables_of(executor.forkserver_pid)
    finally:
        await executor.close()
    wanted = environment("auto", num_slots)
    assert {f"{name}={value}".encode() for name, value in wanted.items()} <= found
