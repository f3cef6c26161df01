"""Slurm, by its own commands: sbatch, squeue, scancel."""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

from lab_server.executors.pools.engine import EngineError, Job, JobState
from lab_server.processes.file_limit import limit_of_children
from lab_server.settings.pools import PoolSettings

_TIMEOUT_S: Final = 30.0
_WAITING: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED", "RESV_DEL_HOLD"})
_RUNNING: Final = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "STOPPED", "SIGNALING"})
_CALM: Final = frozenset({"COMPLETED", "CANCELLED", "PREEMPTED"})


class SlurmEngine:
    """Submits agents as batch jobs that carry the agent's name."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings

    async def submit(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        """Submit a job; the same name again is the same job.

        Raises:
            EngineError: If Slurm is away, or refuses it.
        """
        if name in await self.jobs(name):
            return
        settings = self._settings
        arguments = [
            *("sbatch", "--parsable", f"--job-name={name}", "--nodes=1", "--ntasks=1"),
            f"--cpus-per-task={math.ceil(settings.cpus)}",
            # what is in the environment is not in the job's script, which others may read
            f"--export={','.join(['ALL', *environment])}",
            # B: to the agent, which is in the batch shell's place; without, Slurm signals job steps only
            *("--output=/dev/null", "--no-requeue", "--signal=B:TERM@60"),
        ]
        if settings.gpus:
            arguments.append(f"--gpus={settings.gpus}")
        if settings.memory_mb:
            arguments.append(f"--mem={settings.memory_mb}M")
        arguments += [*settings.options, f"--wrap=exec {shlex.join(command)}"]
        await _run(arguments, environment)

    async def jobs(self, prefix: str) -> Mapping[str, Job]:
        """Return the jobs whose names begin so, by name; those that ended some minutes ago are missing.

        Raises:
            EngineError: If Slurm is away.
        """
        listing = await _run(
            ["squeue", "--noheader", "--me", "--states=all", "--format=%j|%T|%r"], {}
        )
        jobs: dict[str, Job] = {}
        for line in listing.splitlines():
            name, _, rest = line.strip().partition("|")
            status, _, reason = rest.partition("|")
            if name.startswith(prefix):
                jobs[name] = _job(status, reason)
        return jobs

    async def cancel(self, name: str) -> None:
        """End a job that waits or runs.

        Raises:
            EngineError: If Slurm is away.
        """
        await _run(["scancel", "--me", f"--name={name}"], {})

    async def close(self) -> None:
        """Do nothing: it has no connections."""


def _job(status: str, reason: str) -> Job:
    why = "" if reason in ("None", "") else f"Slurm says {reason}"
    if status in _WAITING:
        return Job(JobState.WAITING, why)
    if status in _RUNNING:
        return Job(JobState.RUNNING)
    return Job(JobState.ENDED, f"Slurm says {status}", status not in _CALM)


def _with_given_limit(arguments: Sequence[str]) -> Sequence[str]:
    """Return a command with the limit of open files that this process was given: Slurm passes it on to jobs."""
    limit = limit_of_children()
    return ["sh", "-c", f'ulimit -Sn {limit}; exec "$@"', "sh", *arguments] if limit else arguments


async def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what one of Slurm's commands prints.

    Raises:
        EngineError: If it is not installed, fails, or takes too long.
    """
    name = arguments[0]
    if shutil.which(name) is None:
        raise EngineError(f"cannot run {name}: it is not installed")
    try:
        process = await asyncio.create_subprocess_exec(
            *_with_given_limit(arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment},
        )
    except OSError as error:
        raise EngineError(f"cannot run {name}: {error.strerror}") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise EngineError(f"{name} has not answered for {_TIMEOUT_S:g} s") from None
    if process.returncode:
        said = " ".join(err.decode("utf-8", "replace").split())
        raise EngineError(f"{name} failed: {said[:300] or process.returncode}")
    return out.decode("utf-8", "replace")
