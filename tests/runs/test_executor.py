"""The local executor: what it knows of experiments, and how it starts and ends trainers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lab_core.errors import ConfigError
from lab_server.errors import CheckCrashed, LaunchError, Unavailable
from lab_server.executors.catalogue import Catalogue
from lab_server.executors.local import LocalExecutor
from lab_server.model.launch import LaunchSpec
from lab_server.model.run import TrainerProcess
from lab_server.processes import proc
from tests.runs.rig import becomes_true

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONFIGS = """
from lab_core.configs import BaseConfigs

class {name}(BaseConfigs):
    "The doc of {name}."
    size: int = 3

    def run(self) -> None: ...
"""


def spec(folder: Path, experiment: str = "toy", **options: Any) -> LaunchSpec:
    return LaunchSpec(
        **{
            "run_id": "r1",
            "attempt": 1,
            "folder": folder,
            "experiment": experiment,
            "overrides": {},
            "run_order": (),
            "models": (),
            "writers": (),
            "name": "",
            "tags": (),
            "notes": "",
            "device": "cpu",
            "num_threads": 1,
            **options,
        }
    )


@pytest.fixture
def endless(tmp_path: Path) -> LaunchSpec:
    return spec(tmp_path / "run", overrides={"is_endless": True})


@pytest.mark.slow
async def test_it_describes_experiments_and_what_is_wrong_with_others(tmp_path: Path) -> None:
    sources = {
        "single": CONFIGS.format(name="Configs"),
        "several": CONFIGS.format(name="FirstNetConfigs") + CONFIGS.format(name="Second"),
        "named": CONFIGS.format(name="Any") + "EXPERIMENTS = {'my name': Any, 'no class': 3}",
        "twice": CONFIGS.format(name="Any") + "EXPERIMENTS = {'single': Any}",
        "broken": "import a_module_that_is_not_there",
        "exits": "import sys; sys.exit(3)",
        "empty": "",
    }
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(text)
    files = [str(tmp_path / f"{name}.py") for name in (*sources, "missing")]
    executor = LocalExecutor((), experiments=[*files, "no.such.module"], preload=())
    try:
        entries = {entry.name: entry for entry in await executor.describe()}
    finally:
        await executor.close()
    good = {name for name, entry in entries.items() if entry.schema is not None}
    assert good - {"mnist"} == {"first_net", "second", "my name"}
    schema = entries["second"].schema
    assert schema is not None
    assert [item.key for item in schema.items] == ["size"]
    errors = {name: entry.error for name, entry in entries.items() if entry.schema is None}
    assert "two experiments are named 'single'" in errors["single"]
    assert "No module named 'a_module_that_is_not_there'" in errors["broken"]
    assert "import a_module_that_is_not_there" in entries["broken"].traceback
    assert "SystemExit" in errors["exits"]
    assert "derived from BaseConfigs" in errors["no class"]
    assert "EXPERIMENTS = {" in errors["empty"]
    assert "missing.py" in errors["missing"]
    assert "No module named 'no'" in errors["module"]


async def test_an_experiments_own_checks_are_run(executor: LocalExecutor) -> None:
    assert await executor.check("checked", {"width": 5}) == ()
    (violation,) = await executor.check("checked", {"width": 4})
    assert "width" in violation.key
    assert violation.message == "width must be odd, got 4"


async def test_a_plan_tells_the_schemas_problems_and_the_checks_at_once(
    executor: LocalExecutor,
) -> None:
    catalogue = Catalogue(executor)
    await catalogue.load()
    with pytest.raises(ConfigError) as raised:
        await catalogue.plan("checked", {"width": 4, "check_does": 7, "widht": 3}, [["nowhere"]])
    # the check does not read the item that is wrong before it finds its own sentence
    assert [v.key for v in raised.value.violations] == ["check_does", "widht", "run_order"]
    with pytest.raises(ConfigError) as raised:
        await catalogue.plan("checked", {"width": 4, "widht": 3})
    assert [v.key for v in raised.value.violations] == ["widht", "check_does, width"]


async def test_a_check_that_dies_is_told_and_harms_nobody(executor: LocalExecutor) -> None:
    pid = executor.forkserver_pid
    with pytest.raises(CheckCrashed, match="checks crashed"):
        await executor.check("checked", {"check_does": "exit"})
    assert executor.forkserver_pid == pid
    assert await executor.check("checked", {}) == ()


@pytest.mark.slow
async def test_many_requests_at_once_get_their_own_answers(executor: LocalExecutor) -> None:
    answers = await asyncio.gather(
        *(executor.check("checked", {"width": width}) for width in range(20))
    )
    assert [len(answer) for answer in answers] == [1, 0] * 10


async def test_an_attempt_is_launched_once(executor: LocalExecutor, endless: LaunchSpec) -> None:
    first, second = await asyncio.gather(executor.launch(endless), executor.launch(endless))
    try:
        assert first == second == await executor.launch(endless)
        assert await executor.inspect(endless.folder, 1) == first
        assert await executor.inspect(endless.folder, 2) is None
    finally:
        await executor.kill(first, grace_s=0)
    assert await executor.inspect(endless.folder, 1) is None


async def test_nothing_is_kept_of_trainers_that_are_gone(
    executor: LocalExecutor, endless: LaunchSpec
) -> None:
    before = len(executor._statuses)
    # one of the two comes too late to get the attempt
    process, _ = await asyncio.gather(executor.launch(endless), executor.launch(endless))
    assert len(executor._statuses) == before + 1
    await executor.kill(process, grace_s=0)
    await becomes_true(lambda: proc.stat(process.pid) is None)
    for _ in range(2):  # what was told of them comes before the last answer
        await executor._experiments.ask("describe")
    assert len(executor._statuses) == before


async def test_a_trainer_has_a_session_and_a_marker_of_its_own(
    executor: LocalExecutor, endless: LaunchSpec
) -> None:
    process = await executor.launch(endless)
    try:
        found = proc.stat(process.pid)
        assert found is not None
        assert found.session == found.group == process.pid
        environment = _environment(process.pid)
        assert f"LAB_TRAINER={process.pid}/{process.start_ticks}".encode() in environment
    finally:
        await executor.kill(process, grace_s=0)


def _environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


async def test_an_unknown_experiment_is_not_launched(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    with pytest.raises(LaunchError, match="there is no experiment 'nothing'"):
        await executor.launch(spec(tmp_path / "run", "nothing"))


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"experiment": "no such"}, "a request failed"),
        ({"attempt": "a/b"}, "a trainer failed to start"),
    ],
)
async def test_a_failed_launch_is_a_line_of_the_servers_log_with_its_run(
    executor: LocalExecutor, tmp_path: Path, changes: dict[str, Any], event: str
) -> None:
    with capture_logs() as lines, pytest.raises(LaunchError):
        await executor.launch(spec(tmp_path, **changes))
    (line,) = lines
    assert (line["event"], line["log_level"], line["run"]) == (event, "error", "r1")
    assert line["exception"].startswith("Traceback")


async def test_what_fails_in_an_experiments_own_checks_is_a_line_with_its_name(
    executor: LocalExecutor,
) -> None:
    with capture_logs() as lines, pytest.raises(CheckCrashed):
        await executor.check("checked", {"check_does": "leave"})
    (line,) = lines
    assert (line["event"], line["experiment"]) == (
        "an experiment's own checks crashed",
        "checked",
    )
    assert "Traceback" in line["exception"]


@pytest.mark.slow
async def test_a_module_that_cannot_be_preloaded_is_a_line() -> None:
    executor = LocalExecutor((), preload=["no_such_module"])
    try:
        with capture_logs() as lines:
            await executor.describe()
    finally:
        await executor.close()
    assert [line["module"] for line in lines] == ["no_such_module"]


@pytest.mark.slow
async def test_a_library_is_imported_once_and_ones_own_module_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("")
    probe = CONFIGS.format(name="Probe").replace("= 3", "= int('wave' in already)")
    (tmp_path / "probe.py").write_text(f"import sys; already = set(sys.modules)\n{probe}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    executor = LocalExecutor(
        (), experiments=[str(tmp_path / "probe.py")], preload=[], libraries=["wave", "mine"]
    )
    try:
        with capture_logs() as lines:
            entries = {entry.name: entry for entry in await executor.describe()}
    finally:
        await executor.close()
    schema = entries["probe"].schema
    assert schema is not None
    assert schema.items[0].default == 1  # wave was there before the experiment
    warned = [line for line in lines if line["log_level"] == "warning" and "module" in line]
    assert [line["module"] for line in warned] == ["mine"]


async def test_a_folder_that_cannot_be_made_is_told(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError):
        await executor.launch(spec(tmp_path / "file" / "run"))


@pytest.mark.slow
async def test_it_says_how_a_trainer_ended(executor: LocalExecutor, tmp_path: Path) -> None:
    process = await executor.launch(spec(tmp_path / "a", overrides={"kill_at": [3]}))
    assert "killed by SIGKILL" in await executor.wait(process)
    process = await executor.launch(spec(tmp_path / "b"))
    assert await executor.wait(process) == "it exited with status 0"


async def test_waiting_for_a_process_that_is_gone_returns(executor: LocalExecutor) -> None:
    assert await executor.wait(TrainerProcess(pid=1, start_ticks=2**60)) == ""


async def test_killing_what_is_gone_is_nothing(executor: LocalExecutor) -> None:
    await executor.kill(TrainerProcess(pid=2**22 - 1, start_ticks=2**60), grace_s=1)


async def test_usage_is_of_the_trainer_while_it_lives(
    executor: LocalExecutor, endless: LaunchSpec
) -> None:
    process = await executor.launch(endless)
    try:
        usage = (await executor.usages([process]))[process]
        assert usage.cpu_seconds >= 0
        assert usage.memory_bytes > 1 << 20
    finally:
        await executor.kill(process, grace_s=0)
    assert await executor.usages([process]) == {}


@pytest.mark.slow
async def test_a_closed_executor_says_so_and_leaves_trainers_alone(tmp_path: Path) -> None:
    (tmp_path / "lasting.py").write_text(
        CONFIGS.format(name="Configs").replace("...", "\n        import time; time.sleep(600)")
    )
    executor = LocalExecutor(
        (), experiments=[str(tmp_path / "lasting.py")], preload=["lab_server.trainer.train"]
    )
    process = await executor.launch(spec(tmp_path / "run", "lasting"))
    await executor.close()
    assert proc.is_alive(process)
    with pytest.raises(Unavailable):
        await executor.describe()
    await executor.kill(process, grace_s=0)
