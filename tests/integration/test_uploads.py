"""Code from a client, run by a real server: what it sees, what it leaves alone, what becomes of edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab_client import Client, ConfigError, PermissionDenied, RunState, Unavailable
from lab_client.errors import InvalidRequest, NotFound
from tests.servers import RealServer, start_server

pytestmark = pytest.mark.slow

SINE = """
from pathlib import Path
import sys
import time

import helper
from lab_core import experiment, loop, tracker
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Configs(TrainingLoopConfigs):
    \"\"\"Counts.\"\"\"

    loop_count = 6
    gate: str = ""

    def run(self) -> None:
        for step in self.training_loop:
            while self.gate and step == 2 and not Path(self.gate).exists():
                Path(self.gate + ".reached").touch()
                time.sleep(0.005)
            import late
            tracker.save(step, {"value": helper.VALUE, "late": late.VALUE})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A server that takes code; in its working folder is a module that no upload may get."""
    folder = tmp_path_factory.mktemp("uploads")
    (folder / "operators.py").write_text(
        "from lab_core.configs import BaseConfigs\nclass Configs(BaseConfigs):\n    def run(self): ...\n"
    )
    server = start_server(
        folder / "home",
        *("--allow-uploads", "--slots", "cpu:2", "--experiments", str(folder / "operators.py")),
    )
    yield server
    server.stop()


@pytest.fixture
def client(server: RealServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=60) as client:
        yield client


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes an experiment into a folder of its own, with other values."""

    def write(name: str, value: int, late: int = 0, text: str = SINE) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "helper.py").write_text(f"VALUE = {value}\n")
        (folder / "late.py").write_text(f"VALUE = {late}\n")
        (folder / "sine.py").write_text(text)
        return folder / "sine.py"

    return write


def values(client: Client, run_id: str, metric: str = "value") -> set[float]:
    return set(client.run(run_id).history()[metric].values)


def test_code_is_run_with_the_modules_beside_it(client: Client, write: Callable[..., Path]) -> None:
    run = client.create(write("one", 7, 8), {"loop_count": 3}).start()

    info = run.wait(check=True)

    assert (info.experiment, info.name) == ("sine", "sine")
    assert values(client, run.id) == {7.0}
    assert values(client, run.id, "late") == {8.0}
    found = run.info.provenance
    assert found is not None
    assert sorted(found.files) == ["helper.py", "late.py", "sine.py"]
    assert found.git is None


