from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lab_core import tracker
from lab_core.configs import BaseConfigs, calculate, hyperparams, schema
from lab_core.errors import ConfigError, DataError
from lab_core.helpers.pytorch.datasets.mnist import Digits, MNISTConfigs, load_mnist, load_mnist_5k
from lab_core.helpers.pytorch.device import DeviceConfigs, DeviceInfo
from lab_core.helpers.pytorch.optimizer import OptimizerConfigs
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.pytorch.train_valid import TrainValidConfigs
from lab_core.utils import pytorch as pytorch_utils


@pytest.fixture(autouse=True)
def fresh_tracker() -> None:
    tracker.set_current(None)


def tiny_digits() -> Digits:
    digits = load_mnist_5k()
    return Digits(
        digits.train_images_NHW[:70],
        digits.train_labels_N[:70],
        digits.test_images_NHW[:30],
        digits.test_labels_N[:30],
    )


@pytest.mark.parametrize(
    "configs",
    [DeviceConfigs, MNISTConfigs, OptimizerConfigs, SeedConfigs, TrainValidConfigs],
)
def test_every_item_has_a_doc(configs: type[BaseConfigs]) -> None:
    assert [item.key for item in schema(configs).items if not item.doc] == []


def test_mnist_5k_has_every_digit_in_the_same_share() -> None:
    digits = load_mnist_5k()
    assert digits.train_images_NHW.shape == (4000, 28, 28)
    assert digits.test_images_NHW.shape == (1000, 28, 28)
    assert digits.train_labels_N.bincount().tolist() == [400] * 10
    assert digits.test_labels_N.bincount().tolist() == [100] * 10
    assert digits.train_labels_N[:100].bincount().min() > 0, "they are shuffled"


def test_no_digit_of_the_test_set_is_in_the_training_set() -> None:
    digits = load_mnist_5k()
    train = {image.numpy().tobytes() for image in digits.train_images_NHW}
    test = {image.numpy().tobytes() for image in digits.test_images_NHW}
    assert not train & test


@pytest.mark.slow
def test_resident_and_loaded_images_are_the_same() -> None:
    batches = {}
    for kind, workers in (("resident", 0), ("data_loader", 0), ("data_loader", 1)):
        conf = calculate(
            MNISTConfigs,
            {
                "dataset": tiny_digits(),
                "train_loader": f"{kind}_train",
                "valid_loader": f"{kind}_valid",
                "num_workers": workers,
                "use_cuda": False,
            },
        )
        torch.manual_seed(1)
        batches[kind, workers] = [*conf.train_loader, *conf.valid_loader]
    resident, *loaded = batches.values()
    assert len(resident) == 3
    for others in loaded:
        for mine, theirs in zip(resident, others, strict=True):
            torch.testing.assert_close(mine[0], theirs[0])
            assert torch.equal(mine[1], theirs[1])


def test_mnist_is_read_by_torchvision(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 60), ("t10k", 10)):
        header = np.array([0x803, count, 28, 28], dtype=">i4").tobytes()
        pixels = np.arange(count * 784, dtype=np.uint8).tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pixels)
        header = np.array([0x801, count], dtype=">i4").tobytes()
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(
            header + bytes(i % 10 for i in range(count))
        )
    digits = load_mnist(tmp_path)
    assert digits.train_images_NHW.shape == (60, 28, 28)
    assert digits.test_labels_N.tolist() == list(range(10))


