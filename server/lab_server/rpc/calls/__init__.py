"""What every call passes through: who may call, limits, errors as statuses, counts, the log."""
