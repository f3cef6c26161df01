"""The experiment that the service comes with, run without the service."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lab_core import loop, tracker
from lab_core.configs import calculate, check, plan, schema
from lab_core.errors import ConfigError
from lab_core.experiment import Experiment, run
from lab_core.helpers.pytorch.datasets.mnist import Digits, load_mnist_5k
from lab_server.experiments.mnist import Configs, Net

SCHEMA = schema(Configs)
TUTORIAL_NAMES = {
    "conv1_kernal",
    "conv2_kernal",
    "epochs",
    "batch_size",
    "test_batch_size",
    "learning_rate",
    "momentum",
    "optimizer",
    "dataset",
    "train_log_interval",
    "is_log_parameters",
    "is_save_models",
    "seed",
    "set_seed",
    "main",
}


def small_digits() -> Digits:
    digits = load_mnist_5k()
    return Digits(
        digits.train_images_NHW[:300],
        digits.train_labels_N[:300],
        digits.test_images_NHW[:100],
        digits.test_labels_N[:100],
    )


def train(
    folder: Path, overrides: dict[str, Any], stop_at: int | None = None, is_resumed: bool = False
) -> tuple[Experiment, Configs]:
    experiment = Experiment(
        "mnist", folder=folder, writers={"sqlite"}, console=False, is_code_recorded=False
    )
    overrides = {"use_cuda": False, "dataset": small_digits(), **overrides}
    conf: Configs = experiment.calculate_configs(Configs(), overrides, ["set_seed", "main"])
    if is_resumed:
        experiment.resume()
    if stop_at is not None:
        forward: Any = conf.model.forward

        def stopping(images: torch.Tensor) -> torch.Tensor:
            if loop.get_global_step() == stop_at - 1:
                loop.request_stop()
            logits: torch.Tensor = forward(images)
            return logits

        conf.model.forward = stopping
    with experiment.start():
        run(conf)
    return experiment, conf


def points(experiment: Experiment) -> list[tuple[str, int, float]]:
    with sqlite3.connect(experiment.folder / "sqlite.db") as db:
        return db.execute("SELECT indicator, step, value FROM scalars ORDER BY 2, 1").fetchall()


def test_it_has_the_tutorials_names_and_their_docs() -> None:
    items = SCHEMA.by_key
    assert set(items) >= TUTORIAL_NAMES
    assert items["optimizer"].options == ("sgd_optimizer", "adam_optimizer")
    assert items["dataset"].options[0] == "mnist_5k", "the service works without any data"
    assert set(items["dataset"].options) == {"mnist_5k", "mnist"}
    assert items["conv1_kernal"].doc == "kernel size of the first convolution"
    assert SCHEMA.default_run_order == ("set_seed", "main")


def test_the_defaults_are_the_tutorials() -> None:
    values = {item.key: item.value for item in plan(SCHEMA, {}).items}
    wanted = {
        "epochs": 10,
        "batch_size": 64,
        "test_batch_size": 1000,
        "learning_rate": 0.01,
        "momentum": 0.5,
        "conv1_kernal": 5,
        "conv2_kernal": 5,
        "seed": 5,
    }
    assert {key: values[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ({"epochs": -1}, {"epochs"}),
        ({"batch_size": 0}, {"batch_size"}),
        ({"test_batch_size": -5}, {"test_batch_size"}),
        ({"learning_rate": 0.0}, {"learning_rate"}),
        ({"momentum": 1.0}, {"momentum"}),
        ({"optimizer": "sdg_optimizer"}, {"optimizer"}),
        ({"conv1_kernal": 20, "conv2_kernal": 4}, {"conv1_kernal", "conv2_kernal"}),
        ({"conv2_kernal": 13}, {"conv1_kernal", "conv2_kernal"}),
        ({"conv1_kernal": 0}, {"conv1_kernal"}),
        ({"compile_mode": "fast"}, {"compile_mode"}),
        ({"epochs": 1.5, "learning_rat": 1.0}, {"epochs", "learning_rat"}),
    ],
)
def test_what_cannot_work_is_refused_before_it_runs(
    overrides: dict[str, Any], keys: set[str]
) -> None:
    violations = check(Configs, overrides)
    assert {key for violation in violations for key in violation.key.split(", ")} == keys
    with pytest.raises(ConfigError):
        calculate(Configs, overrides, ["set_seed", "main"])


def test_kernels_that_leave_nothing_say_so() -> None:
    sentence = (
        "conv1_kernal 20 and conv2_kernal 5 leave nothing of a 28 x 28 image: "
        "conv1_kernal + 2 * conv2_kernal must be at most 27, got 30"
    )
    assert {violation.message for violation in check(Configs, {"conv1_kernal": 20})} == {sentence}


@pytest.mark.parametrize("kernals", [(1, 1), (5, 5), (11, 7), (25, 1), (3, 12), (2, 2), (4, 3)])
def test_the_size_of_the_features_is_right(kernals: tuple[int, int]) -> None:
    assert check(Configs, {"conv1_kernal": kernals[0], "conv2_kernal": kernals[1]}) == ()
    assert Net(*kernals)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_pooling_before_relu_is_the_tutorials_network() -> None:
    torch.manual_seed(1)
    net, images = Net(5, 5), torch.rand(3, 1, 28, 28)
    x = F.max_pool2d(F.relu(net.conv1(images)), 2)
    x = F.max_pool2d(F.relu(net.conv2(x)), 2)
    wanted = net.fc2(F.relu(net.fc1(x.flatten(1))))
    torch.testing.assert_close(net(images), wanted)


@pytest.mark.slow
def test_metrics_are_at_the_step_at_which_they_were_measured(tmp_path: Path) -> None:
    experiment, _ = train(tmp_path, {"epochs": 2, "is_log_parameters": False})
    steps: dict[str, list[int]] = {}
    for name, step, _ in points(experiment):
        steps.setdefault(name, []).append(step)
    assert steps == {
        "train_loss": list(range(1, 11)),
        "test_loss": [5, 10],
        "accuracy": [5, 10],
    }


def test_parameters_are_logged_each_epoch(tmp_path: Path) -> None:
    experiment, _ = train(tmp_path, {"epochs": 1})
    assert {name for name, _, _ in points(experiment)} >= {
        "model.conv1.weight",
        "model.fc2.bias.grad",
    }
    assert tracker.last_values()["accuracy"] > 0


def test_no_epoch_is_no_step(tmp_path: Path) -> None:
    experiment, _ = train(tmp_path, {"epochs": 0})
    assert experiment.record.status == "completed"
    assert loop.get_global_step() == 0


def test_who_changes_the_digits_changes_no_others() -> None:
    first = load_mnist_5k()
    for name in ("train_images_NHW", "train_labels_N", "test_images_NHW", "test_labels_N"):
        before = getattr(first, name).clone()
        getattr(first, name).add_(1)
        assert torch.equal(getattr(load_mnist_5k(), name), before)


def test_models_are_saved_when_asked_for(tmp_path: Path) -> None:
    train(tmp_path, {"epochs": 2, "is_save_models": True, "is_log_parameters": False})
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert saved == {"5", "10"}


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [{}, {"optimizer": "adam_optimizer", "learning_rate": 1e-3}])
@pytest.mark.parametrize("step", [3, 5, 7])
def test_it_resumes_bit_for_bit(tmp_path: Path, overrides: dict[str, Any], step: int) -> None:
    overrides = {"epochs": 2, "is_log_parameters": False, **overrides}
    whole, wanted = train(tmp_path / "whole", overrides)
    train(tmp_path / "parts", overrides, stop_at=step)
    assert loop.get_global_step() == step
    torch.manual_seed(99)
    parts, conf = train(tmp_path / "parts", overrides, is_resumed=True)
    for name, value in wanted.model.state_dict().items():
        assert torch.equal(conf.model.state_dict()[name], value), name
    assert points(parts) == points(whole)


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    overrides = {"dataset": "mnist_5k", "epochs": 2, "momentum": 0.9, "is_log_parameters": False}
    train(tmp_path, overrides)
    assert tracker.last_values()["accuracy"] > 0.9


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
def test_compiled_it_trains_alike_and_its_checkpoints_fit(tmp_path: Path) -> None:
    overrides = {"epochs": 1, "is_log_parameters": False, "is_save_models": True}
    eager, conf = train(tmp_path / "eager", overrides)
    wanted = points(eager)
    found, compiled = train(tmp_path / "compiled", overrides | {"compile_mode": "default"})
    assert compiled.model._compiled_call_impl is not None
    assert compiled.model.state_dict().keys() == conf.model.state_dict().keys()
    for mine, theirs in zip(points(found), wanted, strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], rel=1e-3)
    resumed, _ = train(tmp_path / "compiled", overrides | {"epochs": 2}, is_resumed=True)
    assert points(resumed)[-1][1] == 10


def test_epochs_whose_steps_would_not_fit_64_bits_are_refused_in_the_plan() -> None:
    with pytest.raises(ConfigError, match="epochs must be at most 1000000000"):
        plan(SCHEMA, {"epochs": 2**63 - 1})
    assert plan(SCHEMA, {"epochs": 10**9}).by_key["epochs"].value == 10**9
