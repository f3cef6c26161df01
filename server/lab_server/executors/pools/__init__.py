"""Pools: agents that an engine, Ray or Slurm, starts when runs wait for them."""
