"""Config classes for data sets."""
