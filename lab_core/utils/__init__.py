"""Utilities, under the name that they have in lab."""
