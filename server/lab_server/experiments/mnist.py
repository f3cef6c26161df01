"""The experiment of lab's MNIST tutorial: a small CNN, under the tutorial's names.

Written as any experiment for the service is: a config class, a class that trains, and functions that
compute what the configs leave open. It runs the same on its own: see examples/mnist_tutorial.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn
from torch.nn import functional as F

from lab_core import loop, monit, tracker
from lab_core.helpers.pytorch.datasets.mnist import Digits, MNISTConfigs
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs
from lab_core.utils import pytorch as pytorch_utils

__all__ = ["MNIST", "Configs", "Net"]

IMAGE_SIZE = 28


def features_size(conv1_kernal: int, conv2_kernal: int) -> int:
    """Return the width of what two convolutions, each followed by pooling, leave of an image."""
    return (IMAGE_SIZE - conv1_kernal - 2 * conv2_kernal + 3) // 4


class Net(nn.Module):
    """Two convolutions with pooling, two linear layers.

    Args:
        conv1_kernal: kernel size of the first convolution.
        conv2_kernal: kernel size of the second.
    """

    def __init__(self, conv1_kernal: int, conv2_kernal: int) -> None:
        super().__init__()
        size = features_size(conv1_kernal, conv2_kernal)
        self.conv1 = nn.Conv2d(1, 20, conv1_kernal)
        self.conv2 = nn.Conv2d(20, 50, conv2_kernal)
        self.fc1 = nn.Linear(size * size * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return float32 logits [N, 10] of float32 images [N, 1, 28, 28]."""
        # pooling before ReLU gives the same, and ReLU a quarter of the work
        x = F.relu(F.max_pool2d(self.conv1(images_NCHW), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        logits_NK: Tensor = self.fc2(x)
        return logits_NK


class MNIST:
    """Trains and tests the model."""

    def __init__(self, c: Configs) -> None:
        self.model = c.model
        self.device = c.device
        self.train_loader = c.train_loader
        self.test_loader = c.valid_loader
        self.optimizer = c.optimizer
        self.train_log_interval = c.train_log_interval
        self.training_loop = c.training_loop
        self.is_log_parameters = c.is_log_parameters

    def __call__(self) -> None:
        tracker.set_scalar("train_loss", is_print=True)
        tracker.set_scalar("test_loss", is_print=True)
        tracker.set_scalar("accuracy", is_print=True)
        if self.is_log_parameters:
            pytorch_utils.add_model_indicators(self.model)
        for _ in self.training_loop:
            self.train()
            self.test()
            if self.is_log_parameters:
                pytorch_utils.store_model_indicators(self.model)

    def train(self) -> None:
        self.model.train()
        for i, (data, target) in monit.enum("Train", self.train_loader):
            data = data.to(self.device, non_blocking=True)
            target = target.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(data), target)
            loss.backward()
            self.optimizer.step()
            loop.add_global_step()
            tracker.add(train_loss=loss)
            if i % self.train_log_interval == 0:
                tracker.save()

    def test(self) -> None:
        self.model.eval()
        # sums stay on the device, so nothing waits for it
        loss_sum = torch.zeros((), device=self.device)
        num_right = torch.zeros((), device=self.device)
        num_samples = 0
        with torch.no_grad():
            for data, target in monit.iterate("Test", self.test_loader):
                data = data.to(self.device, non_blocking=True)
                target = target.to(self.device, non_blocking=True)
                logits_NK = self.model(data)
                loss_sum += F.cross_entropy(logits_NK, target, reduction="sum")
                num_right += (logits_NK.argmax(dim=1) == target).sum()
                num_samples += len(target)
        tracker.save(test_loss=loss_sum / num_samples, accuracy=num_right / num_samples)


class Configs(MNISTConfigs, TrainingLoopConfigs, SeedConfigs):
    """A small CNN on MNIST, as in lab's tutorial."""

    # how often to go through the training set
    epochs: Annotated[int, Ge(0), Le(1_000_000_000)] = 10
    # images of a batch to train on
    batch_size: Annotated[int, Ge(1)] = 64
    # images of a batch to test on
    test_batch_size: Annotated[int, Ge(1)] = 1000
    # kernel size of the first convolution
    conv1_kernal: Annotated[int, Ge(1)] = 5
    # kernel size of the second convolution
    conv2_kernal: Annotated[int, Ge(1)] = 5
    # step size of the optimizer
    learning_rate: Annotated[float, Gt(0)] = 0.01
    # how much of its last step SGD keeps
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.5
    # batches between saves of train_loss: the mean since the last one; 1 saves that of every step
    train_log_interval: Annotated[int, Ge(1)] = 1
    # store histograms of the parameters and gradients after each epoch
    is_log_parameters: bool = True
    # torch.compile of the model: a step takes less time, the first one of each kind of batch half a minute more;
    # "reduce-overhead" records CUDA graphs, so that a GPU does not wait for Python between kernels
    compile_mode: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"

    # which digits: the 5,000 that the package ships, or all of MNIST from LAB_DATA_PATH
    dataset: Digits = "mnist_5k"  # type: ignore[assignment] # names an option, as those below
    train_batch_size = "as_batch_size"  # type: ignore[assignment]
    valid_batch_size = "as_test_batch_size"  # type: ignore[assignment]
    loop_count = "steps_of_all_epochs"  # type: ignore[assignment]
    loop_step = "steps_of_an_epoch"  # type: ignore[assignment]

    # two convolutions and two linear layers
    model: nn.Module
    # steps the model's parameters: SGD, or Adam without momentum
    optimizer: torch.optim.Optimizer
    # trains the model; calling it is the run
    main: MNIST


@Configs.check
def kernels_fit(c: Configs) -> None:
    if features_size(c.conv1_kernal, c.conv2_kernal) < 1:
        raise ValueError(
            f"conv1_kernal {c.conv1_kernal} and conv2_kernal {c.conv2_kernal} leave nothing of a "
            f"{IMAGE_SIZE} x {IMAGE_SIZE} image: conv1_kernal + 2 * conv2_kernal must be at most "
            f"{IMAGE_SIZE - 1}, got {c.conv1_kernal + 2 * c.conv2_kernal}"
        )


@Configs.calc(Configs.train_batch_size)
def as_batch_size(c: Configs) -> int:
    return c.batch_size


@Configs.calc(Configs.valid_batch_size)
def as_test_batch_size(c: Configs) -> int:
    return c.test_batch_size


@Configs.calc(Configs.loop_count)
def steps_of_all_epochs(c: Configs) -> int:
    return c.epochs * len(c.train_loader)


@Configs.calc(Configs.loop_step)
def steps_of_an_epoch(c: Configs) -> int:
    return len(c.train_loader)


@Configs.calc(Configs.model)
def net(c: Configs) -> nn.Module:
    model = Net(c.conv1_kernal, c.conv2_kernal)
    # channels last is how the CPU's convolutions want it
    model.to(c.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if c.compile_mode != "none":
        # in place: names in checkpoints stay; a shape of batches has a graph of its own
        model.compile(mode=c.compile_mode, dynamic=False)
    return model


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs) -> torch.optim.Optimizer:
    parameters = c.model.parameters()
    return torch.optim.SGD(parameters, lr=c.learning_rate, momentum=c.momentum, fused=True)


@Configs.calc(Configs.optimizer)
def adam_optimizer(c: Configs) -> torch.optim.Optimizer:
    return torch.optim.Adam(c.model.parameters(), lr=c.learning_rate, fused=True)


Configs.set_hyperparams(
    Configs.train_log_interval,
    Configs.is_log_parameters,
    Configs.compile_mode,
    is_hyperparam=False,
)
