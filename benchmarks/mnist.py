"""Steps per second of the MNIST CNN: lab_core with every writer on, against loops without it.

    python benchmarks/mnist.py [--rounds N] [--steps N] [--threads N]

Contenders, each in a process of its own, take turns; a round is so many training steps of batch 64.

- tutorial: the tutorial's own loop: torchvision's MNIST, ToTensor, Normalize, DataLoader.
- bare: the best loop we know in bare PyTorch: data resident, channels last, pooling before ReLU, fused
  SGD, freed memory kept, threads that spin while they wait; nothing is recorded.
- lab: the bundled experiment by lab_core, with console, sqlite and tensorboard, every step's loss.

The whole of MNIST is read from LAB_DATA_PATH; without it all contenders take mnist_5k.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 64
Round = Callable[[int], "Cost"]


class Cost(NamedTuple):
    """What a round took; the processor's time is that of all threads, the writers' too."""

    wall_s: float
    cpu_s: float


class Clock:
    """Measures what goes on from its making to its reading."""

    def __init__(self) -> None:
        self._start = Cost(time.perf_counter(), time.process_time())

    def read(self) -> Cost:
        return Cost(
            time.perf_counter() - self._start.wall_s, time.process_time() - self._start.cpu_s
        )


def digits() -> Any:
    """Return the whole of MNIST where LAB_DATA_PATH has it, else mnist_5k."""
    from lab_core import lab
    from lab_core.helpers.pytorch.datasets import mnist

    folder = lab.get_data_path()
    has_mnist = (folder / "MNIST" / "raw").is_dir()
    return mnist.load_mnist(folder) if has_mnist else mnist.load_mnist_5k()


def order_of(num_samples: int, num_steps: int) -> torch.Tensor:
    """Return the samples of so many batches, epoch after epoch."""
    import torch

    num = num_steps * BATCH_SIZE
    return torch.cat([torch.randperm(num_samples) for _ in range(-(-num // num_samples))])[:num]


def tutorial() -> Round:
    """Return rounds of the tutorial's loop."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torchvision import transforms

    from lab_core.helpers.pytorch.datasets.mnist import DigitDataset

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(1, 20, 5, 1)
            self.conv2 = nn.Conv2d(20, 50, 5, 1)
            self.fc1 = nn.Linear(4 * 4 * 50, 500)
            self.fc2 = nn.Linear(500, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2, 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2, 2)
            x = F.relu(self.fc1(x.view(-1, 4 * 4 * 50)))
            return F.log_softmax(self.fc2(x), dim=1)

    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    data = digits()
    # torchvision's MNIST does just this for a sample
    dataset = DigitDataset(data.train_images_NHW, data.train_labels_N, transform)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    torch.manual_seed(5)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)

    def run(num_steps: int) -> Cost:
        batches = itertools.chain.from_iterable(itertools.repeat(loader))
        clock = Clock()
        for _ in range(num_steps):
            images, target = next(batches)
            optimizer.zero_grad()
            loss = F.nll_loss(model(images), target)
            loss.backward()
            optimizer.step()
        return clock.read()

    return run


def bare() -> Round:
    """Return rounds of the best bare loop."""
    import torch
    from torch.nn import functional as F

    from lab_core.utils.memory import keep_freed_memory
    from lab_server.experiments.mnist import Net

    keep_freed_memory()
    data = digits()
    images = data.train_images_NHW.unsqueeze(1).float().div_(255).sub_(0.1307).div_(0.3081)
    labels = data.train_labels_N
    torch.manual_seed(5)
    model = Net(5, 5).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)

    def run(num_steps: int) -> Cost:
        clock = Clock()
        for part in order_of(len(labels), num_steps).split(BATCH_SIZE):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(images[part]), labels[part])
            loss.backward()
            optimizer.step()
        return clock.read()

    return run


