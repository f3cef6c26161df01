"""Trainers as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lab_core.configs import PlainValue
from lab_core.errors import Violation
from lab_server.descriptors import raise_if_blind
from lab_server.errors import CheckCrashed, LaunchError, NotFound
from lab_server.executors.current_generation import CurrentGeneration
from lab_server.executors.exit_statuses import ExitStatuses, describe
from lab_server.executors.forkserver_client import ForkServerClient
from lab_server.executors.one_machine import OneMachine
from lab_server.executors.protocol import Usage
from lab_server.executors.thread_wait import Policy, environment
from lab_server.executors.upload_generations import UploadGenerations
from lab_server.files.run_folder import RunFolder
from lab_server.files.uploads import UploadStore
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.fork import ForkSource, ForkTrial
from lab_server.model.generation import GenerationSpec
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import Begun, TrainerProcess
from lab_server.model.slot import Slot
from lab_server.model.upload import Upload
from lab_server.processes import lineage, proc
from lab_server.processes.patience import patiently, seen
from lab_server.processes.pid_file import read_pid_file

T = TypeVar("T")

_POLL_S = 0.01
_REPORT_S = 0.5  # from a process's end to the forkserver's report of its status
_KILL_S = 10.0


class LocalExecutor(OneMachine):
    """Forks trainers by a forkserver, which it starts at once, and ends them with all they started.

    Args:
        slots: the places in which runs train.
        experiments: modules and files with experiments, beside those of installed packages.
        auto_reload: whether edited experiments are used without being asked to.
        uploads: has the code that clients sent; None if they may not send any.
        preload: modules that the forkserver imports; None for its own list.
        libraries: modules that it imports, too.
        thread_wait: how the threads of a trainer wait for each other; see `thread_wait`.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        *,
        experiments: Sequence[str] = (),
        auto_reload: bool = True,
        uploads: UploadStore | None = None,
        preload: Sequence[str] | None = None,
        libraries: Sequence[str] = (),
        thread_wait: Policy = "auto",
    ) -> None:
        self._slots = tuple(slots)
        self._statuses = ExitStatuses()
        self._forkserver = ForkServerClient(
            preload=preload,
            libraries=libraries,
            environment=environment(thread_wait, len(slots)),
            on_exit=self._statuses.note,
        )
        self._experiments = CurrentGeneration(
            self._forkserver,
            GenerationSpec(tuple(experiments)),
            is_watching=auto_reload,
            on_exit=self._statuses.note,
        )
        self._uploads = UploadGenerations(self._forkserver, uploads, self._statuses.note)

    @property
    def slots(self) -> Sequence[Slot]:
        """Every slot there is."""
        return self._slots

    @property
    def forkserver_pid(self) -> int:
        """The forkserver's process id."""
        return self._forkserver.pid

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        """Return the experiments as their files are now; waits until their modules are imported.

        Raises:
            LaunchError: If importing them ends the process.
        """
        async with self._generation(upload) as generation:
            return await generation.entries()

    async def reload(self) -> None:
        """Import the experiments anew, whether their files changed or not."""
        await self._experiments.reload()

    async def check(
        self, experiment: str, overrides: Mapping[str, PlainValue], upload: Upload | None = None
    ) -> tuple[Violation, ...]:
        """Run the experiment's own checks on a config message, in a process that may die of it.

        Raises:
            CheckCrashed: If it does, or there is no such process.
        """
        try:
            async with self._generation(upload) as generation:
                answer = await generation.ask(
                    "check", experiment=experiment, overrides=dict(overrides)
                )
        except LaunchError as error:
            raise CheckCrashed([Violation("", str(error))]) from error
        return tuple(Violation(key, message) for key, message in answer["violations"])

    async def try_fork(
        self,
        experiment: str,
        overrides: Mapping[str, PlainValue],
        source: ForkSource,
        upload: Upload | None = None,
    ) -> ForkTrial:
        """Build a fork's models and optimizers in a process of its own, and see whether they fit."""
        try:
            async with self._generation(upload) as generation:
                answer = await generation.ask(
                    "try_fork",
                    experiment=experiment,
                    overrides=dict(overrides),
                    checkpoints=str(source.checkpoints),
                    step=source.step,
                )
        except LaunchError as error:
            return ForkTrial(unknown=str(error))
        violations = tuple(Violation(key, message) for key, message in answer["violations"])
        return ForkTrial(violations, answer["total_steps"])

    async def launch(self, spec: LaunchSpec) -> TrainerProcess:
        """Start a trainer for an attempt; the same attempt again returns the same process.

        Raises:
            LaunchError: If no process could be started.
        """
        folder = RunFolder(spec.folder)
        pid_file = folder.pid_file(spec.attempt)
        process = await seen(lambda: read_pid_file(pid_file))
        if process is not None:
            return process
        try:
            # not the trainer: one that comes too late must not bring back a deleted run
            folder.make()
        except OSError as error:
            raise LaunchError(f"{spec.folder} cannot be created: {error.strerror}") from error
        with self._statuses.launching():
            try:
                async with self._generation(spec.upload) as generation:
                    await generation.ask("launch", spec=spec.to_json())
            except NotFound as error:
                raise LaunchError(str(error)) from error
            process = await seen(lambda: read_pid_file(pid_file))
            if process is None:
                raise LaunchError(
                    f"the trainer of {spec.run_id} could not write to {spec.folder}; is the disk full?"
                )
            self._statuses.expect(process.pid)
            return process

    async def inspect(
        self,
        spec_folder: Path,
        attempt: int,
        begun: Begun = Begun(),  # noqa: B008 - frozen
    ) -> TrainerProcess | None:
        """Return the attempt's trainer while any process of it lives, else None."""
        del begun
        pid_file = RunFolder(spec_folder).pid_file(attempt)
        process = await seen(lambda: read_pid_file(pid_file))
        if process is None or not await _in_thread(lineage.members, process):
            return None
        return process

    async def wait(self, process: TrainerProcess) -> str:
        """Return when the trainer itself has ended: how, in words, "" when its exit status is unknown."""
        await _ended(process)
        status = self._statuses.get(process.pid)
        if status is None:
            return ""
        try:
            return describe(await asyncio.wait_for(asyncio.shield(status), _REPORT_S))
        except TimeoutError:
            return ""

    async def kill(self, process: TrainerProcess, *, grace_s: float) -> None:
        """End it by SIGTERM, after grace_s it and every process it started by SIGKILL.

        Returns when all are gone; without a grace it begins with SIGKILL.

        Raises:
            LaunchError: If a process does not exit after SIGKILL, which happens in some states of the kernel.
        """
        trainer = await seen(lambda: proc.find(process)) if grace_s > 0 else None
        if trainer is not None:
            # not its children: a trainer whose data loaders die fails before it has saved
            await seen(partial(proc.send_signal, trainer, signal.SIGTERM))
            await _first_of(_ended(process), grace_s)
        loop, deadline = asyncio.get_running_loop(), math.inf
        killed: dict[int, proc.ProcessStat] = {}
        # again, as long as there are some: between a look and the kill, one may have forked
        while members := await _in_thread(lineage.members_or_dying, process, killed):
            for member in members:
                await seen(partial(proc.send_signal, member, signal.SIGKILL))
                killed[member.pid] = member
            deadline = min(deadline, loop.time() + _KILL_S)
            if loop.time() > deadline:
                pids = ", ".join(str(member.pid) for member in members)
                raise LaunchError(f"process {pids} did not exit after SIGKILL")
            await asyncio.sleep(_POLL_S)
        self._statuses.forget(process.pid)

    async def usages(self, trainers: Sequence[TrainerProcess]) -> Mapping[TrainerProcess, Usage]:
        """Return what each trainer and its session use; one that is gone is not in it."""
        found = await asyncio.to_thread(lineage.sessions, trainers)
        tick_s, page_bytes = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return {
            trainer: Usage(
                sum(m.cpu_ticks for m in members) * tick_s,
                sum(m.num_pages for m in members) * page_bytes,
            )
            for trainer, members in found.items()
        }

    async def close(self) -> None:
        """Stop the executor itself; trainers go on."""
        await self._uploads.close()
        await self._experiments.close()
        await self._forkserver.close()

    @contextlib.asynccontextmanager
    async def _generation(self, upload: Upload | None) -> AsyncIterator[CurrentGeneration]:
        if upload is None:
            yield self._experiments
            return
        async with self._uploads.of(upload) as generation:
            yield generation


async def _ended(process: TrainerProcess) -> None:
    """Return when a process, child or not, has ended; a pidfd becomes readable then."""
    loop = asyncio.get_running_loop()
    fd = await seen(lambda: _pidfd(process.pid))
    if fd < 0:
        while await seen(lambda: proc.is_alive(process)):  # noqa: ASYNC110 - another process sets no Event
            await asyncio.sleep(_POLL_S)
        return
    try:
        if await seen(lambda: proc.is_alive(process)):
            ended = asyncio.Event()
            loop.add_reader(fd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(fd)
    finally:
        os.close(fd)


def _pidfd(pid: int) -> int:
    """Return a pidfd of a process; -1 when it is gone, or the kernel or a sandbox has no pidfds."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise_if_blind(error)
        return -1


async def _in_thread(look: Callable[..., T], *arguments: Any) -> T:
    """Return what a look returns that takes a while, as soon as there are file descriptors for it."""
    return await patiently(lambda: asyncio.to_thread(look, *arguments))


async def _first_of(awaitable: Any, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(awaitable, timeout_s)
    except TimeoutError:
        return
