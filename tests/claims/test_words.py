from __future__ import annotations

import pandas as pd

from grip_core.claims.judge import judge
from grip_core.claims.words import sentence
from tests.claims.answers import CLAIMS, against, answers, claims, costs

BEATS = claims(beats_every=CLAIMS["beats_every"])


def said(book, rows: pd.DataFrame, table: pd.DataFrame | None = None, setting: int = 0, stale=()) -> str:
    [result] = judge(book, rows, table, book.settings[setting], 0.95, stale)
    return sentence(result)


def test_a_verdict_names_model_benchmarks_and_what_decides():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.5})
    [result] = judge(BEATS, rows, None, BEATS.settings[0], 0.95, [])
    low, high = (f"{100 * bound:+.1f}" for bound in (result.finding.low, result.finding.high))
    assert sentence(result) == (
        "Supported on Model M (one and two): GRIP beats heuristics; what decides it is GRIP against Token norm at "
        f"k = 2, 4 (+30.0 points, [{low}, {high}]). One seed tells of this checkpoint alone, not of training by GRPO."
    )
    assert "One seed" not in said(BEATS, answers({"grip": 0.8, "random": 0.4, "norm": 0.5}, {"grip": 2}))


def test_what_is_not_run_says_why_and_what_there_is():
    assert said(BEATS, answers({"grip": 0.8}), setting=1) == (
        "Not run on Big (POPE): GRIP beats heuristics; there are no answers of Big to pope."
    )
    partly = said(BEATS, answers({"grip": 0.8, "random": 0.4}))
    assert partly.startswith("Not run on Model M (one and two): GRIP beats heuristics; there are no answers of norm. ")
    assert "It describes, and decides nothing: GRIP against Random at k = 2, 4 (+40.0 points" in partly


def test_times_and_stale_arms_are_said_so():
    book = claims(faster=[against("gumbel", saving=0.1, margin=0.1, settings=["here"])])
    rows = answers({"grip": 0.85, "gumbel": {2: 0.4, 4: 0.5, 8: 0.9}})
    text = said(book, rows, costs({"full": 1.0, "grip": 1.0}), stale=["a", "b", "c", "d", "e"])
    assert "% of the time, [" in text
    assert text.endswith(" Its exported answers are stale, for these have changed: a, b, c and 2 more.")
