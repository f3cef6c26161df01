"""Experiments that misbehave on request, for tests of what a run outlives. Small enough to train at once."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from lab_core import experiment, logger, loop, tracker
from lab_core.configs import BaseConfigs
from lab_core.helpers.training_loop import TrainingLoopConfigs
from lab_server.trainer import setup

ATTEMPT = "LAB_RUN_ATTEMPT"


class Toy(TrainingLoopConfigs):
    """Fits a line, with randomness in everything, so that only an exact resume gives the same end."""

    loop_count = 60
    checkpoint_interval = 10
    log_new_line_interval = 1000
    # step at which attempt 1, 2, ... kills itself; 0 for never
    kill_at: list[int] = []  # noqa: RUF012 - an item
    # how it does: "SIGKILL", "_exit", "segfault"
    kill_by: str = "SIGKILL"
    # let the second batch of metrics wait for as long as the run lasts
    is_second_batch_late: bool = False
    # step at which attempt 1, 2, ... hangs
    hang_at: list[int] = []  # noqa: RUF012 - an item
    # step at which an error is raised
    raise_at: int = 0
    # step of which something is measured after its checkpoint, when the next step begins
    test_at: int = 0
    # step at which it says so in the file `gate`.reached and waits for the file `gate`
    wait_at: int = 0
    gate: str = ""
    # step at which it says so and waits until it is asked to stop
    stop_at: int = 0
    # track an image, a text, an indexed value and a histogram at each step
    is_shown: bool = False
    # go on training for as long as nobody stops it
    is_endless: bool = False
    # never come to a step boundary again from this step on, whatever signal comes
    deaf_at: int = 0
    # start processes that do not want to end: "exec", "fork", "daemon"
    children: list[str] = []  # noqa: RUF012 - an item
    # step from which the disk takes no more, until the reserve is given up
    disk_full_at: int = 0
    # bytes that the trainer's files may have, 0 for any
    file_limit: int = 0
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer

    def run(self) -> None:
        """Train."""
        torch.manual_seed(7)
        attempt = int(os.environ[ATTEMPT].rpartition("/")[2])
        if self.is_second_batch_late:
            worker = tracker.current()._worker
            assert worker is not None
            worker._pace.wait_s = lambda now: 3600.0  # type: ignore[method-assign]
        if self.is_shown:
            tracker.set_image("picture")
            tracker.set_text("words")
            tracker.set_indexed_scalar("each")
            tracker.set_histogram("spread")
        for kind in self.children:
            _start_child(kind)
        if self.file_limit:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_limit, self.file_limit))
        for _ in self.training_loop:
            while True:
                self.train_step(attempt)
                if not self.is_endless:
                    break
                time.sleep(0.001)
                loop.boundary()
        experiment.save_checkpoint()  # for comparisons: wherever it was resumed, there is one

    def train_step(self, attempt: int) -> None:
        """Do one step, and what is asked for at it."""
        if self.test_at and loop.get_global_step() == self.test_at:
            tracker.save(test=0.5)
        x_NI = torch.randn(4, 3)
        loss = ((self.model(x_NI) - x_NI.sum(1, keepdim=True)) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loop.add_global_step()
        step = loop.get_global_step()
        self.show(step, loss, x_NI)
        tracker.save(loss=loss, noise=torch.rand(()))
        if step % 25 == 0:
            print(f"at step {step}", flush=True)
        if step == self.raise_at:
            raise ValueError("this toy raises\nwith a second line")
        if step == self.disk_full_at:
            _fill_disk()
        if step == _at(self.kill_at, attempt):
            print("last words", flush=True)
            _die(self.kill_by)
        if step == _at(self.hang_at, attempt):
            _sleep_forever()
        if step == self.deaf_at:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Path(f"{self.gate}.reached").touch()
            _sleep_forever()
        if step == self.wait_at:
            self.wait_until(lambda: Path(self.gate).exists())
        if step == self.stop_at and attempt == 1:
            self.wait_until(lambda: loop.current()._stop_with_checkpoint is not None)

    def show(self, step: int, loss: torch.Tensor, x_NI: torch.Tensor) -> None:
        """Track something of each kind that is no number, where that is asked for."""
        if self.is_shown:
            tracker.add(
                picture=torch.full((4, 6), step, dtype=torch.uint8),
                words=f"step {step}",
                each=[(7, loss), (9, step)],
                spread=x_NI,
            )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Say that the step is reached, and wait."""
        Path(f"{self.gate}.reached").touch()
        while not condition():
            time.sleep(0.002)


