"""What lab keeps under this name."""
