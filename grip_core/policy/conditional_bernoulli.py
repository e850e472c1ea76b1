"""Conditional Bernoulli: sets of exactly k tokens, each with probability proportional to exp(the sum of its scores).

The normaliser is log e_k, the k-th elementary symmetric polynomial of exp(scores). Adding a constant to all scores
changes no probability; the one added here makes independent picks of probability p = sigmoid(logit) keep k tokens on
average. Then e_k is prod (1 + exp(logit)) * P(X = k), X the number of independent picks, and P(X = k) is at least about
1 / sqrt(2 pi var X): neither over- nor underflow is near, whatever the scores, without a logarithm in any recursion.

P(X = k) is a coefficient of a polynomial, hence an integral over a circle, whose trapezoid rule is exact but for
aliases (Hong 2013, "On computing the distribution function for the Poisson binomial distribution"; the radius, here the
added constant, is the saddle point's, after Bornemann 2011, "Accuracy and stability of computing high-order derivatives
of analytic functions by Cauchy integrals"):
    P(X = k) = 1/M sum_m u_m^-k prod_i (1 - p_i + p_i u_m),   u_m = exp(2 pi i m / M),  minus  P(X = k +- M) and so on.
M ~ sqrt(N) angles put the aliases below float64's precision, so the cost is O(N sqrt(N)) and nothing is sequential,
where the usual recursion over tokens is O(N k) and N steps long.

Shape legend as in distribution.py; Q angles, of which the conjugate half is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch.nn import functional as F

from grip_core.policy.set_distribution import SetDistribution, softplus

SATURATED = 80.0  # a gap in the scores across which, from its middle, probabilities are 0 and 1 up to exp(-40)
HALVINGS = 16  # of a bracket of at most 2 log(N) around the added constant: more changes no digit of the results
TAIL = 44.0  # aliases are at most 2 exp(-TAIL) = 2e-19


class ConditionalBernoulli(SetDistribution):
    """See SelectionDistribution."""

    name = "conditional_bernoulli"

    @property
    def logits_BN(self) -> torch.Tensor:
        return self.scores_BN.double() + self._shift_B1

    @cached_property
    def _shift_B1(self) -> torch.Tensor:
        return balance(self.scores_BN.detach().double(), self.k_B)

    def log_normaliser(self) -> torch.Tensor:
        return _LogNormaliser.apply(self.logits_BN, self.k_B)

    def marginals(self) -> torch.Tensor:
        return _marginals(self.logits_BN, self.k_B)

    def keep(self, group_size: int, generator: torch.Generator) -> torch.Tensor:
        logits_BN, k_B = self.logits_BN.detach().cpu(), self.k_B.cpu()
        batch, n = logits_BN.shape
        return draw(logits_BN, k_B, torch.rand(batch, group_size, n, generator=generator, dtype=torch.float64))


def balance(scores_BN: torch.Tensor, k_B: torch.Tensor) -> torch.Tensor:
    """The constant (B, 1) to add to the scores so that sigmoid(scores) sums to k, nearly; by halving a bracket.

    At the root the best k tokens lack as much of 1 as the others exceed 0. With the middle between the scores k and
    k + 1 at zero, the lack is between 1 and k times that of score k, the excess between 1 and n - k times that of score
    k + 1: they can only balance within [-log 2(n - k), log 2k], however wide the gap. Where it is wide, or no token is
    left, anything near the middle will do.
    """
    k_B1 = k_B[:, None]
    left_B1 = (scores_BN > float("-inf")).sum(1, keepdim=True) - k_B1
    ranked_BN = F.pad(scores_BN.sort(dim=1, descending=True).values, (0, 1), value=float("-inf"))
    last_B1, next_B1 = ranked_BN.gather(1, k_B1 - 1), ranked_BN.gather(1, k_B1)
    middle_B1 = last_B1 - (last_B1 - next_B1).clamp_max(SATURATED) / 2
    low_B1 = -middle_B1 - (2.0 * left_B1.clamp_min(1)).log()
    high_B1 = -middle_B1 + (2.0 * k_B1).log()
    for _ in range(HALVINGS):
        half_B1 = (low_B1 + high_B1) / 2
        above_B1 = (scores_BN + half_B1).sigmoid().sum(1, keepdim=True) > k_B1
        low_B1, high_B1 = torch.where(above_B1, low_B1, half_B1), torch.where(above_B1, half_B1, high_B1)
    return (low_B1 + high_B1) / 2


@dataclass(frozen=True)
class _Circle:
    """The trapezoid rule of P(X = k) at the logits of the module's docstring."""

    p_BN: torch.Tensor
    u_Q: torch.Tensor
    factors_BNQ: torch.Tensor
    """1 - p + p u."""
    terms_BQ: torch.Tensor
    """u^-k times the product of the factors."""
    angles: int
    """M, the conjugate half counted."""

    @classmethod
    def at(cls, logits_BN: torch.Tensor, k_B: torch.Tensor) -> Self:
        p_BN = logits_BN.sigmoid()
        variance = float((p_BN * (1.0 - p_BN)).detach().sum(1).max())
        # Bernstein's inequality: P(|X - k| >= M) <= 2 exp(-TAIL). X is at most N: N + 1 angles have no alias.
        needed = min(TAIL / 3 + math.sqrt(TAIL**2 / 9 + 2 * TAIL * variance), p_BN.shape[1] + 1)
        half = math.ceil((needed - 1) / 2)
        angles = 2 * half + 1  # odd, so that none is at -1, where a factor of p = 1/2 would be zero
        step_Q = torch.arange(1, half + 1, device=p_BN.device)
        u_Q = _unit(step_Q, angles)
        factors_BNQ = p_BN[..., None] * (u_Q - 1.0) + 1.0
        terms_BQ = factors_BNQ.prod(1) * _unit(-k_B[:, None] * step_Q, angles)
        return cls(p_BN, u_Q, factors_BNQ, terms_BQ, angles)

    def sum_B(self) -> torch.Tensor:
        """M P(X = k): the term at angle 0, which is 1, and the others with their conjugates."""
        return 1.0 + 2.0 * self.terms_BQ.real.sum(1)


