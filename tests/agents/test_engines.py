"""Ray and Slurm as they answer: Ray's REST API by a small server, Slurm's commands by recorded output."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from lab_server.executors.pools.engine import EngineError, Job, JobState
from lab_server.executors.pools.ray import RayEngine
from lab_server.executors.pools.slurm import SlurmEngine
from lab_server.processes import file_limit
from lab_server.settings.pools import PoolSettings

COMMAND = ["lab-agent", "join", "lab:1", "--name", "it's"]


class RayHead:
    """What Ray 2.60's job server answers to the calls that an engine makes."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.loses_answers = False

    async def submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        if any(job["submission_id"] == body["submission_id"] for job in self.jobs):
            text = f"Traceback:\nValueError: Job with submission_id {body['submission_id']} already exists"
            return web.Response(status=500, text=text)
        self.bodies.append(body)
        self.jobs.append(
            {"submission_id": body["submission_id"], "status": "PENDING", "message": "queued"}
        )
        if self.loses_answers:
            raise web.HTTPInternalServerError
        return web.json_response({"job_id": body["submission_id"]})

    async def list(self, _request: web.Request) -> web.Response:
        driver = {"type": "DRIVER", "submission_id": None, "status": "RUNNING", "message": None}
        return web.json_response([driver, *self.jobs])

    async def stop(self, request: web.Request) -> web.Response:
        return web.json_response({"stopped": request.match_info["name"]})


@pytest.fixture
async def head() -> AsyncIterator[tuple[RayHead, RayEngine]]:
    head = RayHead()
    app = web.Application()
    app.router.add_post("/api/jobs/", head.submit)
    app.router.add_get("/api/jobs/", head.list)
    app.router.add_post("/api/jobs/{name}/stop", head.stop)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    engine = RayEngine(
        PoolSettings(
            name="gpus",
            engine="ray",
            address=f"http://127.0.0.1:{port}",
            cpus=2,
            gpus=1,
            memory_mb=512,
        )
    )
    yield head, engine
    await engine.close()
    await runner.cleanup()


async def test_a_job_for_ray_asks_for_its_resources(head: tuple[RayHead, RayEngine]) -> None:
    ray, engine = head
    await engine.submit("gpus-1", COMMAND, {"LAB_JOIN_TOKEN": "t"})
    (body,) = ray.bodies
    assert body == {
        "submission_id": "gpus-1",
        "entrypoint": "exec lab-agent join lab:1 --name 'it'\"'\"'s'",
        "entrypoint_num_cpus": 2.0,
        "entrypoint_num_gpus": 1,
        "entrypoint_memory": 512 << 20,
        "runtime_env": {"env_vars": {"LAB_JOIN_TOKEN": "t"}},
        "metadata": {"lab_pool": "gpus"},
    }
    assert await engine.jobs("gpus-") == {"gpus-1": Job(JobState.WAITING, "queued")}
    assert await engine.jobs("other-") == {}
    await engine.cancel("gpus-1")


@pytest.mark.parametrize(
    ("status", "state", "has_failed"),
    [
        ("RUNNING", JobState.RUNNING, False),
        ("STOPPED", JobState.ENDED, False),
        ("SUCCEEDED", JobState.ENDED, False),
        ("FAILED", JobState.ENDED, True),
    ],
)
async def test_each_status_of_ray_is_known(
    head: tuple[RayHead, RayEngine], status: str, state: JobState, has_failed: bool
) -> None:
    ray, engine = head
    ray.jobs.append({"submission_id": "gpus-1", "status": status, "message": "a\n  b"})
    assert await engine.jobs("gpus-") == {"gpus-1": Job(state, "a b", has_failed)}


async def test_an_answer_of_ray_that_was_lost_makes_no_second_job(
    head: tuple[RayHead, RayEngine],
) -> None:
    ray, engine = head
    ray.loses_answers = True
    await engine.submit("gpus-1", COMMAND, {})
    await engine.submit("gpus-1", COMMAND, {})
    assert len(ray.bodies) == 1


async def test_ray_that_is_away_is_told_with_its_address(unused_tcp_port: int) -> None:
    address = f"http://127.0.0.1:{unused_tcp_port}"
    engine = RayEngine(PoolSettings(name="gpus", engine="ray", address=address))
    with pytest.raises(EngineError, match=f"Ray at {address} does not answer"):
        await engine.jobs("gpus-")
    await engine.close()


