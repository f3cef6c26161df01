"""Where trainers run."""

from lab_server.executors.base import ExperimentEntry, Executor, LaunchSpec, Slot

__all__ = ["Executor", "ExperimentEntry", "LaunchSpec", "Slot"]