def test_uploads_with_modules_of_the_same_names_do_not_see_each_others(
    client: Client, write: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = client.create(write("one", 1, 10), {"gate": str(gate)}).start()
    second = client.create(write("two", 2, 20)).start()
    second.wait(check=True)
    gate.touch()
    first.wait(check=True)
    assert (values(client, first.id), values(client, second.id)) == ({1.0}, {2.0})
    assert (values(client, first.id, "late"), values(client, second.id, "late")) == ({10.0}, {20.0})


def test_an_upload_has_nothing_of_others_nor_of_the_operators(
    client: Client, write: Callable[..., Path]
) -> None:
    client.create(write("one", 1)).start().wait(check=True)
    client.plan("operators")
    text = """
        import importlib.util, sys
        from lab_core.configs import BaseConfigs

        class Configs(BaseConfigs):
            loaded: str = ",".join(sorted({"sine", "helper", "operators"} & set(sys.modules)))
            found: str = ",".join(n for n in ("sine", "operators") if importlib.util.find_spec(n))
            folders: int = sum(path in ("", ".") for path in sys.path)

            def run(self) -> None: ...
    """
    probe = write("two", 1).with_name("probe.py")
    probe.write_text("\n".join(line[8:] for line in text.splitlines()))
    plan = client.plan(probe).values
    assert (plan["loaded"], plan["found"], plan["folders"]) == ("", "", 0)


def test_an_edit_is_the_next_runs_code_and_not_that_of_one_that_trains(
    client: Client, write: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    first = client.create(write("one", 1, 10), {"gate": str(gate)}).start()
    second = client.create(write("one", 3, 30)).start()
    second.wait(check=True)
    gate.touch()
    first.wait(check=True)
    assert values(client, first.id, "late") == {10.0}
    assert values(client, second.id, "late") == {30.0}
    assert first.info.upload_id != second.info.upload_id
    assert "+VALUE = 3" in client.code_diff(first.id, second.id)


def test_a_run_of_sent_code_is_resumed_and_forked_with_it(
    client: Client, write: Callable[..., Path]
) -> None:
    source = write("one", 5)
    run = client.create(source).start(until_step=3)
    assert run.wait().state is RunState.STOPPED
    source.unlink()

    fork = run.fork(overrides={"loop_count": 8})
    assert fork.wait(check=True).step == 8
    assert fork.info.upload_id == run.info.upload_id
    assert run.resume().wait(check=True).step == 6
    assert values(client, run.id) == values(client, fork.id) == {5.0}


@pytest.mark.parametrize("how", ["changed", "removed"])
def test_code_that_was_damaged_on_the_server_is_not_run_until_it_is_sent_again(
    server: RealServer, client: Client, write: Callable[..., Path], how: str
) -> None:
    source = write("one", 5)
    run = client.create(source).start(until_step=3)
    assert run.wait().state is RunState.STOPPED
    same = client.create(source)
    files = server.home / "uploads" / run.info.upload_id / "files"
    late = files / "late.py"  # which the trainer imports only when it is at it
    if how == "changed":
        late.write_text("VALUE = 1\n")
    else:
        late.unlink()

    ended = same.start().wait()
    assert ended.state is RunState.FAILED
    assert "its files are not as they were sent; send the code again" in ended.reason
    with pytest.raises(NotFound, match="not as they were sent; send the code again"):
        run.fork(overrides={"loop_count": 8})

    client.create(source).start().wait(check=True)
    assert late.read_text() == "VALUE = 0\n"
    assert run.fork(overrides={"loop_count": 8}).wait(check=True).step == 8


def test_a_package_is_run_with_its_data(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "table.txt").write_text("42")
    (folder / "sine.py").write_text(
        "from pathlib import Path\n"
        "from lab_core import tracker\n"
        "from lab_core.configs import BaseConfigs\n"
        "class Small(BaseConfigs):\n"
        "    def run(self):\n"
        "        text = Path(__file__).with_name('table.txt').read_text()\n"
        "        tracker.save(0, {'value': float(text)})\n"
        "class Large(Small): ...\n"
    )
    with pytest.raises(InvalidRequest, match="several experiments: large, small; say which one"):
        client.plan(folder / "sine.py")
    run = client.create(f"{folder}/sine.py:small").start()
    assert run.wait(check=True).experiment == "small"
    assert values(client, run.id) == {42.0}


def test_code_that_cannot_be_imported_is_told_and_creates_nothing(
    client: Client, write: Callable[..., Path], tmp_path: Path
) -> None:
    num_runs = len(list(client.runs()))
    broken = write("one", 1, text=SINE.replace("import helper", "import helper, nothing_there"))
    with pytest.raises(ConfigError, match="No module named 'nothing_there'") as raised:
        client.create(broken)
    assert 'sine.py", line 6, in <module>' in str(raised.value)
    shadowing = tmp_path / "torch.py"
    shadowing.write_text(SINE.replace("import helper", ""))
    with pytest.raises(ConfigError, match="torch has the name of a module that is loaded already"):
        client.create(shadowing)
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(ConfigError, match="the module has no experiment"):
        client.create(empty)
    assert len(list(client.runs())) == num_runs


def test_code_that_ends_its_process_harms_nobody(
    client: Client, write: Callable[..., Path]
) -> None:
    deadly = write("one", 1, text="import os; os._exit(1)\n")
    with pytest.raises(Unavailable, match="importing them ended the process"):
        client.plan(deadly)
    client.create(write("two", 2)).start().wait(check=True)
    client.plan("operators")


def test_many_uploads_at_once_each_get_their_own_answer(
    client: Client, write: Callable[..., Path]
) -> None:
    text = SINE.replace("loop_count = 6", "loop_count = 6\n    size: int = helper.VALUE")
    for index in range(12):  # more than generations are kept
        assert client.plan(write(f"n{index}", index, text=text)).values["size"] == index
    assert client.plan(write("n0", 0, text=text)).values["size"] == 0


def test_a_server_that_takes_no_code_refuses_it(tmp_path: Path, write: Callable[..., Path]) -> None:
    server = start_server(tmp_path / "home")
    try:
        with (
            Client(server.address, timeout_s=60) as client,
            pytest.raises(PermissionDenied, match="lab-server serve --allow-uploads"),
        ):
            client.create(write("one", 1))
    finally:
        server.stop()
