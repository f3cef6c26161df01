"""Where trainers run."""

from lab_server.executors.protocol import Executor, ExperimentEntry, LaunchSpec, Slot, Usage

__all__ = ["Executor", "ExperimentEntry", "LaunchSpec", "Slot", "Usage"]
