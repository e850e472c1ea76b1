"""How much an algorithm owes to being tuned for each environment, after Adkins et al. 2024 (arXiv:2412.07165).

Shape legend: H settings, E environments (here benchmarks at budgets), P hyper-parameters. A score is a setting's mean
over seeds. A maximum over settings collects their noise, so all of this grows with the number of settings and shrinks
with that of seeds: compare algorithms over equally many of both.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

ENOUGH = 0.95  # share of the tuned score that counts as reaching it, as in the paper


def normalize(score_HE: np.ndarray) -> np.ndarray:
    """Scores on the scale of their environment: 0 is its 5th percentile over settings, 1 its 95th.

    To compare algorithms, stack their settings first, so that all are on one scale. Raises ValueError if the two
    percentiles of an environment agree, for then it tells settings apart by nothing.
    """
    low_E, high_E = np.quantile(score_HE, [0.05, 0.95], axis=0)
    if not (high_E > low_E).all():
        raise ValueError(f"every environment needs scores that differ, but got percentiles {low_E} and {high_E}")
    return (score_HE - low_E) / (high_E - low_E)


def sensitivity(score_HE: np.ndarray) -> float:
    """Of normalised scores: mean over environments of the best score, minus the best mean score of one setting.

    0 if one setting is best everywhere; else what is lost, in the scores' unit, by not tuning for each environment.
    """
    return float(score_HE.max(0).mean() - score_HE.mean(1).max())


def tuning_curve(setting_HP: np.ndarray, score_HE: np.ndarray) -> np.ndarray:
    """(P + 1,): the best mean score if 0, 1, ... P hyper-parameters are tuned for each environment.

    The others stay as in the setting of the best mean score (the first of equals). For each number the subset is the
    one that gains most; only settings that were run count, so a design that varies one factor at a time has few.
    `setting_HP` holds any values that can be equal.
    """
    same_HP = setting_HP == setting_HP[score_HE.mean(1).argmax()]
    columns = range(setting_HP.shape[1])
    return np.array(
        [
            max(
                score_HE[np.delete(same_HP, tuned, axis=1).all(1)].max(0).mean()
                for tuned in combinations(columns, count)
            )
            for count in range(len(columns) + 1)
        ]
    )


def effective_dimension(setting_HP: np.ndarray, score_HE: np.ndarray) -> int:
    """The smallest number of hyper-parameters whose tuning reaches 95 % of what tuning all of them does.

    Of normalised scores. Raises ValueError unless the tuned score is positive, since 95 % of it is above it otherwise.
    """
    curve = tuning_curve(setting_HP, score_HE)
    if not curve[-1] > 0:
        raise ValueError(f"the tuned score must be positive, but is {curve[-1]}")
    return int(np.argmax(curve >= ENOUGH * curve[-1]))
