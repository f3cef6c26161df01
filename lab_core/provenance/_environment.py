"""What a run was made with and on: versions, host, device."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions and machine; "" where there is none, or it is not known.

    Attributes:
        python: version.
        torch: version with its build: "2.9.0+cu128".
        lab_train: version.
        cuda: version that torch was built for.
        cudnn: version that torch uses on the GPU.
        driver: version of the GPU's driver.
        host: name of the machine.
        system: kernel and architecture.
        device: "cpu" or "cuda:0".
        device_name: the model of the GPU, or of the CPU.
    """

    python: str
    torch: str
    lab_train: str
    cuda: str
    cudnn: str
    driver: str
    host: str
    system: str
    device: str
    device_name: str


def read_environment(device: str = "") -> Environment:
    """Return the environment of this process; of torch only what is imported already.

    Args:
        device: "cpu" or "cuda:N"; "" is the first GPU that is visible where there is one, else the CPU.
    """
    torch = sys.modules.get("torch")
    cudnn = ""
    if not device:
        # not torch.cuda.is_available(): it may initialise CUDA, which takes memory and time
        device = "cuda:0" if _driver() and _visible_gpu() else "cpu"
    is_gpu = device.startswith("cuda:")
    if torch is not None and is_gpu:  # its library takes half a second to load
        with contextlib.suppress(Exception):  # a build whose libraries do not fit
            found = torch.backends.cudnn.version()
            cudnn = "" if found is None else _cudnn_version(int(found))
    return Environment(
        python=platform.python_version(),
        torch="" if torch is None else str(torch.__version__),
        lab_train=_lab_train_version(),
        cuda="" if torch is None else str(torch.version.cuda or ""),
        cudnn=cudnn,
        driver=_driver(),
        host=socket.gethostname(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        device=device,
        device_name=_gpu_name() if is_gpu else _cpu_name(),
    )


def _lab_train_version() -> str:
    try:
        return importlib.metadata.version("lab-train")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cudnn_version(number: int) -> str:
    # 91002 is 9.10.2; before 9, 8902 was 8.9.2
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _driver() -> str:
    """Return the version of the NVIDIA driver that the kernel has loaded."""
    with contextlib.suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(errors="replace")
        if found := re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text.partition("\n")[0]):
            return found[1]
    return ""


def _visible_gpu() -> str:
    """Return the number or the UUID of the first GPU that this process sees, "" if it sees none."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "0" if names is None else names.partition(",")[0].strip()


def _gpu_name() -> str:
    # NVML, not torch: it needs no CUDA context
    with contextlib.suppress(Exception):  # NVML's own errors, an absent or foreign library
        import pynvml

        pynvml.nvmlInit()
        try:
            gpu = _visible_gpu()
            find = (
                pynvml.nvmlDeviceGetHandleByIndex
                if gpu.isdecimal()
                else pynvml.nvmlDeviceGetHandleByUUID
            )
            name = pynvml.nvmlDeviceGetName(find(int(gpu) if gpu.isdecimal() else gpu))
            return name.decode() if isinstance(name, bytes) else str(name)
        finally:
            pynvml.nvmlShutdown()
    return ""


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
