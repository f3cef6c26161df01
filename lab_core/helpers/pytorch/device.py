"""The device that a run computes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from lab_core.configs import BaseConfigs

__all__ = ["DeviceConfigs", "DeviceInfo"]


@dataclass(frozen=True)
class DeviceInfo:
    """The device selected from the available ones; prints as a sentence."""

    use_cuda: bool
    cuda_device: int

    @property
    def device(self) -> torch.device:
        """The requested GPU, the last one if there are fewer, Apple's GPU, or the CPU."""
        if self.use_cuda and torch.cuda.is_available():
            return torch.device("cuda", min(self.cuda_device, torch.cuda.device_count() - 1))
        if self.use_cuda and torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    def __str__(self) -> str:
        device = self.device
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
            is_fallback = device.index != self.cuda_device
            note = f", as there is no {self.cuda_device}" if is_fallback else ""
            return f"GPU {device.index} ({name}){note}"
        if device.type == "mps":
            return "Apple GPU"
        return "CPU" if not self.use_cuda else "CPU, as there is no GPU"


class DeviceConfigs(BaseConfigs):
    """`device`: a GPU if one is available and `use_cuda` is set, else the CPU."""

    # index of the GPU
    cuda_device: Annotated[int, Ge(0)] = 0
    # use a GPU if one is available
    use_cuda: bool = True
    # the selected device, as a sentence
    device_info: DeviceInfo
    # the device of the model and of the batches
    device: torch.device


@DeviceConfigs.calc(DeviceConfigs.device_info)
def device_info(c: DeviceConfigs) -> DeviceInfo:
    return DeviceInfo(use_cuda=c.use_cuda, cuda_device=c.cuda_device)


@DeviceConfigs.calc(DeviceConfigs.device)
def device(c: DeviceConfigs) -> torch.device:
    return c.device_info.device


# the device does not define the experiment
DeviceConfigs.set_hyperparams(
    DeviceConfigs.cuda_device, DeviceConfigs.use_cuda, is_hyperparam=False
)
