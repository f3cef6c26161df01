"""Where trainers run."""

from lab_server.executors.base import Executor, ExperimentEntry, LaunchSpec, Slot, Usage

__all__ = ["Executor", "ExperimentEntry", "LaunchSpec", "Slot", "Usage"]
