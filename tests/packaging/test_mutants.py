"""What `make mutants` works by names what is there."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_module_that_is_changed_has_tests(mutants: ModuleType) -> None:
    for tests in mutants.modules().values():
        for path in tests.split():
            assert (ROOT / path).exists(), (
                f"{path} is in TARGETS of tools/mutants.py, but is not there"
            )


def test_a_module_takes_the_tests_that_stand_first(mutants: ModuleType) -> None:
    tests = mutants.modules()
    assert tests["lab_core/tracker/pace.py"] == "tests/core/tracker/test_pace.py"
    assert tests["lab_core/tracker/steps.py"] == "tests/core/tracker"


def test_a_name_selects_a_module_or_all_in_a_folder(mutants: ModuleType) -> None:
    assert [*mutants.select(["pace"])] == ["lab_core/tracker/pace.py"]
    assert {*mutants.select(["pace", "watch"])} > {
        "lab_core/tracker/pace.py",
        "server/lab_server/watch/hub.py",
    }
    assert mutants.select([]) == mutants.modules()


def test_a_name_of_nothing_is_refused_with_what_there_is(mutants: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"'pase'.*lab_core/tracker/pace\.py"):
        mutants.select(["pace", "pase"])


def test_equivalent_changes_are_of_modules_that_are_changed(mutants: ModuleType) -> None:
    answered = tomllib.loads(mutants.EQUIVALENT.read_text())
    assert answered.keys() <= mutants.modules().keys() | {"*"}


def test_a_change_is_known_by_the_line_that_it_adds(mutants: ModuleType) -> None:
    changed = "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n def f():\n-    return 1\n+    return 2"
    removed = "--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,1 @@\n-@property\n def f():"
    assert mutants.changed_line(changed) == "return 2"
    assert mutants.changed_line(removed) == "@property"
