"""Trainers on other machines: the agents, and what each holds."""
