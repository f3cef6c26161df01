"""A resumed run comes to the place of its checkpoint, wherever it is read and looped, or says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lab_core import loop
from lab_core.errors import CheckpointError, LabError
from lab_core.experiment import Experiment
from lab_core.helpers.pytorch.loaders import TensorLoader
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoop, TrainingLoopConfigs

from . import trainings

# a scheduler first read after the first step is one of the cases
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")

Body = Callable[[Experiment], object]


def run(folder: Path, body: Body, *, is_resume: bool = False, **options: Any) -> Experiment:
    """Run code without configs, from the newest checkpoint if it is to resume."""
    experiment = Experiment(
        "arriving", writers=(), folder=folder, console=False, keep_last=None, **options
    )
    if is_resume:
        experiment.resume()
    with experiment.start():
        body(experiment)
    return experiment


class Drawing(TrainingLoopConfigs, SeedConfigs):
    """Reads a split in its first iteration, after numbers were drawn."""

    loop_count = 6
    loop_step = 2
    checkpoint_interval = 2
    split: list[int]
    drawn: list[float]

    def run(self) -> None:
        for _ in self.training_loop:
            self.drawn.append(float(torch.rand(())))
            self.drawn.append(float(sum(i * n for i, n in enumerate(self.split))))


@Drawing.calc(Drawing.split)
def split() -> list[int]:
    return [int(i) for i in torch.randperm(20)]


@Drawing.calc(Drawing.drawn)
def nothing() -> list[float]:
    return []


@pytest.mark.parametrize("order", [["set_seed"], ["set_seed", "split"], []])
def test_a_split_first_read_in_the_loop_is_the_same_after_a_resume(
    order: list[str], tmp_path: Path
) -> None:
    def make(name: str, *, source: Path | None = None) -> Drawing:
        experiment = Experiment("drawing", writers=(), folder=tmp_path / name, console=False)
        if source is not None:
            experiment.load_from(source, 4)
        conf: Drawing = experiment.calculate_configs(Drawing(), {}, order)
        with experiment.start():
            conf.run()
        return conf

    whole = make("whole")
    trainings.scramble()
    resumed = make("resumed", source=tmp_path / "whole" / "checkpoints")
    assert resumed.split == whole.split
    assert resumed.drawn == whole.drawn[4:]


def test_what_was_drawn_otherwise_before_the_checkpoint_was_loaded_is_refused(
    tmp_path: Path,
) -> None:
    first = Experiment("drawing", writers=(), folder=tmp_path, console=False)
    conf = first.calculate_configs(Drawing(), {}, ["split"])
    with first.start():
        conf.run()
    trainings.scramble()
    second = Experiment("drawing", writers=(), folder=tmp_path, console=False)
    second.calculate_configs(Drawing(), {}, ["split"])
    second.resume()
    with pytest.raises(CheckpointError, match=r"'split' drew other random numbers.*set_seed"):
        second.start()


def test_an_item_computed_ahead_cannot_be_set_any_more(tmp_path: Path) -> None:
    first = Experiment("drawing", writers=(), folder=tmp_path, console=False)
    conf = first.calculate_configs(Drawing(), {}, ["set_seed"])
    with first.start():
        conf.run()
    second = Experiment("drawing", writers=(), folder=tmp_path, console=False)
    second.resume()
    conf = second.calculate_configs(Drawing(), {}, ["set_seed"])
    with pytest.raises(LabError, match="computed when the run was resumed"), second.start():
        conf.split = [1]


@pytest.mark.parametrize("num_more", [0, 4])
def test_a_loop_saved_at_its_end_is_extended_from_there(num_more: int, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def body(end: int) -> Body:
        def train(experiment: Experiment) -> None:
            seen.extend((value, loop.get_global_step()) for value in loop.loop(end))
            experiment.save_checkpoint()

        return train

    run(tmp_path, body(6))
    assert seen == [(i, i) for i in range(6)]
    seen.clear()
    resumed = run(tmp_path, body(6 + num_more), is_resume=True)
    assert seen == [(i, i) for i in range(6, 6 + num_more)]
    assert resumed.loop.step == resumed.loop.total_steps == 6 + num_more


def test_an_iteration_of_another_length_begins_where_the_last_one_was_saved(tmp_path: Path) -> None:
    starts: list[int] = []

    def body(loop_step: int, cut: bool) -> Body:
        def train(_: Experiment) -> None:
            for start in TrainingLoop(loop_count=16, loop_step=loop_step):
                starts.append(start)
                if cut and start == 5:
                    loop.request_stop()

        return train

    run(tmp_path, body(5, cut=True))
    resumed = run(tmp_path, body(2, cut=False), is_resume=True)
    assert starts == [0, 5, 10, 12, 14]
    assert resumed.loop.step == 16


def test_loops_one_after_the_other_are_each_resumed_at_their_own_place(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def body(cut: bool, first_end: int = 3) -> Body:
        def train(experiment: Experiment) -> None:
            seen.extend(("first", value) for value in loop.loop(first_end))
            for value in loop.loop(range(3, 9)):
                seen.append(("second", value))
                if cut and value == 5:
                    loop.request_stop()

        return train

    run(tmp_path, body(cut=True))
    stopped = len(seen)
    run(tmp_path, body(cut=False), is_resume=True)
    assert seen[stopped:] == [("second", value) for value in (6, 7, 8)]
    with pytest.raises(CheckpointError, match="cannot go on to 5 now"):
        run(tmp_path, body(cut=False, first_end=5), is_resume=True)


def test_a_loop_in_a_loop_is_resumed_within(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def body(cut: bool) -> Body:
        def train(experiment: Experiment) -> None:
            for start in TrainingLoop(loop_count=12, loop_step=4):
                for value in loop.loop(range(start, start + 2)):
                    seen.append((start, value))
                    if cut and value == 4:
                        loop.request_stop()
                seen.extend((start, value) for value in loop.loop(range(start + 2, start + 4)))

        return train

    run(tmp_path / "whole", body(cut=False))
    whole = list(seen)
    seen.clear()
    run(tmp_path / "cut", body(cut=True))
    run(tmp_path / "cut", body(cut=False), is_resume=True)
    assert seen == whole


def test_a_pass_over_the_loader_before_the_loop_is_another_one(tmp_path: Path) -> None:
    data = torch.arange(12.0)
    seen: list[list[float]] = []

    def body(cut: bool) -> Body:
        def train(experiment: Experiment) -> None:
            batches = TensorLoader(data, batch_size=4, name="train_loader")
            assert sum(float(batch.sum()) for (batch,) in batches) == 66.0
            for _ in TrainingLoop(loop_count=6, loop_step=3):
                for (batch,) in batches:
                    seen.append(batch.tolist())
                    loop.add_global_step()
                    if cut and loop.get_global_step() == 4:
                        loop.request_stop()

        return train

    run(tmp_path, body(cut=True))
    assert len(seen) == 4
    run(tmp_path, body(cut=False), is_resume=True)
    assert seen[4:] == seen[1:3]


@pytest.mark.parametrize("name", ["batches", None])
def test_a_run_whose_loader_was_renamed_fails_with_a_sentence(
    name: str | None, tmp_path: Path
) -> None:
    def body(name: str | None) -> Body:
        def train(experiment: Experiment) -> None:
            batches = TensorLoader(torch.zeros(12), batch_size=4, name=name)
            for _ in TrainingLoop(loop_count=9, loop_step=3):
                for _ in batches:
                    loop.add_global_step()
                    if loop.get_global_step() == 4:
                        loop.request_stop()

        return train

    run(tmp_path, body("train_loader"))
    with pytest.raises(CheckpointError, match=r"'train_loader'.*renamed"):
        run(tmp_path, body(name), is_resume=True)


def test_a_run_that_loops_no_more_fails_with_a_sentence(tmp_path: Path) -> None:
    def train(experiment: Experiment) -> None:
        for _ in loop.loop(3):
            loop.request_stop()

    run(tmp_path, train)
    resumed = Experiment("arriving", writers=(), folder=tmp_path, console=False)
    resumed.resume()
    with pytest.raises(CheckpointError, match="without coming to 'loop'"), resumed.start():
        pass
    assert resumed.record.status == "failed"
    assert "without coming to" in (resumed.record.traceback or "")


def test_a_run_on_its_way_to_its_checkpoint_is_not_saved_over_it(tmp_path: Path) -> None:
    def train(experiment: Experiment) -> None:
        for _ in loop.loop(3):
            loop.request_stop()

    run(tmp_path, train)

    def early(experiment: Experiment) -> None:
        with pytest.raises(LabError, match="on its way to 'loop'"):
            experiment.save_checkpoint()
        for _ in loop.loop(3):
            pass

    assert run(tmp_path, early, is_resume=True).record.status == "completed"


def test_a_stop_on_the_way_leaves_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    def train(experiment: Experiment) -> None:
        for _ in loop.loop(3):
            loop.request_stop()

    before = run(tmp_path, train).checkpoints_folder / "1" / "manifest.json"
    content = before.read_bytes()

    def stopped_early(experiment: Experiment) -> None:
        loop.request_stop()
        loop.boundary()
        raise AssertionError("the run goes on")

    assert run(tmp_path, stopped_early, is_resume=True).record.status == "stopped"
    assert before.read_bytes() == content


def test_a_checkpoint_saved_before_every_loop_needs_no_place(tmp_path: Path) -> None:
    drawn: list[float] = []

    def body(experiment: Experiment) -> None:
        if not drawn:
            experiment.save_checkpoint()
        drawn.append(float(torch.rand(())))

    run(tmp_path, body)
    trainings.scramble()
    assert run(tmp_path, body, is_resume=True).record.status == "completed"
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_the_docs_example_is_exact_from_each_of_its_checkpoints(tmp_path: Path) -> None:
    """Data that an item draws, first read in the loop: 20 is an iteration's boundary."""
    given = {"checkpoint_interval": 4, "scheduler": "step", "loop_step": 5}
    order = ["set_seed", "model", "optimizer"]
    trainings.scramble()
    first, conf = trainings.make(tmp_path / "first", given, order, keep_last=None)
    whole = trainings.train(first, conf)
    for step in (4, 8, 12, 16, 20):
        trainings.scramble()
        again, conf = trainings.make(tmp_path / f"again{step}", given, order)
        again._checkpointing.go_on_from(first.checkpoints_folder, step, is_same_run=True)
        assert trainings.train(again, conf) == whole, step


