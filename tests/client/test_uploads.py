"""Code from the client: which files are sent, when, and what is refused with a sentence before anything is."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lab_client import errors
from lab_client.cli.app import app
from lab_client.uploads.bundle import collect, is_code
from lab_rpc import uploads as rules
from tests.client.twin import Twin

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files; those of a package come with its `__init__.py`."""

    def write(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def lab(twin: Twin, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--server", twin.address, *arguments])


# ---- which files


def test_a_file_is_sent_with_what_it_imports_from_beside_it(write: Write) -> None:
    sine = write("sine.py", "import json, helper\nfrom shapes.round import x\nimport torch\n")
    write("helper.py", "def late():\n    import deeper\n")
    write("deeper.py", "")
    write("unused.py", "raise SystemExit")
    write("data.csv", "1")
    write("shapes/__init__.py", "")
    write("shapes/round.py", "from . import corner\n")
    write("shapes/corner.py", "")
    write("shapes/table.csv", "2")

    bundle = collect(sine)

    assert bundle.module == "sine"
    assert sorted(bundle.files) == [
        *("deeper.py", "helper.py"),
        *("shapes/__init__.py", "shapes/corner.py", "shapes/round.py", "shapes/table.csv"),
        "sine.py",
    ]
    assert not {"sine", "helper", "deeper", "shapes"} & set(sys.modules)


@pytest.mark.parametrize(
    ("source", "module"),
    [("pack", "pack"), ("pack/", "pack"), ("pack/inner/sine.py", "pack.inner.sine")],
)
def test_a_package_is_sent_whole_without_what_is_ignored(
    write: Write, tmp_path: Path, source: str, module: str
) -> None:
    write("pack/__init__.py", "import common")
    write("pack/inner/__init__.py", "")
    write("pack/inner/sine.py", "")
    write("pack/weights/large.bin", "x" * 100)
    write("pack/weights/small.bin", "x")
    write("pack/notes.txt", "")
    write("pack/__pycache__/sine.pyc", "")
    write("pack/.secret", "")
    write("pack/.labignore", "# what is not code\nweights/*\n!weights/small.bin\nnotes.txt\n")
    write("common.py", "")

    bundle = collect(f"{tmp_path}/{source}")

    assert bundle.module == module
    assert sorted(bundle.files) == [
        "common.py",
        *("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/sine.py"),
        "pack/weights/small.bin",
    ]


def test_packages_of_lab_train_beside_a_file_are_not_sent(write: Write) -> None:
    sine = write("sine.py", "from lab_core import tracker\n")
    write("lab_core/__init__.py", "")
    assert list(collect(sine).files) == ["sine.py"]


def test_a_module_is_sent_by_its_file(write: Write) -> None:
    module = types.ModuleType("sine")
    module.__file__ = str(write("sine.py", "x = 1\n"))
    assert collect(module).files == {"sine.py": b"x = 1\n"}


def test_the_id_tells_content_paths_and_module(write: Write, tmp_path: Path) -> None:
    first = collect(write("a/sine.py", "x = 1\n"))
    assert collect(write("b/sine.py", "x = 1\n")).id == first.id
    assert collect(write("b/sine.py", "x = 2\n")).id != first.id
    assert collect(write("b/other.py", "x = 1\n")).id != first.id


def test_text_means_code_when_it_is_a_path() -> None:
    for text in ("sine.py", "./pack", "a/b", "sine.py:small"):
        assert is_code(text)
    assert is_code(Path("pack"))
    for text in ("mnist", "my.sine", "a:b"):
        assert not is_code(text)


def test_behind_a_colon_stands_the_experiment(write: Write) -> None:
    sine = write("sine.py", "")
    assert collect(f"{sine}:small").experiment == "small"
    assert collect(sine).experiment == ""


# ---- what is refused


def test_what_is_no_code_is_refused_with_a_sentence(write: Write, tmp_path: Path) -> None:
    write("folder/sine.py", "")
    cases: dict[Any, str] = {
        tmp_path / "missing.py": "is not there; code is a file NAME.py",
        write("notes.txt", ""): "is not a Python file",
        tmp_path / "folder": "is no package: it has no __init__.py; give the experiment's file",
        write("site-packages/torch.py", ""): "is installed here",
        types.ModuleType("typed_in"): "module 'typed_in' is in no file",
        write("lab_core.py", ""): "lab_core is a package of lab-train",
        write("lab_server/__init__.py", "").parent: "lab_server is a package of lab-train",
        write("pack/__init__.py", "") and write("pack/a\nb.py", "").parent: "no control characters",
    }
    for source, sentence in cases.items():
        with pytest.raises(errors.UploadError) as raised:
            collect(source)
        assert sentence in str(raised.value), source


def test_links_are_refused(write: Write, tmp_path: Path) -> None:
    sine = write("sine.py", "import helper\n")
    (tmp_path / "link.py").symlink_to(sine)
    (tmp_path / "helper.py").symlink_to("/etc/passwd")
    write("pack/__init__.py", "")
    (tmp_path / "pack" / "data").symlink_to("/etc")
    for source in (tmp_path / "link.py", sine, tmp_path / "pack"):
        with pytest.raises(errors.UploadError, match="is a link"):
            collect(source)
    (tmp_path / "pack" / ".labignore").write_text("data\n")
    assert list(collect(tmp_path / "pack").files) == ["pack/__init__.py"]


def test_what_is_no_file_is_refused(write: Write, tmp_path: Path) -> None:
    write("pack/__init__.py", "")
    os.mkfifo(tmp_path / "pack" / "pipe")
    with pytest.raises(errors.UploadError, match="pipe is no plain file"):
        collect(tmp_path / "pack")


def test_too_much_is_refused_with_the_largest_files(write: Write, tmp_path: Path) -> None:
    write("pack/__init__.py", "")
    write("pack/weights.bin", "x" * rules.MAX_BYTES)
    assert len(collect(tmp_path / "pack").files) == 2
    write("pack/z.py", "x")
    with pytest.raises(
        errors.UploadError, match=r"16 MiB; .*pack/weights.bin \(16,777,216 bytes\)"
    ):
        collect(tmp_path / "pack")


def test_too_many_files_are_refused(write: Write, tmp_path: Path) -> None:
    write("pack/__init__.py", "")
    for index in range(rules.MAX_FILES):
        write(f"pack/f{index}.py", "")
    with pytest.raises(errors.UploadError, match="at most 1000 files"):
        collect(tmp_path / "pack")


def test_an_ignore_file_that_cannot_be_read_is_told(write: Write, tmp_path: Path) -> None:
    write("pack/__init__.py", "")
    (tmp_path / "pack" / ".labignore").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(errors.UploadError, match=r"cannot read .*\.labignore"):
        collect(tmp_path / "pack")


# ---- when


def test_code_is_sent_when_the_server_does_not_have_it(
    client: Any, twin: Twin, write: Write
) -> None:
    sine = write("sine.py", f"x = '{'a' * 2_000_000}'\n")  # in several messages

    run = client.create(sine, {"epochs": 2})
    client.create(str(sine))
    client.plan(sine)
    handle = client.experiment(sine)
    handle.create({"epochs": 3})

    assert twin.calls["UploadCode"] == 1
    assert twin.uploads == {collect(sine).id: {"sine.py": sine.read_bytes()}}
    assert run.info.upload_id == collect(sine).id
    assert len(twin.runs) == 3
    sine.write_text("x = 2\n")
    client.create(sine)
    assert twin.calls["UploadCode"] == 2


def test_code_that_was_collected_is_not_read_again(client: Any, twin: Twin, write: Write) -> None:
    sine = write("sine.py", "x = 1\n")
    bundle = collect(sine)
    sine.unlink()
    client.create(bundle)
    assert list(twin.uploads) == [bundle.id]


def test_the_code_of_a_run_is_planned_again_without_its_files(
    client: Any, twin: Twin, write: Write
) -> None:
    run = client.create(write("sine.py", "x = 1\n"))
    client.plan(run.info.source)
    assert twin.requests[-1].upload_id == run.info.upload_id
    assert client.create("mnist").info.source == "mnist"


def test_an_upload_whose_answer_is_lost_is_sent_again(
    client: Any, twin: Twin, write: Write
) -> None:
    twin.lost_answers["UploadCode"] = 1
    client.create(write("sine.py", "x = 1\n"))
    assert twin.calls["UploadCode"] == 2


def test_an_error_of_another_kind_sends_nothing(client: Any, twin: Twin, write: Write) -> None:
    sine = write("sine.py", "")
    twin.uploads[collect(sine).id] = {}
    with pytest.raises(errors.ExperimentNotFound):
        client.create(f"{sine}:unknown")
    assert twin.calls["UploadCode"] == 0


def test_the_command_runs_plans_and_shows_code(twin: Twin, write: Write) -> None:
    sine = str(write("sine.py", "x = 1\n"))
    assert lab(twin, "run", sine, "epochs=2").exit_code == 0
    assert "epochs" in lab(twin, "plan", sine, "epochs=3").stdout
    assert "For digits." in lab(twin, "show", sine).stdout
    assert twin.calls["UploadCode"] == 1
    (run,) = twin.runs.values()
    assert run.message.upload_id[:12] in lab(twin, "status", run.message.id).stdout


def test_the_command_tells_what_cannot_be_sent(twin: Twin, tmp_path: Path) -> None:
    answer = lab(twin, "run", f"{tmp_path}/nothing.py")
    assert answer.exit_code == 2
    assert "nothing.py is not there" in answer.stderr
