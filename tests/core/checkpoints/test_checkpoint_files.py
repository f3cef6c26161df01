from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from lab_core import checkpoints
from lab_core.checkpoints import KeepBest, Retention, _files
from lab_core.errors import CheckpointError, SettingsError


def save(folder: Path, step: int, **metrics: float) -> Path:
    states = {"model": {"w": torch.full((3,), float(step))}, "_run": {"step": step}}
    return checkpoints.save(folder, step, states, metrics).path


def steps(folder: Path) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.list_checkpoints(folder)]


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    states = checkpoints.load(path)
    assert torch.equal(states["model"]["w"], torch.full((3,), 7.0))
    assert states["_run"] == {"step": 7}


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 7, accuracy=0.1)
    save(tmp_path, 7, accuracy=0.9)
    (found,) = checkpoints.list_checkpoints(tmp_path)
    assert found.metrics == {"accuracy": 0.9}
    assert [path.name for path in tmp_path.iterdir()] == ["7"], "nothing temporary is left"


@pytest.mark.parametrize("victim", ["model.pt", "_run.pt", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken(
    tmp_path: Path, victim: str, harm: str
) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    file = newest / victim
    data = bytearray(file.read_bytes())
    if harm == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data)
    else:
        file.unlink()
    if victim == "manifest.json" and harm == "flipped":
        file.write_text(file.read_text(errors="replace").replace('"files"', '"flies"'))
    with pytest.raises(CheckpointError, match=r"damaged|format"):
        checkpoints.load(newest)
    good, damaged = checkpoints.latest_good(tmp_path)
    assert good is not None
    assert good.step == 1
    assert [checkpoint.step for checkpoint in damaged] == [2]


def test_a_checkpoint_that_was_never_finished_is_not_one(tmp_path: Path) -> None:
    save(tmp_path, 1)
    unfinished = tmp_path / ".2-99.tmp"
    unfinished.mkdir()
    (unfinished / "model.pt").write_bytes(b"half")
    assert steps(tmp_path) == [1]
    save(tmp_path, 3)
    assert not unfinished.exists(), "what a crash left is cleared away"


def test_a_crash_in_the_middle_of_replacing_one_hides_it_from_nobody(tmp_path: Path) -> None:
    path = save(tmp_path, 7, accuracy=0.1)
    aside = path.rename(tmp_path / ".7-99.old")  # and here it crashed
    found = checkpoints.find(tmp_path, 7)
    assert (found.path, found.metrics) == (aside, {"accuracy": 0.1})
    assert checkpoints.latest_good(tmp_path) == (found, ())
    assert checkpoints.load(found.path)["_run"] == {"step": 7}
    save(tmp_path, 7, accuracy=0.9)
    (found,) = checkpoints.list_checkpoints(tmp_path)
    assert (found.path, found.metrics) == (path, {"accuracy": 0.9})
    assert not aside.exists()


def test_one_that_is_rewritten_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, 7)
    verify, num_reads = _files.verify, 0

    def rewrite_after(at: Path) -> None:
        nonlocal num_reads
        verify(at)
        num_reads += 1
        if num_reads == 1:
            checkpoints.save(tmp_path, 7, {"other": {"w": 1}})

    monkeypatch.setattr(_files, "verify", rewrite_after)
    assert checkpoints.load(path) == {"other": {"w": 1}}
    assert num_reads == 2


def test_where_nothing_is_good_nothing_is_found(tmp_path: Path) -> None:
    assert checkpoints.latest_good(tmp_path / "none") == (None, ())
    (save(tmp_path, 1) / "model.pt").unlink()
    good, damaged = checkpoints.latest_good(tmp_path)
    assert good is None
    assert len(damaged) == 1


def test_a_missing_step_is_an_error_that_names_those_there(tmp_path: Path) -> None:
    save(tmp_path, 10)
    save(tmp_path, 20)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 15.*10, 20"):
        checkpoints.find(tmp_path, 15)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "was_run"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    path = save(tmp_path / "c", 1)
    torch.save(Evil(), path / "model.pt")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.pt"] = hashlib.sha256((path / "model.pt").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="cannot read"):
        checkpoints.load(path)
    assert not marker.exists()


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    in_the_way = tmp_path / "checkpoints"
    in_the_way.write_text("a file")
    with pytest.raises(CheckpointError, match="cannot write"):
        checkpoints.save(in_the_way, 1, {"model": {}})


def test_a_manifest_says_what_it_holds(tmp_path: Path) -> None:
    manifest = json.loads((save(tmp_path, 4, loss=float("nan")) / "manifest.json").read_text())
    assert manifest["step"] == 4
    assert sorted(manifest["files"]) == ["_run.pt", "model.pt"]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (100, 20, 3):
        save(tmp_path, step)
    dropped = Retention(keep_last=2).apply(tmp_path)
    assert steps(tmp_path) == [20, 100]
    assert [checkpoint.step for checkpoint in dropped] == [3]


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 4)])
def test_the_best_is_kept_beside_the_newest(tmp_path: Path, mode: str, best: int) -> None:
    accuracies = {1: float("nan"), 2: 0.9, 3: 0.5, 4: 0.1, 5: 0.5, 6: 0.5}
    for step, accuracy in accuracies.items():
        save(tmp_path, step, accuracy=accuracy)
    keep_best = KeepBest("accuracy", "max" if mode == "max" else "min")
    Retention(keep_last=1, keep_best=keep_best).apply(tmp_path)
    assert steps(tmp_path) == [best, 6]


def test_the_best_is_kept_though_an_earlier_one_has_a_value_and_of_equals_the_earlier(
    tmp_path: Path,
) -> None:
    for step, accuracy in {1: 0.5, 2: 0.9, 3: 0.9, 4: 0.1}.items():
        save(tmp_path, step, accuracy=accuracy)
    Retention(keep_last=1, keep_best=KeepBest("accuracy")).apply(tmp_path)
    assert steps(tmp_path) == [2, 4]


def test_the_best_of_a_scalar_that_none_has_is_none(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    Retention(keep_last=1, keep_best=KeepBest("accuracy")).apply(tmp_path)
    assert steps(tmp_path) == [2]


def test_three_are_kept_unless_told_otherwise_and_all_for_none(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step)
    assert Retention(keep_last=None).apply(tmp_path) == ()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    Retention().apply(tmp_path)
    assert steps(tmp_path) == [3, 4, 5]


def test_a_checkpoint_that_somebody_else_deletes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    seen = _files.list_checkpoints(tmp_path)
    shutil.rmtree(seen[0].path)
    monkeypatch.setattr("lab_core.checkpoints._retention.list_checkpoints", lambda folder: seen)
    assert [checkpoint.step for checkpoint in Retention(keep_last=1).apply(tmp_path)] == [1]
    assert steps(tmp_path) == [2]


def test_keeping_none_of_them_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        Retention(keep_last=0)