def test_numbers_drawn_between_an_item_and_the_loop_are_the_same_after_a_resume(
    tmp_path: Path,
) -> None:
    drawn: list[float] = []

    def train(source: Path | None) -> None:
        experiment = Experiment("drawing", writers=(), folder=tmp_path / "run", console=False)
        if source is not None:
            experiment.load_from(source, 2)
        conf: Drawing = experiment.calculate_configs(Drawing(), {}, ["set_seed"])
        with experiment.start():
            drawn.append(float(torch.rand(())))
            assert len(conf.split) == 20
            drawn.append(float(torch.rand(())))
            conf.run()

    train(None)
    trainings.scramble()
    train(tmp_path / "run" / "checkpoints")
    assert drawn[2:] == drawn[:2]


def test_what_is_built_by_hand_on_the_way_does_not_undo_what_was_restored(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    rates: list[float] = []

    def body(experiment: Experiment) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        experiment.add_pytorch_models({"optimizer": optimizer})
        if rates:  # resumed
            torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5)
        for value in loop.loop(4):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.param_groups[0]["lr"] *= 2
            if value == 1:
                loop.request_stop()

    run(tmp_path, body)
    assert rates == [0.1, 0.2]
    run(tmp_path, body, is_resume=True)
    assert rates[2:] == [0.4, 0.8]
