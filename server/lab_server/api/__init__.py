"""The HTTP API: each route is an RPC of TrainingService as JSON, with its role, limits and errors."""
