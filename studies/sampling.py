"""The sampler and the pruner that a definition names."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from studies.definition import ARM, Definition
from studies.settings import Settings


def make_sampler(definition: Definition, number: int) -> BaseSampler:
    """The sampler that proposes the trial of that number: every trial draws from a stream of its own, whichever
    worker asks."""
    config = definition.sampler
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    if config.name in ("random", "grid"):  # a grid's points are queued at the launch: nothing is left to draw
        return RandomSampler(seed=seed)
    # multivariate and group: without them only keys that every trial has are modelled together, and conditional ones
    # are drawn blindly. constant_liar: workers that ask at the same time shall not all be told the same.
    return TPESampler(
        n_startup_trials=config.startup_trials, seed=seed, multivariate=True, group=True, constant_liar=True
    )


def grid_points(definition: Definition) -> list[Settings]:
    """A grid's points up to the budget, in the order that the sampler's seed gives, or the arms in their own; none for
    other samplers.

    Optuna's own grid sampler may give a point to two workers, and ends a study by an exception at its last point.
    """
    if definition.sampler.name != "grid":
        return []
    if definition.arms:
        return [Settings({ARM: name}) for name in definition.arms][: definition.budget.trials]
    points = list(itertools.product(*(dimension.extremes for dimension in definition.space.values())))
    order = np.random.RandomState(definition.sampler.seed).permutation(len(points))
    return [dict(zip(definition.space, points[i])) for i in order[: definition.budget.trials]]


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
