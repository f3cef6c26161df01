"""The training service: takes config messages, trains in processes of their own, streams every step."""

__version__ = "0.1.0"