def lab() -> Round:
    """Return rounds of the bundled experiment: the same steps, everything recorded."""

    from lab_core.experiment import Experiment
    from lab_core.helpers.pytorch.loaders import TensorLoader
    from lab_server.experiments.mnist import Configs

    home = tempfile.TemporaryDirectory(prefix="lab-bench-")
    experiment = Experiment("bench", folder=Path(home.name))
    overrides = {"dataset": digits(), "use_cuda": False}
    conf = experiment.calculate_configs(Configs(), overrides, ["set_seed", "main"])
    images, labels = conf.train_loader.tensors
    sys.stdout = io.StringIO()  # the console writes, and nobody reads it
    experiment.start()  # open to the end: a round is steps, not the opening of files

    def run(num_steps: int) -> Cost:
        order = order_of(len(labels), num_steps)
        conf.main.train_loader = TensorLoader(
            images[order], labels[order], batch_size=BATCH_SIZE, shuffle=True, name="train_loader"
        )
        clock = Clock()
        conf.main.train()
        experiment.tracker.flush()
        return clock.read()

    return run


CONTENDERS: dict[str, Callable[[], Round]] = {"tutorial": tutorial, "bare": bare, "lab": lab}


def serve(name: str, threads: int, connection: Connection) -> None:
    """Run rounds as they are asked for, until None."""
    if name == "bare":
        # libgomp reads it when torch is imported; the loop has the machine for itself
        os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
        os.environ.pop("GOMP_SPINCOUNT", None)
    import torch

    torch.set_num_threads(threads)
    run = CONTENDERS[name]()
    run(5)  # what is set up on first use is not of interest
    connection.send(None)
    while (num_steps := connection.recv()) is not None:
        connection.send(run(num_steps))


class Contender:
    """A loop in a process of its own, stopped but for its rounds: threads that spin do so in them alone."""

    def __init__(self, name: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(name, threads, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that a contender that dies is noticed
        self._pipe.recv()
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def begin(self, num_steps: int) -> None:
        """Start a round."""
        self._signal(signal.SIGCONT)
        self._pipe.send(num_steps)

    def end(self) -> Cost:
        """Wait for the round's end, and return what it cost."""
        cost: Cost = self._pipe.recv()
        self._signal(signal.SIGSTOP)
        return cost

    def run(self, num_steps: int) -> Cost:
        """Run a round."""
        self.begin(num_steps)
        return self.end()

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGCONT)
        self._pipe.send(None)
        self._process.join(30)


@contextlib.contextmanager
def contenders(names: Iterable[str], threads: int) -> Iterator[dict[str, Contender]]:
    """Give a process for each name, ready for its first round."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            found[name] = Contender(name, threads)
            stack.callback(found[name].close)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=200, help="of a round, at most an epoch")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    arguments = parser.parse_args()

    costs: dict[str, list[Cost]] = {name: [] for name in arguments.only}
    with contenders(arguments.only, arguments.threads) as found:
        for _ in range(arguments.rounds):
            for name, contender in found.items():
                costs[name].append(contender.run(arguments.steps))
    report(costs, arguments.steps, arguments.threads)


def report(costs: dict[str, list[Cost]], num_steps: int, threads: int) -> None:
    """Print rates, and how many times as fast lab is as each, by wall clock and by processor."""
    num_rounds = len(next(iter(costs.values())))
    print(f"{num_rounds} rounds of {num_steps} steps, {threads} threads; medians over the rounds")
    print(f"{'':10}{'steps/s':>9}{'CPU ms/step':>13}   lab is faster by (wall, CPU, best CPU)")
    for name, rounds in costs.items():
        rate = num_steps / statistics.median(cost.wall_s for cost in rounds)
        cpu_ms = statistics.median(cost.cpu_s for cost in rounds) / num_steps * 1e3
        line = f"{name:10}{rate:9.1f}{cpu_ms:13.2f}"
        if "lab" in costs:
            pairs = list(zip(rounds, costs["lab"], strict=True))
            wall = statistics.median(theirs.wall_s / ours.wall_s for theirs, ours in pairs)
            cpu = statistics.median(theirs.cpu_s / ours.cpu_s for theirs, ours in pairs)
            best = min(c.cpu_s for c in rounds) / min(c.cpu_s for c in costs["lab"])
            line += f"   {wall:5.2f} {cpu:5.2f} {best:5.2f}"
        print(line)


if __name__ == "__main__":
    main()
