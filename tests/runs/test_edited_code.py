"""Edited experiments: the next question and the next run have them, and what runs keeps what it began with."""

from __future__ import annotations

import asyncio
import os
import py_compile
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from lab_core.errors import ConfigError
from lab_server.errors import LaunchError
from lab_server.executors import current_generation
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.current_generation import CurrentGeneration
from lab_server.executors.forkserver_client import ForkServerClient
from lab_server.executors.local import LocalExecutor
from lab_server.model.experiment import ExperimentEntry
from lab_server.model.generation import GenerationSpec
from lab_server.model.run import Run, RunState
from lab_server.model.slot import Slot
from lab_server.model.upload import Upload
from tests.runs.rig import Gate, Rig
from tests.server.fakes import FakeExecutor

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

SINE = """
from lab_core.configs import BaseConfigs
from tools_of_sine import SIZE

class Configs(BaseConfigs):
    size: int = SIZE

    def run(self) -> None:
        import late_tools
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def forkserver() -> AsyncIterator[ForkServerClient]:
    client = ForkServerClient(preload=["lab_core.experiment"])
    yield client
    await client.close()


class Described(FakeExecutor):
    """An executor that only describes experiments."""

    def __init__(self, current: CurrentGeneration) -> None:
        super().__init__()
        self._current = current

    async def describe(self, upload: Upload | None = None) -> tuple[ExperimentEntry, ...]:
        return await self._current.entries()


class Files:
    """An experiment and what it imports, and what the server knows of it."""

    def __init__(self, folder: Path, current: CurrentGeneration) -> None:
        self.folder = folder
        self.current = current

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    async def entry(self) -> ExperimentEntry:
        (entry,) = await self.current.entries()
        return entry

    async def size(self) -> object:
        entry = await self.entry()
        assert entry.schema is not None, entry.traceback
        return entry.schema.items[0].default


@pytest_asyncio.fixture(loop_scope="session")
async def make_files(
    tmp_path: Path, forkserver: ForkServerClient
) -> AsyncIterator[Callable[..., Files]]:
    made: list[CurrentGeneration] = []

    def make(is_watching: bool = True) -> Files:
        spec = GenerationSpec((str(tmp_path / "sine.py"),), has_entry_points=False)
        current = CurrentGeneration(
            forkserver, spec, is_watching=is_watching, on_exit=lambda _pid, _status: None
        )
        made.append(current)
        files = Files(tmp_path, current)
        files.write("sine.py", SINE)
        files.write("tools_of_sine.py", "SIZE = 1\n")
        files.write("late_tools.py", "")
        return files

    yield make
    for current in made:
        await current.close()


@pytest.fixture
def files(make_files: Callable[..., Files]) -> Files:
    return make_files()


async def test_without_an_edit_everything_stays(files: Files) -> None:
    first = await files.current.entries()
    os.utime(files.folder / "sine.py", (1, 1))
    files.write("tools_of_sine.py", "SIZE = 1\n")
    files.write("something_else.py", "raise SystemExit")
    assert await files.current.entries() is first


async def test_an_edit_of_the_experiment_is_noticed(files: Files) -> None:
    before = await files.entry()
    files.write("sine.py", SINE.replace("size: int = SIZE", "size: int = 7"))
    assert await files.size() == 7
    after = await files.entry()
    assert before.code_digest != after.code_digest


async def test_an_edit_of_what_it_imports_is_noticed(files: Files) -> None:
    assert await files.size() == 1
    files.write("tools_of_sine.py", "SIZE = 22\n")
    assert await files.size() == 22


async def test_an_edit_of_what_it_will_import_is_noticed(files: Files) -> None:
    before = await files.entry()
    files.write("late_tools.py", "new = True\n")
    assert (await files.entry()).code_digest != before.code_digest


async def test_an_edit_of_the_same_length_and_time_is_noticed(files: Files) -> None:
    path = files.folder / "tools_of_sine.py"
    os.utime(path, (10, 10))
    assert await files.size() == 1
    path.write_text("SIZE = 2\n")
    os.utime(path, (10, 10))
    assert await files.size() == 2


async def test_a_bytecode_cache_that_looks_fresh_is_not_believed(files: Files) -> None:
    path = files.folder / "tools_of_sine.py"
    os.utime(path, (10, 10))
    py_compile.compile(str(path))
    path.write_text("SIZE = 3\n")
    os.utime(path, (10, 10))
    assert await files.size() == 3


async def test_a_broken_edit_is_told_with_its_traceback_until_it_is_mended(files: Files) -> None:
    assert await files.size() == 1
    files.write("tools_of_sine.py", "SIZE = = 1\n")
    broken = await files.entry()
    assert broken.schema is None
    assert "SyntaxError: invalid syntax (tools_of_sine.py, line 1)" in broken.error
    lines = broken.traceback.splitlines()
    # and nothing of what imports it
    assert [line for line in lines if line.startswith("  File")] == [
        f'  File "{files.folder}/sine.py", line 3, in <module>',
        f'  File "{files.folder}/tools_of_sine.py", line 1',
    ]
    assert "    SIZE = = 1" in lines
    assert await files.entry() is broken  # without another try
    files.write("tools_of_sine.py", "SIZE = 4\n")
    assert await files.size() == 4


async def test_a_plan_of_a_broken_edit_tells_its_traceback(files: Files) -> None:
    catalogue = Catalogue(Described(files.current))
    files.write("tools_of_sine.py", "SIZE = 1 / 0\n")
    with pytest.raises(ConfigError) as raised:
        await catalogue.plan("sine", {})
    (violation,) = raised.value.violations
    assert violation.message.startswith("experiment 'sine' cannot be loaded: ZeroDivisionError")
    assert f'File "{files.folder}/tools_of_sine.py", line 1' in violation.message


async def test_a_module_that_was_missing_is_found_when_it_comes(files: Files) -> None:
    (files.folder / "tools_of_sine.py").unlink()
    assert "No module named 'tools_of_sine'" in (await files.entry()).error
    files.write("tools_of_sine.py", "SIZE = 5\n")
    assert await files.size() == 5


async def test_a_module_that_is_removed_is_missed(files: Files) -> None:
    assert await files.size() == 1
    (files.folder / "tools_of_sine.py").unlink()
    assert "No module named 'tools_of_sine'" in (await files.entry()).error


async def test_code_that_ends_the_process_is_told_and_the_old_one_is_not_used(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_generation, "_BACKOFF_S", 0.0)
    assert await files.size() == 1
    files.write("tools_of_sine.py", "import os; os._exit(3)\n")
    for _ in range(2):
        with pytest.raises(LaunchError, match="importing them ended the process 5 times"):
            await files.entry()
    with pytest.raises(LaunchError):
        await files.current.ask("check", experiment="sine", overrides={})
    files.write("tools_of_sine.py", "SIZE = 6\n")
    await files.current.reload()
    assert await files.size() == 6


async def test_an_import_that_does_not_end_is_ended(
    tmp_path: Path, forkserver: ForkServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_generation, "_MAX_DEATHS", 1)
    (tmp_path / "endless.py").write_text("while True: pass\n")
    spec = GenerationSpec((str(tmp_path / "endless.py"),), load_timeout_s=1)
    current = CurrentGeneration(
        forkserver, spec, is_watching=True, on_exit=lambda _pid, _status: None
    )
    with pytest.raises(LaunchError, match="importing them ended the process"):
        await current.entries()


async def test_without_watching_only_a_reload_brings_the_edit(
    make_files: Callable[..., Files],
) -> None:
    files = make_files(is_watching=False)
    assert await files.size() == 1
    files.write("tools_of_sine.py", "SIZE = 8\n")
    assert await files.size() == 1
    await files.current.reload()
    assert await files.size() == 8


async def test_many_questions_after_an_edit_load_it_once(files: Files) -> None:
    await files.entry()
    log = files.folder / "imports"
    files.write("tools_of_sine.py", f"SIZE = 9\nprint(9, file=open({str(log)!r}, 'a'))\n")
    assert await asyncio.gather(*(files.size() for _ in range(20))) == [9] * 20
    assert log.read_text() == "9\n"


async def test_a_question_that_is_given_up_does_not_spoil_the_next(files: Files) -> None:
    asking = asyncio.create_task(files.entry())
    await asyncio.sleep(0)
    asking.cancel()
    assert await files.size() == 1


# ---- runs

WAITING = """
from pathlib import Path
import time
from lab_core import loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs

