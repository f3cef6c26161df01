from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lab_core import experiment as lab_experiment
from lab_core import loop, tracker
from lab_core.checkpoints import KeepBest
from lab_core.errors import CheckpointError, LabError

from . import tiny


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_each_checkpoint_is_told_once_it_is_there(tmp_path: Path) -> None:
    run, conf = tiny.make(tmp_path, "one", checkpoint_interval=10)
    told = []
    run.on_checkpoint(lambda step, path: told.append((step, (path / "manifest.json").is_file())))
    with run.start():
        conf.main()
    assert told == [(10, True), (20, True)]


def test_saving_twice_at_one_step_is_fine(tmp_path: Path) -> None:
    run, _ = tiny.make(tmp_path, "one")
    with run.start():
        first = run.save_checkpoint()
        assert run.save_checkpoint() == first
    assert steps(run.folder) == [0]


def test_a_checkpoint_holds_all_that_a_run_needs(tmp_path: Path) -> None:
    run, _ = tiny.make(tmp_path, "one")
    run.add_pytorch_models({"extra": torch.nn.Linear(1, 1)})
    with run.start():
        path = run.save_checkpoint().path
    names = {file.name for file in path.iterdir()}
    assert names == {"model.pt", "optimizer.pt", "extra.pt", "_run.pt", "manifest.json"}
    rest = torch.load(path / "_run.pt", weights_only=True)
    assert set(rest["rng"]) >= {"python", "numpy", "torch"}


def test_what_has_no_state_cannot_be_added(tmp_path: Path) -> None:
    run, _ = tiny.make(tmp_path, "one")
    with pytest.raises(LabError, match="no state_dict"):
        run.add_pytorch_models({"number": 3})


def test_the_best_and_the_newest_are_kept(tmp_path: Path) -> None:
    run, conf = tiny.make(
        tmp_path, "one", checkpoint_interval=7, keep_last=1, keep_best=KeepBest("score", "max")
    )
    scores = {7: 0.1, 14: 0.9, 21: 0.5}
    conf.main.after_epoch = lambda step: tracker.save(score=scores[step])
    with run.start():
        conf.main()
    assert steps(run.folder) == [14, 21]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, conf = tiny.make(tmp_path, "one", checkpoint_interval=8)
    with run.start():
        conf.main()
    (run.checkpoints_folder / "16" / "optimizer.pt").write_bytes(b"")
    resumed, conf = tiny.make(tmp_path, "one")
    resumed.resume()
    with resumed.start():
        conf.main()
    assert resumed.record.start_step == 8
    assert "16 is damaged" in capsys.readouterr().out


def test_what_is_trained_again_is_kept_and_not_what_it_replaces(tmp_path: Path) -> None:
    run, conf = tiny.make(tmp_path, "one", checkpoint_interval=8)
    with run.start():
        conf.main()
    assert steps(run.folder) == [8, 16]
    (run.checkpoints_folder / "16" / "optimizer.pt").write_bytes(b"")
    resumed, conf = tiny.make(tmp_path, "one", checkpoint_interval=3, keep_last=1)
    resumed.resume()
    conf.main.after_step = lambda step: loop.request_stop(checkpoint=False) if step == 12 else None
    with resumed.start():
        conf.main()
    assert steps(run.folder) == [11]


@pytest.mark.slow
def test_a_missing_checkpoint_is_an_error_and_not_a_fresh_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    first, conf = tiny.make(tmp_path / "runs" / "tiny", "parent", checkpoint_interval=8)
    with first.start():
        conf.main()
    empty, _ = tiny.make(tmp_path / "runs" / "tiny", "empty")
    with empty.start():
        pass
    lab_experiment.create(name="tiny", writers=set(), console=False)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 9 .*8, 16"):
        lab_experiment.load("parent", checkpoint=9)
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        lab_experiment.load("empty")


@pytest.mark.slow
def test_the_first_interrupt_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    undisturbed, conf = tiny.make(tmp_path, "undisturbed")
    with undisturbed.start():
        conf.main()
    wanted = tiny.state(conf)

    run, conf = tiny.make(tmp_path, "one")
    conf.main.after_step = lambda step: loop.current().interrupt() if step == 10 else None
    with run.start():
        conf.main()
    assert run.record.status == "stopped"
    assert loop.get_global_step() == 14, "the epoch was finished"
    assert steps(run.folder) == [14]

    tiny.scramble()
    resumed, conf = tiny.make(tmp_path, "one")
    resumed.resume()
    with resumed.start():
        conf.main()
    assert tiny.state(conf) == wanted
    assert tiny.scalars(resumed) == tiny.scalars(undisturbed)