@Toy.calc(Toy.model)
def linear(c: Toy) -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))


@Toy.calc(Toy.optimizer)
def momentum_sgd(c: Toy) -> torch.optim.Optimizer:
    return torch.optim.SGD(c.model.parameters(), lr=0.01, momentum=0.9)


class Checked(BaseConfigs):
    """Has checks of its own."""

    width: int = 3
    # what the check does: "", "exit" or "leave"
    check_does: str = ""

    def run(self) -> None:
        """Do nothing."""


@Checked.check
def width_is_odd(c: Checked) -> None:
    if c.check_does == "exit":
        os._exit(3)
    if c.check_does == "leave":
        sys.exit("gone")
    if c.width % 2 == 0:
        raise ValueError(f"width must be odd, got {c.width}")


class Environment(BaseConfigs):
    """Prints what it finds around it."""

    def run(self) -> None:
        """Print."""
        print("device", repr(os.environ["CUDA_VISIBLE_DEVICES"]))
        print("threads", torch.get_num_threads())
        print("attempt", os.environ[ATTEMPT])
        print("collects", gc.isenabled())
        sys.stderr.write("an error line\n")
        os.system("echo from a child")
        warnings.warn("a Python warning", stacklevel=1)
        logging.getLogger("toys").warning("a record")
        logging.getLogger("toys").error("a bad record")
        logger.log("a styled line", logger.Text.warning)
        logger.log("a plain line")
        with contextlib.redirect_stderr(io.StringIO()) as elsewhere:
            warnings.warn("a hidden warning", stacklevel=1)
        print("seen", "a hidden warning" in elsewhere.getvalue())
        sys.stderr.write("half")
        sys.stderr.write(" a line\n")


_check_device = setup.check_device


def _check_device_but_made_up_ones(device: str) -> None:
    if device not in ("cuda:0", "cuda:1"):
        _check_device(device)


# in the forkserver, so that tests have GPUs to give away
setup.check_device = _check_device_but_made_up_ones

EXPERIMENTS = {"toy": Toy, "checked": Checked, "environment": Environment}


def _at(steps: list[int], attempt: int) -> int:
    return steps[attempt - 1] if attempt <= len(steps) else 0


def _die(by: str) -> None:
    if by == "_exit":
        os._exit(3)
    if by == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


def _fill_disk() -> None:
    write = os.write

    def refuse(fd: int, data: bytes) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if path.parent.name == "spool" and path.with_suffix(".reserve").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    os.write = refuse  # type: ignore[assignment]


def _sleep_forever() -> None:
    while True:
        time.sleep(60)


def _start_child(kind: str) -> None:
    """Start a process that ignores signals: a program, a fork, or a fork that detached itself."""
    if kind == "exec":
        program = (
            "import os, signal, time\n"
            "for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
            "os.setsid(); print('child', os.getpid(), flush=True); time.sleep(600)"
        )
        subprocess.Popen([sys.executable, "-S", "-c", program])
        return
    pid = os.fork()
    if pid:
        if kind == "daemon":
            os.waitpid(pid, 0)
        return
    if kind == "daemon":
        os.setsid()
        if os.fork():
            os._exit(0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print("child", os.getpid(), flush=True)
    _sleep_forever()
