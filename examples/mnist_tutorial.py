"""The class-based sample of lab's MNIST tutorial, on lab_core.

    python examples/mnist_tutorial.py

It reads MNIST from LAB_DATA_PATH, and downloads it if missing; `dataset=mnist_5k` on the command line
uses the 5,000 digits in the package.
"""

from typing import Literal

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data
from torchvision import datasets, transforms

from lab_core import experiment, lab, loop, monit, tracker
from lab_core.helpers.pytorch.datasets.mnist import DigitDataset, load_mnist_5k
from lab_core.helpers.pytorch.device import DeviceConfigs
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs
from lab_core.utils import pytorch as pytorch_utils


class Net(nn.Module):
    def __init__(self, conv1_kernal, conv2_kernal):
        super().__init__()
        self.size = (28 - conv1_kernal - 2 * conv2_kernal + 3) // 4

        self.conv1 = nn.Conv2d(1, 20, conv1_kernal, 1)
        self.conv2 = nn.Conv2d(20, 50, conv2_kernal, 1)
        self.fc1 = nn.Linear(self.size * self.size * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(x, 2, 2)
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2, 2)
        x = x.view(-1, self.size * self.size * 50)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


class MNIST:
    def __init__(self, c: "Configs"):
        self.model = c.model
        self.device = c.device
        self.train_loader = c.train_loader
        self.test_loader = c.test_loader
        self.optimizer = c.optimizer
        self.train_log_interval = c.train_log_interval
        self.training_loop = c.training_loop
        self.is_log_parameters = c.is_log_parameters

    def train(self):
        self.model.train()
        for i, (data, target) in monit.enum("Train", self.train_loader):
            data, target = data.to(self.device), target.to(self.device)

            self.optimizer.zero_grad()
            output = self.model(data)
            loss = F.nll_loss(output, target)
            loss.backward()
            self.optimizer.step()

            loop.add_global_step()
            tracker.add(train_loss=loss)
            if i % self.train_log_interval == 0:
                tracker.save()

    def test(self):
        self.model.eval()
        test_loss = 0
        correct = 0
        with torch.no_grad():
            for data, target in monit.iterate("Test", self.test_loader):
                data, target = data.to(self.device), target.to(self.device)
                output = self.model(data)
                test_loss += F.nll_loss(output, target, reduction="sum").item()
                pred = output.argmax(dim=1, keepdim=True)
                correct += pred.eq(target.view_as(pred)).sum().item()

        num_samples = len(self.test_loader.dataset)
        tracker.add(test_loss=test_loss / num_samples)
        tracker.add(accuracy=correct / num_samples)

    def __call__(self):
        tracker.set_histogram("train_loss", 20, True)
        tracker.set_scalar("test_loss", True)
        tracker.set_scalar("accuracy", True)
        if self.is_log_parameters:
            pytorch_utils.add_model_indicators(self.model)

        for _ in self.training_loop:
            self.train()
            self.test()
            if self.is_log_parameters:
                pytorch_utils.store_model_indicators(self.model)


class Configs(TrainingLoopConfigs, DeviceConfigs, SeedConfigs):
    epochs: int = 10

    loop_step = "loop_step"
    loop_count = "loop_count"

    is_save_models = True
    batch_size: int = 64
    test_batch_size: int = 1000

    learning_rate: float = 0.01
    momentum: float = 0.5

    conv1_kernal: int = 5
    conv2_kernal: int = 5

    train_log_interval: int = 10
    is_log_parameters: bool = True

    dataset: Literal["mnist", "mnist_5k"] = "mnist"

    train_loader: torch.utils.data.DataLoader
    test_loader: torch.utils.data.DataLoader

    model: nn.Module
    optimizer: optim.Optimizer

    main: MNIST


@Configs.calc([Configs.train_loader, Configs.test_loader])
def data_loaders(c: Configs):
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    if c.dataset == "mnist_5k":
        digits = load_mnist_5k()
        train = DigitDataset(digits.train_images_NHW, digits.train_labels_N, transform)
        test = DigitDataset(digits.test_images_NHW, digits.test_labels_N, transform)
    else:
        path = str(lab.get_data_path())
        train = datasets.MNIST(path, train=True, download=True, transform=transform)
        test = datasets.MNIST(path, train=False, download=True, transform=transform)

    return (
        torch.utils.data.DataLoader(train, batch_size=c.batch_size, shuffle=True),
        torch.utils.data.DataLoader(test, batch_size=c.test_batch_size),
    )


@Configs.calc(Configs.model)
def model(c: Configs):
    return Net(c.conv1_kernal, c.conv2_kernal).to(c.device)


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs):
    return optim.SGD(c.model.parameters(), lr=c.learning_rate, momentum=c.momentum)


@Configs.calc(Configs.optimizer)
def adam_optimizer(c: Configs):
    return optim.Adam(c.model.parameters(), lr=c.learning_rate)


@Configs.calc(Configs.loop_count)
def loop_count(c: Configs):
    return c.epochs * len(c.train_loader)


@Configs.calc(Configs.loop_step)
def loop_step(c: Configs):
    return len(c.train_loader)


def main(overrides=None):
    conf = Configs()
    experiment.create(name="mnist_tutorial", writers={"sqlite", "tensorboard"})
    conf = experiment.calculate_configs(
        conf, overrides or {}, ["set_seed", "main"], coerce_strings=True
    )
    experiment.add_pytorch_models({"model": conf.model})
    with experiment.start():
        conf.main()


if __name__ == "__main__":
    experiment.run_script(main)
