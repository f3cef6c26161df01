"""The tutorial's model with configs inherited from lab_core: data, device, seed and loop.

    python examples/mnist_configs.py

It reads MNIST from LAB_DATA_PATH, and downloads it if missing; `dataset=mnist_5k` on the command line
uses the 5,000 digits in the package.
"""

import torch
from mnist_tutorial import Net
from torch import nn

from lab_core import experiment, tracker
from lab_core.helpers.pytorch.datasets.mnist import MNISTConfigs
from lab_core.helpers.pytorch.device import DeviceConfigs
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.pytorch.train_valid import TrainValidConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs


class Configs(MNISTConfigs, TrainValidConfigs, DeviceConfigs, SeedConfigs, TrainingLoopConfigs):
    conv1_kernal: int = 5
    conv2_kernal: int = 5
    learning_rate: float = 0.01
    momentum: float = 0.5

    model: nn.Module
    optimizer: torch.optim.Optimizer


@Configs.calc(Configs.model)
def model(c: Configs):
    return Net(c.conv1_kernal, c.conv2_kernal).to(c.device)


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs):
    return torch.optim.SGD(c.model.parameters(), lr=c.learning_rate, momentum=c.momentum)


def main(overrides=None):
    experiment.create(name="mnist_configs", writers={"sqlite", "tensorboard"})
    conf = experiment.calculate_configs(
        Configs(), overrides or {}, ["set_seed", "run"], coerce_strings=True
    )
    tracker.set_scalar("train_loss", True)
    tracker.set_scalar("valid_*", True)
    with experiment.start():
        conf.run()


if __name__ == "__main__":
    experiment.run_script(main)
