"""The first acts of a trainer: claim its attempt, set signals, seeds and device."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import threading
from collections.abc import Callable

from lab_core.errors import SettingsError
from lab_server.files.run_folder import RunFolder
from lab_server.model.launch import LaunchSpec
from lab_server.processes import lineage
from lab_server.processes.pid_file import write_pid_file
from lab_server.processes.proc import identify

RUN_ATTEMPT = "LAB_RUN_ATTEMPT"
"""Environment variable: "RUN_ID/ATTEMPT"."""


def claim(spec: LaunchSpec) -> bool:
    """Begin a session and write the pid file; return False when another process has the attempt."""
    os.setsid()
    folder = RunFolder(spec.folder)
    me = identify(os.getpid())
    assert me is not None, "/proc knows the process that reads it"
    lineage.write_marker(lineage.marker(me))
    os.environ[RUN_ATTEMPT] = f"{spec.run_id}/{spec.attempt}"
    return write_pid_file(folder.pid_file(spec.attempt), me)


def set_signals(terminate: Callable[[], None]) -> None:
    """Let SIGTERM call `terminate`, and ignore Ctrl-C, which is for the server in the terminal."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: terminate())


def tie_children() -> None:
    """Make descendants findable and, where they are forked by the training thread, die with it."""
    lineage.become_subreaper()
    # The kernel sends the signal when the forking *thread* ends, so only the main one's forks get it;
    # and not those of a fork, which may end to detach them.
    trainer = os.getpid()
    is_ours: list[bool] = [False]

    def before() -> None:
        is_main = threading.current_thread() is threading.main_thread()
        is_ours[0] = is_main and os.getpid() == trainer

    def after() -> None:
        if is_ours[0]:
            lineage.die_with_parent()

    os.register_at_fork(before=before, after_in_child=after)


def seed_by(text: str) -> None:
    """Seed experiments that set no seed: differently in each run, equally in a retry."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    random.seed(seed)
    for name, function in (("numpy.random", "seed"), ("torch", "manual_seed")):
        if name in sys.modules:  # else it is seeded by the system, when it is imported
            getattr(sys.modules[name], function)(seed)


def set_device(device: str, num_threads: int) -> None:
    """Show the trainer its device alone, and give it its share of the threads."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    visible = [name.strip() for name in names if name.strip()]
    # NVML's order, and nvidia-smi's; CUDA's own begins with the fastest
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if device.startswith("cuda:"):
        index = int(device.removeprefix("cuda:"))
        # the server's own list, if it has one, is what its numbers mean
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if index < len(visible) else str(index)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(num_threads)


def check_device(device: str) -> None:
    """Check that a run with a GPU slot can use its GPU, and does not train on the CPU unnoticed.

    Raises:
        SettingsError: If torch cannot use it.
    """
    torch = sys.modules.get("torch")
    if device.startswith("cuda:") and torch is not None and not torch.cuda.is_available():
        raise SettingsError(
            f"torch {torch.__version__} cannot use the GPU of the slot {device}; check the driver and "
            "torch's CUDA version, or start the server with --slots cpu:1"
        )