class Slurm:
    """Slurm's commands, recorded: each call is written down, and answered from a file."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        for name in ("sbatch", "squeue", "scancel"):
            script = folder / name
            script.write_text(
                f'#!/bin/sh\nprintf "%s\\n" "$@" "token=$LAB_JOIN_TOKEN" >> {folder}/{name}.calls\n'
                f"echo files=$(ulimit -Sn) >> {folder}/{name}.calls\n"
                f"cat {folder}/{name}.out 2>/dev/null\n"
                f"cat {folder}/{name}.err >&2 2>/dev/null && exit 1\nexit 0\n"
            )
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def says(self, name: str, out: str = "", err: str = "") -> None:
        (self._folder / f"{name}.out").write_text(out)
        if err:
            (self._folder / f"{name}.err").write_text(err)

    def calls(self, name: str) -> list[str]:
        path = self._folder / f"{name}.calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


SLURM_POOL = PoolSettings(
    name="gpus", engine="slurm", cpus=1.5, gpus=2, memory_mb=512, options=("--partition=a",)
)


async def test_a_job_for_slurm_asks_for_its_resources_and_hides_its_token(slurm: Slurm) -> None:
    await SlurmEngine(SLURM_POOL).submit("gpus-1", COMMAND, {"LAB_JOIN_TOKEN": "secret"})
    calls = slurm.calls("sbatch")
    assert {"--job-name=gpus-1", "--cpus-per-task=2", "--gpus=2", "--mem=512M"} <= set(calls)
    assert {"--partition=a", "--export=ALL,LAB_JOIN_TOKEN", "token=secret"} <= set(calls)
    assert "--signal=B:TERM@60" in calls
    assert "--wrap=exec lab-agent join lab:1 --name 'it'\"'\"'s'" in calls
    assert not any("secret" in call for call in calls if call != "token=secret")


async def test_a_job_of_slurm_that_is_there_is_not_submitted_again(slurm: Slurm) -> None:
    slurm.says("squeue", "gpus-1|PENDING|Priority\n")
    await SlurmEngine(SLURM_POOL).submit("gpus-1", COMMAND, {})
    assert slurm.calls("sbatch") == []


async def test_each_state_of_slurm_is_known(slurm: Slurm) -> None:
    slurm.says(
        "squeue",
        "gpus-1|PENDING|Resources\ngpus-2|RUNNING|None\ngpus-3|COMPLETED|None\n"
        "gpus-4|NODE_FAIL|None\ngpus-5|TIMEOUT|TimeLimit\ngpus-6|COMPLETING|None\nother|RUNNING|None\n",
    )
    assert await SlurmEngine(SLURM_POOL).jobs("gpus-") == {
        "gpus-1": Job(JobState.WAITING, "Slurm says Resources"),
        "gpus-2": Job(JobState.RUNNING),
        "gpus-3": Job(JobState.ENDED, "Slurm says COMPLETED"),
        "gpus-4": Job(JobState.ENDED, "Slurm says NODE_FAIL", True),
        "gpus-5": Job(JobState.ENDED, "Slurm says TIMEOUT", True),
        "gpus-6": Job(JobState.RUNNING),
    }


async def test_a_job_of_slurm_gets_the_limit_of_files_that_the_server_was_given(
    slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_limit, "_given", [77])  # as by raise_limit
    await SlurmEngine(SLURM_POOL).submit("gpus-1", COMMAND, {})
    assert "files=77" in slurm.calls("sbatch")


async def test_what_slurm_says_no_to_is_told(slurm: Slurm) -> None:
    slurm.says("sbatch", err="sbatch: error: Batch job submission failed: Invalid partition name")
    with pytest.raises(EngineError, match=r"sbatch failed: .* Invalid partition name"):
        await SlurmEngine(SLURM_POOL).submit("gpus-1", COMMAND, {})


async def test_slurm_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineError, match="cannot run squeue"):
        await SlurmEngine(SLURM_POOL).jobs("gpus-")


async def test_a_job_of_slurm_is_cancelled_by_its_name(slurm: Slurm) -> None:
    await SlurmEngine(SLURM_POOL).cancel("gpus-1")
    assert "--name=gpus-1" in slurm.calls("scancel")
