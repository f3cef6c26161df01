"""The training service: takes config messages, trains in processes of their own, streams every step."""

from importlib.metadata import version

__version__ = version("lab-train")  # pyproject.toml is the one place that states it
