"""The small run of benchmarks/chaos.py: seconds long, with everything that a resumed run could get wrong."""

from __future__ import annotations

import fcntl
import json
import os
import random
import time
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn

from lab_core import experiment, loop, monit, tracker
from lab_core.helpers.pytorch.loaders import TensorLoader
from lab_core.helpers.pytorch.seed import SeedConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs

NUM_SAMPLES = 150
BATCH_SIZE = 8

_held: list[TextIO] = []
"""Locks that end with this process, however it ends."""


def note_launch() -> None:
    """Write into the log that CHAOS_LAUNCHES names whether this run, or each slot here, is taken.

    A trainer has its run's lock, and that of one of the CHAOS_SLOTS slots of its server or agent.
    """
    if not (folder := os.environ.get("CHAOS_LAUNCHES")):
        return
    current = experiment.current()
    run, place = current.run_id, current.folder.parents[2].name
    slots = [f"{place}.{slot}" for slot in range(int(os.environ["CHAOS_SLOTS"]))]
    taken = [] if _lock(Path(folder, run)) else ["run"]
    if not any(_lock(Path(folder, slot)) for slot in slots):
        taken.append("slot")
    line = json.dumps({"run": run, "place": place, "pid": os.getpid(), "taken": taken})
    with Path(folder, "log").open("a") as log:
        log.write(line + "\n")


def _lock(path: Path) -> bool:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _held.append(file)
    return True


class Trial:
    """Trains a small network with dropout, momentum and random noise; ends by saving its weights."""

    def __init__(self, c: Configs) -> None:
        self.step_s = c.step_s
        self.model, self.optimizer = c.model, c.optimizer
        self.train_loader, self.training_loop = c.train_loader, c.training_loop

    def __call__(self) -> None:
        note_launch()
        torch.set_num_threads(1)  # else the sums depend on how many slots a server or agent has
        for _ in self.training_loop:
            self.train()
            self.validate()
            print(f"epoch done at step {loop.get_global_step()}", flush=True)
        weights = torch.cat([p.detach().flatten() for p in self.model.parameters()])
        experiment.save_numpy("weights", weights.numpy())

    def train(self) -> None:
        self.model.train()
        for i, (inputs, targets) in monit.enum("Train", self.train_loader, is_silent=True):
            self.optimizer.zero_grad()
            loss = (self.model(inputs).squeeze(1) - targets).square().mean()
            loss = loss * (1 + 0.1 * random.random())
            loss.backward()
            self.optimizer.step()
            loop.add_global_step()
            tracker.save(train_loss=loss)
            if i % 3 == 0:
                tracker.save(sometimes=loss * 2)
            time.sleep(self.step_s)

    def validate(self) -> None:
        self.model.eval()
        with torch.no_grad():
            tracker.save(valid=self.model(torch.randn(8, 4)).mean())


class Configs(TrainingLoopConfigs, SeedConfigs):
    """A run of a few seconds."""

    loop_count = 95
    loop_step = 19
    checkpoint_interval = 10
    # seconds that a step takes at least
    step_s: float = 0.03
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train_loader: TensorLoader
    main: Trial


@Configs.calc(Configs.model)
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.Linear(16, 1))


@Configs.calc(Configs.optimizer)
def sgd(c: Configs) -> torch.optim.Optimizer:
    return torch.optim.SGD(c.model.parameters(), lr=0.05, momentum=0.9)


@Configs.calc(Configs.train_loader)
def resident() -> TensorLoader:
    generator = torch.Generator().manual_seed(1)
    inputs: Tensor = torch.randn(NUM_SAMPLES, 4, generator=generator)
    targets = torch.arange(NUM_SAMPLES, dtype=torch.float32) / NUM_SAMPLES
    return TensorLoader(inputs, targets, batch_size=BATCH_SIZE, shuffle=True, name="train_loader")


EXPERIMENTS = {"trial": Configs}