VALUE = 1

class Configs(TrainingLoopConfigs):
    loop_count = 6
    gate: str = ""
    kill: bool = False
    fail: bool = False

    def run(self) -> None:
        for step in self.training_loop:
            if step == 2 and self.gate:
                Path(self.gate + ".reached").touch()
                while not Path(self.gate).exists():
                    time.sleep(0.005)
                import late
                if self.kill:
                    import os, signal
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.fail:
                    raise ValueError("the line that ran")
                tracker.save(step, {"late": late.VALUE})
            tracker.save(step, {"value": VALUE})
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edited(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalExecutor]:
    """An executor whose experiments each test may edit."""
    folder = tmp_path_factory.mktemp("edited")
    (folder / "waiting.py").write_text(WAITING)
    (folder / "late.py").write_text("VALUE = 10\n")
    slots = (Slot("cpu:0", "cpu"), Slot("cpu:1", "cpu"))
    executor = LocalExecutor(
        slots,
        experiments=(str(folder / "waiting.py"),),
        preload=["lab_server.trainer.train", "torchvision"],
    )
    executor.folder = folder  # type: ignore[attr-defined]
    yield executor
    await executor.close()


@pytest_asyncio.fixture(loop_scope="session")
async def rig(tmp_path: Path, edited: LocalExecutor) -> AsyncIterator[Rig]:
    folder = edited.folder  # type: ignore[attr-defined]
    (folder / "waiting.py").write_text(WAITING)
    (folder / "late.py").write_text("VALUE = 10\n")
    rig = Rig(tmp_path, edited, max_retries=0)
    await rig.open()
    yield rig
    await rig.end()


