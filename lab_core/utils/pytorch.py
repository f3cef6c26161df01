"""PyTorch models of a run: histograms of their parameters, and finding them in the configs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lab_core import tracker
from lab_core.configs import BaseConfigs, computed

__all__ = ["add_model_indicators", "get_device", "get_modules", "store_model_indicators"]


def add_model_indicators(model: torch.nn.Module, model_name: str = "model") -> None:
    """Declare a histogram of each parameter and of its gradient."""
    with tracker.namespace(model_name):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                tracker.set_histogram(name)
                tracker.set_histogram(f"{name}.grad")


def store_model_indicators(model: torch.nn.Module, model_name: str = "model") -> None:
    """Track the values of each parameter and of its gradient, if it has one."""
    with tracker.namespace(model_name):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                tracker.add(name, parameter)
                if parameter.grad is not None:
                    tracker.add(f"{name}.grad", parameter.grad)


def get_modules(
    configs: BaseConfigs,
) -> Mapping[str, torch.nn.Module | torch.optim.Optimizer]:
    """Return the models and optimizers among the items computed so far, by key."""
    kinds = (torch.nn.Module, torch.optim.Optimizer)
    return {key: value for key, value in computed(configs).items() if isinstance(value, kinds)}


def get_device(module: torch.nn.Module) -> torch.device:
    """Return the device of a model's parameters.

    Raises:
        ValueError: If it has no parameters, or they are on several devices.
    """
    devices = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if len(devices) != 1:
        found = ", ".join(sorted(map(str, devices))) or "none: it has no parameters"
        raise ValueError(f"{type(module).__name__} is not on one device but on {found}")
    return devices.pop()
