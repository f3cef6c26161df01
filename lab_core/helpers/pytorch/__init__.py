"""Config classes for PyTorch."""
