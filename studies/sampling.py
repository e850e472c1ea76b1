"""The sampler and the pruner that a definition names."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler

from studies.definition import Definition


def make_sampler(definition: Definition, number: int) -> BaseSampler:
    """The sampler that proposes the trial of that number: every trial draws from a stream of its own, whichever
    worker asks."""
    config = definition.sampler
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    if config.name == "random":
        return RandomSampler(seed=seed)
    if config.name == "grid":
        # Its seed is the order of the grid, which all trials must share.
        return GridSampler({key: dimension.extremes for key, dimension in definition.space.items()}, seed=config.seed)
    # multivariate and group: without them only keys that every trial has are modelled together, and conditional ones
    # are drawn blindly. constant_liar: workers that ask at the same time shall not all be told the same.
    return TPESampler(
        n_startup_trials=config.startup_trials, seed=seed, multivariate=True, group=True, constant_liar=True
    )


def make_pruner(definition: Definition) -> BasePruner:
    """The pruner, on an axis of scored selections (Wilcoxon's test: of seeds)."""
    config, compute = definition.pruner, definition.compute
    first = compute.selections // compute.rungs
    if config.name == "successive_halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=config.reduction_factor)
    if config.name == "hyperband":
        return HyperbandPruner(
            min_resource=first, max_resource=compute.selections, reduction_factor=config.reduction_factor
        )
    if config.name == "wilcoxon":
        return WilcoxonPruner(p_threshold=config.p_threshold)
    return NopPruner()


def quiet_optuna() -> None:
    """Leave out its log, for ours says the same, and its notices of experimental features, for it is pinned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
