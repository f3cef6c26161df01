"""Which code a run was, and where it ran: in its log, its row and its folder."""

from __future__ import annotations

import hashlib
import platform
import socket
from pathlib import Path

import pytest
import yaml

from lab_core.provenance import read_git
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import RunState
from tests.runs.rig import TOYS, Rig

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHA256 = hashlib.sha256(TOYS.read_bytes()).hexdigest()


async def test_a_run_records_its_code_and_its_environment(rig: Rig) -> None:
    run = await rig.ended(await rig.start(loop_count=3))

    assert run.state is RunState.COMPLETED
    (found,) = await rig.kinds(run, "provenance")
    assert (found.module, found.class_name, found.path) == ("toys", "Toy", str(TOYS))
    assert {file.path: file.sha256 for file in found.files} == {"toys.py": SHA256}
    git = read_git(TOYS.parent)
    assert found.git.commit == (git.commit if git else "")
    environment = found.environment
    assert (environment.python, environment.host) == (
        platform.python_version(),
        socket.gethostname(),
    )
    assert environment.torch
    assert environment.lab_train
    assert environment.device == "cpu"
    assert run.code_digest == found.digest
    event = (await rig.log(run))[run.provenance_seq - 1]
    assert event.kind == "provenance"


async def test_its_folder_has_a_copy_of_the_code_and_a_record_of_it(rig: Rig) -> None:
    run = await rig.ended(await rig.start(loop_count=3))

    (found,) = await rig.kinds(run, "provenance")
    folder = rig.folder(run).path
    assert (folder / found.folder / "toys.py").read_bytes() == TOYS.read_bytes()
    record = yaml.safe_load((folder / "run.yaml").read_text())
    assert record["status"] == "completed"
    assert record["code"]["digest"] == found.digest
    assert record["code"]["files"] == {"toys.py": SHA256}
    assert record["commit"] == (found.git.commit or None)
    assert record["environment"]["torch"] == found.environment.torch


async def test_a_run_that_fails_at_its_configs_records_its_code_too(rig: Rig) -> None:
    run = await rig.ended(await rig.start(loop_cuont=3))

    assert run.state is RunState.FAILED
    assert [found.module for found in await rig.kinds(run, "provenance")] == ["toys"]


async def test_code_that_cannot_be_recorded_does_not_end_the_training(rig: Rig) -> None:
    run = await rig.create(loop_count=3)
    (rig.folder(run).path / "code").write_text("in the way")

    run = await rig.ended(await rig.supervisor.start(run.id))

    assert run.state is RunState.COMPLETED
    assert run.provenance_seq == 0
    assert "which code this run is could not be recorded:" in await rig.lines(run)


async def test_a_launch_spec_survives_the_way_to_the_forkserver(tmp_path: Path) -> None:
    spec = LaunchSpec(
        *("r1", 2, tmp_path, "toy", {"a": 1}, (("x",),), (), (), "n", ("t",), "", "cpu", 1),
        parent_folder=tmp_path / "parent",
        code_digest="f" * 64,
    )
    assert LaunchSpec.from_json(spec.to_json()) == spec