def _unit(steps: torch.Tensor, angles: int) -> torch.Tensor:
    """exp(2 pi i steps / angles), complex128."""
    angle = (steps % angles).double() * (2 * math.pi / angles)
    return torch.polar(torch.ones_like(angle), angle)


def _marginals(logits_BN: torch.Tensor, k_B: torch.Tensor) -> torch.Tensor:
    """p_i P(k - 1 of the others are kept) / P(X = k): the same rule, with the token's own factor divided out."""
    circle = _Circle.at(logits_BN, k_B)
    others_BN1 = circle.factors_BNQ.reciprocal() @ (circle.terms_BQ * circle.u_Q)[..., None]
    return circle.p_BN * (1.0 + 2.0 * others_BN1[..., 0].real) / circle.sum_B()[:, None]


class _LogNormaliser(torch.autograd.Function):
    """Its gradient is the marginals, which are differentiable in turn. Computed anew, they hold no memory till then."""

    @staticmethod
    def forward(ctx, logits_BN: torch.Tensor, k_B: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits_BN, k_B)
        circle = _Circle.at(logits_BN, k_B)
        return softplus(logits_BN).sum(1) + (circle.sum_B() / circle.angles).log()

    @staticmethod
    def backward(ctx, gradient_B: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient_B[:, None] * _marginals(*ctx.saved_tensors), None


def draw(logits_BN: torch.Tensor, k_B: torch.Tensor, uniform_BGN: torch.Tensor) -> torch.Tensor:
    """Which tokens are kept, (B, G, N), distributed exactly (Chen & Liu 1997, "Statistical applications of the
    Poisson-binomial and conditional Bernoulli distributions"; their ID-checking, from the last token to the first).

    With r tokens still to keep, token i is kept with probability p_i P(X_i-1 = r - 1) / P(X_i = r), where X_i is the
    number of independent picks among the first i. Their distributions take N sequential steps; every sqrt(N)-th is
    stored and those between are computed again, for all of them would take B N K numbers. C counts 0 .. K.
    """
    group, n = uniform_BGN.shape[1:]
    p_NB1, q_NB1 = logits_BN.T.sigmoid()[..., None], (-logits_BN.T).sigmoid()[..., None]
    block = math.isqrt(n)
    sizes_BC = F.one_hot(torch.zeros_like(k_B), int(k_B.max()) + 1).double()
    stored = []
    for i in range(n):
        if i % block == 0:
            stored.append(sizes_BC)
        sizes_BC = _one_more(sizes_BC, p_NB1[i], q_NB1[i])

    uniform_NBG = uniform_BGN.permute(2, 0, 1).contiguous()
    kept_NBG = torch.empty(uniform_NBG.shape, dtype=torch.bool)
    rest_BG = k_B[:, None].repeat(1, group)
    for start in reversed(range(0, n, block)):
        stages = [stored.pop()]
        for p_B1, q_B1 in zip(p_NB1[start : start + block], q_NB1[start : start + block], strict=True):
            stages.append(_one_more(stages[-1], p_B1, q_B1))
        stages_IBC = torch.stack(stages)
        # 0 / 0, not a number and so never above a draw, only where a state cannot be reached.
        ratio_IBC = F.pad(stages_IBC[:-1, :, :-1], (1, 0)) * p_NB1[start : start + block] / stages_IBC[1:]
        for i in reversed(range(len(ratio_IBC))):
            kept_NBG[start + i] = uniform_NBG[start + i] < ratio_IBC[i].gather(1, rest_BG)
            rest_BG = rest_BG - kept_NBG[start + i].long()
    return kept_NBG.permute(1, 2, 0)


def _one_more(sizes_BC: torch.Tensor, p_B1: torch.Tensor, q_B1: torch.Tensor) -> torch.Tensor:
    """The distribution of the number kept, with one more token, kept with probability p = 1 - q."""
    more_BC = sizes_BC * q_B1
    more_BC[:, 1:].addcmul_(sizes_BC[:, :-1], p_B1)
    return more_BC
