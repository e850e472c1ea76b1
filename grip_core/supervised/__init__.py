"""Supervised baselines: the scorer trained through a relaxation of the selection."""
