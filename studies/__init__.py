"""Optuna searches over params.yaml, on this machine or on SLURM."""
