"""Where trainers run."""

from lab_server.executors.base import Executor, ExperimentEntry, LaunchSpec, Slot

__all__ = ["Executor", "ExperimentEntry", "LaunchSpec", "Slot"]
