"""Budgets of training and of the headline."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chisquare

from grip_core.config import BudgetConfig
from grip_core.errors import UserError
from grip_core.policy.budgets import headline_budgets, sample_budgets

LOW, HIGH, DRAWS = 2, 9, 20_000


@pytest.mark.parametrize("schedule", ["uniform", "log_uniform"])
def test_budgets_come_as_often_as_they_should(schedule):
    """Chi-square against the schedule's own definition."""
    config = BudgetConfig(schedule=schedule, low=LOW, high=HIGH)
    drawn = sample_budgets(config, DRAWS, torch.Generator().manual_seed(0))
    found = torch.bincount(drawn, minlength=HIGH + 1)[LOW:]
    assert found.sum() == DRAWS
    if schedule == "uniform":
        share = [1 / (HIGH - LOW + 1)] * (HIGH - LOW + 1)
    else:
        share = [math.log((k + 1) / k) / math.log((HIGH + 1) / LOW) for k in range(LOW, HIGH + 1)]
    assert chisquare(found.numpy(), [DRAWS * part for part in share]).pvalue > 0.01


def test_one_budget_alone():
    config = BudgetConfig(schedule="log_uniform", low=5, high=5)
    assert sample_budgets(config, 100, torch.Generator().manual_seed(0)).unique().tolist() == [5]


def test_headline_budgets_include_the_share_itself():
    assert headline_budgets([1, 14, 15, 29], 0.29, 100) == [1, 14, 15, 29]
    assert headline_budgets([1, 14, 15], 0.1, 144) == [1, 14]
    with pytest.raises(UserError, match="add a smaller one"):
        headline_budgets([20], 0.1, 144)
