"""What is passed to an experiment that cannot be: a sentence says so, before anything is recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab_core import experiment
from lab_core.errors import LabError, SettingsError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": 5}, "an experiment's name is letters, .* got 5"),
        ({"run_id": "../../elsewhere"}, r"a run's id is letters, .* got '../../elsewhere'"),
        ({"writers": 5}, "a writer is a name, console, sqlite, tensorboard, or an object"),
        ({"writers": [object()]}, "a writer is a name, .* got <object object"),
        ({"keep_best": "accuracy"}, r"keep_best must be a KeepBest, .* got 'accuracy'"),
        ({"keep_last": 0}, "keep_last must be at least 1 or None, got 0"),
        ({"checkpoint_interval": 0}, "checkpoint_interval must be at least 1, or None, got 0"),
    ],
)
def test_what_cannot_be_a_run_is_told(options: dict[str, Any], sentence: str, home: Path) -> None:
    with pytest.raises(SettingsError, match=sentence):
        experiment.create(**{"name": "own", "writers": set(), **options})
    assert not home.exists()


def test_models_are_told_from_names() -> None:
    experiment.create(name="own", writers=set(), console=False)
    with pytest.raises(LabError, match=r"takes a dict, such as {'model': model}, got {'model'}"):
        experiment.add_pytorch_models({"model"})  # type: ignore[arg-type]
    for name in ("a/b", 5):
        with pytest.raises(LabError, match="cannot name a file of a checkpoint: use letters"):
            experiment.add_pytorch_models({name: np})  # type: ignore[dict-item]
    with pytest.raises(LabError, match="there is no run 5 in"):
        experiment.load(5)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "file"))
    experiment.create(name="own", writers=set(), console=False)
    with pytest.raises(SettingsError, match=r"cannot be made: Not a directory; runs are in \$LAB_"):
        experiment.start()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_an_array_is_saved_whole_or_not_at_all() -> None:
    run = experiment.create(name="own", writers=set(), console=False)
    with experiment.start():
        path = experiment.save_numpy("weights", np.arange(3))
        with pytest.raises(LabError, match="the array 'weights' cannot be saved: not me"):
            experiment.save_numpy("weights", np.array([Unpicklable()], dtype=object))
        with pytest.raises(LabError, match="an array's name is letters"):
            experiment.save_numpy(5, np.arange(3))  # type: ignore[arg-type]
    assert np.load(path).tolist() == [0, 1, 2]
    assert [one.name for one in (run.folder / "numpy").iterdir()] == ["weights.npy"]


def test_a_text_is_no_artifact_and_the_sentence_says_how() -> None:
    experiment.create(name="own", writers=set(), console=False)
    with experiment.start(), pytest.raises(LabError, match=r"a text is saved by text\.encode\(\)"):
        experiment.save_artifact("notes.txt", "hello")


@pytest.mark.parametrize(
    ("file", "arguments", "expected"),
    [
        ("halving.py", ["halving.py"], "halving"),
        ("packed/__main__.py", ["-m", "packed"], "packed"),
        (
            "my script.py",
            ["my script.py"],
            "the script's name 'my script' cannot be the experiment's",
        ),
    ],
)
def test_an_experiment_is_named_after_its_script(
    file: str, arguments: list[str], expected: str, tmp_path: Path
) -> None:
    script = tmp_path / file
    script.parent.mkdir(exist_ok=True)
    script.write_text(
        "from lab_core import experiment\n"
        "from lab_core.errors import SettingsError\n"
        "try:\n    print(experiment.create().record.experiment)\n"
        "except SettingsError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip().startswith(expected), done.stderr