def test_missing_data_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    def no_network(self: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(MNIST, "download", no_network)
    monkeypatch.setenv("LAB_DATA_PATH", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"nothing.*LAB_DATA_PATH.*mnist_5k"):
        calculate(MNISTConfigs, {"dataset": "mnist"}, ["dataset"])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"train_batch_size": 0}, "train_batch_size"),
        ({"dataset": "mnist_6k"}, "dataset"),
        ({"image_std": 0.0}, "image_std"),
        ({"cuda_device": -1}, "cuda_device"),
        ({"num_workers": -1}, "num_workers"),
    ],
)
def test_wrong_data_configs_are_refused(overrides: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        calculate(MNISTConfigs, overrides)
    assert [violation.key for violation in caught.value.violations] == [key]


def test_the_seed_seeds_everything() -> None:
    drawn = []
    for _ in range(2):
        calculate(SeedConfigs, {"seed": 7}, ["set_seed"])
        drawn.append((random.random(), float(np.random.rand()), torch.rand(()).item()))
    assert drawn[0] == drawn[1]
    calculate(SeedConfigs, {"seed": 8}, ["set_seed"])
    assert random.random() != drawn[0][0]


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    conf = calculate(DeviceConfigs, None, ["device"])
    assert conf.device == torch.device("cpu")
    assert "no GPU" in str(conf.device_info)


def test_too_high_an_index_is_the_last_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    assert DeviceInfo(use_cuda=True, cuda_device=1).device == torch.device("cuda", 1)
    assert DeviceInfo(use_cuda=True, cuda_device=5).device == torch.device("cuda", 1)
    assert str(DeviceInfo(use_cuda=True, cuda_device=5)) == "GPU 1 (Some GPU), as there is no 5"
    assert DeviceInfo(use_cuda=False, cuda_device=0).device == torch.device("cpu")


def test_apples_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert DeviceInfo(use_cuda=True, cuda_device=0).device == torch.device("mps")


def test_the_device_is_no_hyperparameter() -> None:
    assert hyperparams(calculate(DeviceConfigs, {"use_cuda": False})) == {}


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        (None, torch.optim.SGD),
        ("adam_optimizer", torch.optim.Adam),
        ("adamw_optimizer", torch.optim.AdamW),
    ],
)
def test_optimizers_are_options(option: str | None, kind: type) -> None:
    class Configs(OptimizerConfigs):
        pass

    conf = Configs()
    conf.parameters = nn.Linear(2, 2).parameters()
    calculate(conf, {"learning_rate": 0.3, **({"optimizer": option} if option else {})})
    assert type(conf.optimizer) is kind
    assert conf.optimizer.param_groups[0]["lr"] == 0.3


class TinyConfigs(MNISTConfigs, TrainValidConfigs, OptimizerConfigs, SeedConfigs):
    pass


@TinyConfigs.calc(TinyConfigs.model)
def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@TinyConfigs.calc(TinyConfigs.parameters)
def parameters(c: TinyConfigs) -> Any:
    return c.model.parameters()


def test_train_valid_configs_train_and_validate() -> None:
    from lab_core import loop

    loop.set_current(loop.Loop())
    digits = tiny_digits()
    overrides = {"dataset": digits, "epochs": 3, "use_cuda": False}
    conf = calculate(TinyConfigs, overrides, ["set_seed", "run"])
    conf.run()
    last = tracker.last_values()
    assert loop.get_global_step() == 6
    assert {"train_loss", "valid_loss", "valid_accuracy"} <= set(last)
    with torch.no_grad():
        images = (digits.test_images_NHW.unsqueeze(1) / 255 - 0.1307) / 0.3081
        right = conf.model(images).argmax(dim=1) == digits.test_labels_N
    assert last["valid_accuracy"] == pytest.approx(right.float().mean().item())


def test_indicators_of_a_model_are_stored() -> None:
    linear = nn.Linear(2, 1)
    linear(torch.ones(1, 2)).sum().backward()
    pytorch_utils.add_model_indicators(linear)
    pytorch_utils.store_model_indicators(linear)
    tracker.save(1)
    last = tracker.last_values()
    assert set(last) == {f"model.{n}{g}" for n in ("weight", "bias") for g in ("", ".grad")}
    assert last["model.weight.grad"] == 1.0


def test_a_parameter_without_a_gradient_is_skipped() -> None:
    linear = nn.Linear(2, 1)
    linear.bias.requires_grad = False
    pytorch_utils.add_model_indicators(linear, "named")
    pytorch_utils.store_model_indicators(linear, "named")
    tracker.save(1)
    assert set(tracker.last_values()) == {"named.weight"}


def test_modules_and_optimizers_are_found_among_the_configs() -> None:
    conf = calculate(TinyConfigs, {"dataset": tiny_digits()}, ["optimizer"])
    assert pytorch_utils.get_modules(conf) == {"model": conf.model, "optimizer": conf.optimizer}


def test_a_module_knows_its_device() -> None:
    assert pytorch_utils.get_device(nn.Linear(1, 1)) == torch.device("cpu")
    with pytest.raises(ValueError, match="no parameters"):
        pytorch_utils.get_device(nn.ReLU())
    split = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, device="meta"))
    with pytest.raises(ValueError, match="cpu, meta"):
        pytorch_utils.get_device(split)


@pytest.mark.slow
def test_importing_the_experiment_starts_no_threads_and_no_cuda() -> None:
    """The service forks trainers from a process that has imported it."""
    script = (
        "import os, numpy, torch\n"  # numpy's OpenBLAS has threads, and ends them before a fork
        "before = os.listdir('/proc/self/task')\n"
        "from lab_server.experiments.mnist import Configs\n"
        "assert not torch.cuda.is_initialized()\n"
        "assert os.listdir('/proc/self/task') == before"
    )
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to count threads")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
