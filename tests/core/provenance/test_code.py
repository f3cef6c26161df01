"""Which files are an experiment's, and what their digest says."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_core.provenance import Code, _code, code_of

FILES = {
    "sine.py": "import json, numpy, helpers\nfrom shapes.round import circle\nclass Configs: ...\n",
    "helpers.py": "from lab_core import tracker\ndef late():\n    import rare\n",
    "rare.py": "",
    "shapes/__init__.py": "",
    "shapes/round.py": "from .corner import sharp\nfrom . import extra\ncircle = 1\n",
    "shapes/corner.py": "sharp = 2\ndef late():\n    from ...above import it\n",
    "unused.py": "raise SystemExit\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "shapes" / "extra.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] in ("sine", "helpers", "shapes")]:
        del sys.modules[name]


def code(name: str = "sine") -> Code:
    configs: type = importlib.import_module(name).Configs
    return code_of(configs)


def test_its_files_are_its_module_and_the_users_modules_that_it_imports(project: Path) -> None:
    found = code()

    # the one that a function imports, too, which has not been imported yet
    assert [file.path for file in found.files] == [
        "helpers.py",
        "rare.py",
        "shapes/__init__.py",
        "shapes/corner.py",
        "shapes/extra.py",
        "shapes/round.py",
        "sine.py",
    ]
    assert "rare" not in sys.modules
    assert found.path == str(project / "sine.py")
    assert {file.path: file.data.decode() for file in found.files}["sine.py"] == FILES["sine.py"]


def test_an_installed_package_is_its_own_modules_without_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    for package in ("mine", "other"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
    (site / "mine" / "sine.py").write_text("import other, mine.data\nclass Configs: ...\n")
    (site / "mine" / "data.py").write_text("")
    monkeypatch.syspath_prepend(site)

    found = code("mine.sine")

    assert [file.path for file in found.files] == [
        "mine/__init__.py",
        "mine/data.py",
        "mine/sine.py",
    ]


def test_the_digest_is_that_of_the_content_wherever_it_lies(project: Path, tmp_path: Path) -> None:
    one = code()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in one.files:
        (moved / file.path).parent.mkdir(exist_ok=True)
        (moved / file.path).write_bytes(file.data)
    script = (
        f"import sys; sys.path[:0] = [{str(moved)!r}]; import sine\n"
        "from lab_core.provenance import code_of; print(code_of(sine.Configs).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == one.digest


@pytest.mark.parametrize("name", ["sine.py", "helpers.py", "rare.py", "shapes/corner.py"])
def test_a_change_of_any_file_changes_the_digest(project: Path, name: str) -> None:
    before = code()
    path = project / name
    path.write_text(path.read_text() + "# changed\n")

    assert code().digest != before.digest


def test_a_change_of_another_file_does_not_change_the_digest(project: Path) -> None:
    before = code()
    (project / "unused.py").write_text("")

    assert code().digest == before.digest


def test_two_classes_of_a_module_have_digests_of_their_own(project: Path) -> None:
    module = importlib.import_module("sine")
    second = type("Second", (), {"__module__": "sine"})

    assert code_of(second).digest != code_of(module.Configs).digest


def test_files_beyond_the_bounds_are_counted_and_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_code, "MAX_FILES", 3)
    found = code()
    assert len(found.files) == 3
    assert found.num_left_out > 0

    monkeypatch.setattr(_code, "MAX_FILES", 100)
    monkeypatch.setattr(_code, "MAX_SOURCE_BYTES", len(FILES["sine.py"]))
    found = code()
    assert [file.path for file in found.files if file.data] == ["sine.py"]
    assert found.num_left_out > 0


def test_a_file_that_is_gone_is_left_out(project: Path) -> None:
    importlib.import_module("sine")
    (project / "helpers.py").unlink()

    assert "helpers.py" not in {file.path for file in code().files}


@pytest.mark.parametrize(
    "text", ["class Configs: ...\nimport (", "\0", "import " + "a." * 5000 + "b"]
)
def test_a_source_that_cannot_be_parsed_is_a_file_without_imports(project: Path, text: str) -> None:
    configs: type = importlib.import_module("sine").Configs
    (project / "sine.py").write_text(text)

    assert [file.path for file in code_of(configs).files][-1] == "sine.py"
