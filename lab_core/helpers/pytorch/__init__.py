"""Config classes for PyTorch."""

from lab_core._packages import require

require("torch")
