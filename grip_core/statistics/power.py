"""What so many seeds can show: the power of the paired t test, after Cohen 1988 (Statistical Power Analysis, ch. 2).

`sd` is that of the differences between two arms, seed by seed. Where seeds of two arms share nothing it is sqrt(2)
times the spread of one arm's seeds, and the result is on the safe side of what independent arms show, whose test has
2 (seeds - 1) degrees of freedom.
"""

from __future__ import annotations

import math

from scipy import optimize, special


def paired_power(difference: float, sd: float, seeds: int, alpha: float) -> float:
    """Probability that the two-sided t test of `seeds` paired differences finds a true mean of `difference`, > 0.

    With noncentrality difference sqrt(seeds) / sd: P(|T'| > t(1 - alpha / 2)), which is alpha at no difference.
    """
    return _power(difference * seeds**0.5 / sd, seeds, alpha)


def detectable_difference(sd: float, seeds: int, power: float, alpha: float) -> float:
    """The smallest true difference found with probability `power`, in sd's unit. Smaller ones are likely missed, so a
    study that shows none says nothing of them. Raises ValueError below two seeds, or unless alpha < power < 1."""
    _check(power, alpha)
    if seeds < 2:
        raise ValueError(f"a spread needs at least two seeds, but got {seeds}")
    upper = 1.0
    while _power(upper, seeds, alpha) < power:
        upper *= 2
    return optimize.brentq(lambda shift: _power(shift, seeds, alpha) - power, 0.0, upper) * sd / seeds**0.5


def seeds_needed(difference: float, sd: float, power: float, alpha: float) -> int:
    """The fewest seeds, two or more, that find a true difference with probability `power`. Raises ValueError unless
    difference and sd are positive, sd finite, and alpha < power < 1."""
    _check(power, alpha)
    if not (difference > 0 and 0 < sd < math.inf):
        raise ValueError(f"the difference and its spread must be positive and finite, but got {difference} and {sd}")
    enough = 2
    while paired_power(difference, sd, enough, alpha) < power:
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:  # power rises with seeds
        middle = (enough + too_few) // 2
        if paired_power(difference, sd, middle, alpha) < power:
            too_few = middle
        else:
            enough = middle
    return enough


def _power(shift: float, seeds: int, alpha: float) -> float:
    df = seeds - 1
    # The square of T' has a noncentral F distribution: both tails in one, and finite where the far one underflows.
    return float(1 - special.ncfdtr(1, df, shift**2, special.stdtrit(df, alpha / 2) ** 2))


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise ValueError(f"power must lie between alpha and 1, but got power {power} and alpha {alpha}")
