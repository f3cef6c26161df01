"""Which code a run was: in its info, in `lab status`, and compared with that of another run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lab_client import errors
from lab_client.cli.app import app
from lab_rpc.v1 import provenance_pb2
from tests.client.twin import Twin, TwinRun

OLD = {"sine.py": "import helper\n", "helper.py": "SCALE = 1.0\nSHIFT = 2\n", "old.py": "gone\n"}
NEW = {"sine.py": "import helper\n", "helper.py": "SCALE = 3.0\nSHIFT = 2\n", "new.py": "came"}


def add_run(twin: Twin, files: dict[str, str], torch: str = "2.9.0", **git: Any) -> TwinRun:
    hashes = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    provenance = provenance_pb2.Provenance(
        module="sine",
        class_name="Configs",
        digest=digest,
        files=[provenance_pb2.SourceFile(path=p, sha256=hashes[p]) for p in sorted(files)],
        folder=f"code/{digest[:12]}",
        git=provenance_pb2.GitState(commit="c0ffee" * 6, subject="Fit", branch="main", **git),
        environment=provenance_pb2.Environment(python="3.11.2", torch=torch, host="here"),
    )
    run = twin.add_run(provenance=provenance)
    run.files = {f"code/{digest[:12]}/{path}": text.encode() for path, text in files.items()}
    run.train()
    return run


def lab(twin: Twin, *arguments: str) -> Result:
    runner = CliRunner(env={"COLUMNS": "200"})
    return runner.invoke(app, ["--server", twin.address, *arguments])


def test_a_run_tells_its_code(client: Any, twin: Twin) -> None:
    run = add_run(twin, OLD, is_dirty=True, untracked=["old.py"])

    found = client.run(run.message.id).info.provenance

    assert (found.module, found.class_name) == ("sine", "Configs")
    assert list(found.files) == ["helper.py", "old.py", "sine.py"]
    assert found.git.is_dirty
    assert found.git.untracked == ("old.py",)
    assert found.environment.torch == "2.9.0"


def test_the_code_of_two_runs_is_compared(client: Any, twin: Twin) -> None:
    old, new = add_run(twin, OLD).message.id, add_run(twin, NEW).message.id

    diff = client.code_diff(old, new)

    assert diff.splitlines() == [
        *(f"--- {old}/helper.py", f"+++ {new}/helper.py"),
        *("@@ -1,2 +1,2 @@", "-SCALE = 1.0", "+SCALE = 3.0", " SHIFT = 2"),
        *(f"--- {old}/new.py", f"+++ {new}/new.py"),
        *("@@ -0,0 +1 @@", "+came", "\\ No newline at end of file"),
        *(f"--- {old}/old.py", f"+++ {new}/old.py", "@@ -1 +0,0 @@", "-gone"),
    ]
    assert twin.calls["DownloadArtifact"] == 4  # and not the file that is equal
    assert client.code_diff(old, old) == ""


def test_code_that_is_not_known_or_is_gone_is_an_error(client: Any, twin: Twin) -> None:
    known, unknown = add_run(twin, OLD), twin.add_run()
    with pytest.raises(errors.InvalidState, match="it is not known which code run"):
        client.code_diff(known.message.id, unknown.message.id)
    other = add_run(twin, NEW)
    known.files = {}
    with pytest.raises(errors.ArtifactNotFound):
        client.code_diff(known.message.id, other.message.id)


def test_status_shows_code_git_and_versions(twin: Twin) -> None:
    run = add_run(twin, OLD, is_dirty=True, untracked=["old.py"])

    shown = lab(twin, "status", run.message.id).stdout

    assert "sine:Configs" in shown
    assert hashlib.sha256(OLD["helper.py"].encode()).hexdigest() in shown
    assert "main at c0ffeec0ffee 'Fit', with uncommitted changes (source.diff)" in shown
    assert "not in git: old.py" in shown
    assert "Python 3.11.2, torch 2.9.0" in shown
    printed = json.loads(lab(twin, "status", run.message.id, "--json").stdout)
    assert printed["provenance"]["environment"]["host"] == "here"


def test_status_says_how_many_files_it_leaves_out(twin: Twin) -> None:
    run = add_run(twin, {f"f{index:02}.py": "" for index in range(13)})
    shown = lab(twin, "status", run.message.id).stdout
    assert "f09.py" in shown
    assert "f10.py" not in shown
    assert "3 more with --json" in shown


def test_compare_shows_how_the_code_differs(twin: Twin) -> None:
    old, new = add_run(twin, OLD).message.id, add_run(twin, NEW, "2.10.0").message.id

    shown = lab(twin, "compare", old, new).stdout

    assert "-SCALE = 1.0" in shown
    assert "+SCALE = 3.0" in shown
    assert "2.10.0" in shown
    assert "SCALE" not in lab(twin, "compare", old, new, "--no-diff").stdout
    printed = json.loads(lab(twin, "compare", old, new, "--json").stdout)
    assert printed["code"]["torch"] == ["2.9.0", "2.10.0"]
    assert "host" not in printed["code"]
    assert "+SCALE = 3.0" in printed["diffs"][0]


def test_compare_says_that_code_is_equal_or_that_its_copies_are_gone(twin: Twin) -> None:
    old, same, new = add_run(twin, OLD), add_run(twin, OLD), add_run(twin, NEW)
    equal = lab(twin, "compare", old.message.id, same.message.id).stdout
    assert "code" in equal
    assert "---" not in equal
    new.files = {}
    shown = lab(twin, "compare", old.message.id, new.message.id)
    assert "cannot be compared" in shown.stdout
    assert shown.exit_code == 0