def edit(rig: Rig, old: str, new: str, name: str = "waiting.py") -> None:
    path = rig.executor.folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


async def values(rig: Rig, run: Run, name: str = "value") -> list[float]:
    points = await rig.points(run)
    return [value for (metric, _), value in sorted(points.items()) if metric == name]


async def test_the_next_run_has_the_edit_and_what_trains_does_not(rig: Rig, gate: Gate) -> None:
    run = await rig.start("waiting", gate=gate.path)
    await gate.reached()
    edit(rig, "VALUE = 1", "VALUE = 2")
    edit(rig, "VALUE = 10", "VALUE = 20", "late.py")
    next_run = await rig.ended(await rig.start("waiting"))
    gate.open()
    run = await rig.ended(run)

    assert (run.state, next_run.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert set(await values(rig, run)) == {1.0}
    assert await values(rig, run, "late") == [10.0]  # imported after the edit
    assert set(await values(rig, next_run)) == {2.0}
    assert run.code_digest != next_run.code_digest


async def test_how_a_trainer_ends_is_known_after_its_generation_was_replaced(
    rig: Rig, gate: Gate
) -> None:
    run = await rig.start("waiting", gate=gate.path, kill=True)
    await gate.reached()
    edit(rig, "VALUE = 1", "VALUE = 3")
    await rig.ended(await rig.start("waiting"))
    gate.open()
    run = await rig.ended(run)
    assert "killed by SIGKILL" in run.reason


async def test_a_traceback_shows_the_line_that_ran(rig: Rig, gate: Gate) -> None:
    run = await rig.start("waiting", gate=gate.path, fail=True)
    await gate.reached()
    edit(rig, "VALUE = 1", "# a line more\nVALUE = 1")
    gate.open()
    run = await rig.ended(run)
    lines = [line.strip() for line in await rig.lines(run)]
    assert 'raise ValueError("the line that ran")' in lines


async def test_a_resume_with_other_code_says_so_in_its_log(rig: Rig) -> None:
    run = await rig.create("waiting")
    run = await rig.ended(await rig.supervisor.start(run.id, until_step=3))
    assert run.state is RunState.STOPPED
    assert not [line for line in await rig.lines(run) if "other code" in line]
    edit(rig, "VALUE = 1", "VALUE = 5")

    run = await rig.ended(await rig.supervisor.start(run.id, resume=True))

    (line,) = [line for line in await rig.lines(run) if "other code" in line]
    assert line.startswith("warning: attempt 2 runs other code than the run began with: waiting.py")
    first, second = await rig.kinds(run, "provenance")
    assert run.code_digest == first.digest != second.digest
    old, new = (rig.folder(run).path / found.folder for found in (first, second))
    assert "VALUE = 1\n" in (old / "waiting.py").read_text()
    assert "VALUE = 5\n" in (new / "waiting.py").read_text()
    assert f"code/{old.name}" in line


async def test_code_that_is_broken_when_its_turn_comes_fails_the_run_once(rig: Rig) -> None:
    rig.options = rig.options.__class__(max_retries=2)
    await rig.restart()
    run = await rig.create("waiting")
    edit(rig, "VALUE = 1", "VALUE = = 1")

    run = await rig.ended(await rig.supervisor.start(run.id))

    assert (run.state, run.attempt) == (RunState.FAILED, 1)
    assert run.reason.startswith("SyntaxError: invalid syntax")
    states = await rig.kinds(run, "state")
    assert "VALUE = = 1" in states[-1].traceback


async def test_a_forkserver_that_is_killed_comes_back_with_the_code_of_now(rig: Rig) -> None:
    await rig.executor.describe()
    os.kill(rig.executor.forkserver_pid, signal.SIGKILL)
    edit(rig, "VALUE = 1", "VALUE = 6")
    run = await rig.ended(await rig.start("waiting"))
    assert set(await values(rig, run)) == {6.0}
