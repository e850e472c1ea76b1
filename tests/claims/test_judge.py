from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from grip_core.claims.judge import judge
from grip_core.claims.results import Result, comparison_table, ledger_table
from grip_core.claims.schema import Claims
from grip_core.evaluation.tables import collect_scores
from grip_core.statistics.intervals import paired_difference
from tests.claims.answers import BUDGETS, CLAIMS, N_VISUAL, against, answers, claims, costs, swapped

BEATS = claims(beats_every=CLAIMS["beats_every"])
FRONT = claims(dominates=[against("heuristics", share=1.0)])
SPEED = claims(faster=[against("heuristics", "full", saving=0.15, margin=0.05, settings=["here"])])
UNSEEN = claims(
    not_worse=[
        {
            "name": "it",
            "words": "one scorer serves all",
            "figure": "difference",
            "pairs": [{"method": "grip", "other": "only_2", "k": 2}, {"method": "grip", "other": "norm", "k": 4}],
            "margin": 0.1,
        }
    ]
)
EVEN = {"full": 1.0, "grip": 1.0, "random": 1.0, "norm": 1.0}


def verdict(book: Claims, rows: pd.DataFrame, table: pd.DataFrame | None = None, stale: tuple = ()) -> Result:
    [result] = judge(book, rows, table, book.settings[0], 0.95, stale)
    return result


# Better than every peer


def test_a_method_that_beats_all_supports_and_the_swapped_answers_contradict():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.5}, {"grip": 3, "random": 3})
    found = verdict(BEATS, rows).finding
    assert (found.verdict, found.other, found.k) == ("supported", "norm", "2, 4")
    assert found.low > 0
    swap = verdict(BEATS, swapped(rows, "grip", "norm")).finding
    assert (swap.verdict, swap.other) == ("contradicted", "norm")
    assert (swap.effect, swap.low, swap.high) == pytest.approx((-found.effect, -found.high, -found.low))


def test_one_equal_peer_among_beaten_ones_is_undecided():
    found = verdict(BEATS, answers({"grip": 0.8, "random": 0.2, "norm": 0.8})).finding
    assert (found.verdict, found.other) == ("undecided", "norm")
    assert found.low < 0 < found.high


def test_the_same_answers_decide_nothing():
    rows = answers({"grip": 0.6, "random": 0.4})
    same = rows[rows["method"] == "grip"].assign(method="norm")
    found = verdict(BEATS, pd.concat([rows, same])).finding
    assert (found.verdict, found.effect, found.p_value) == ("undecided", 0.0, 1.0)


def test_effects_are_paired_differences_over_the_small_budgets():
    rows = answers({"grip": 0.7, "random": 0.4, "norm": 0.55}, {"grip": 2})
    [first, second] = verdict(BEATS, rows).finding.comparisons
    for item in (first, second):
        own, other = (collect_scores(rows, name, [2, 4]) for name in ("grip", item.other))
        by_hand = paired_difference(own.score_SE, other.score_SE, own.image_E, own.benchmark_E, 0.95)
        assert (item.effect, item.low, item.high, item.n) == pytest.approx(
            (by_hand.effect, by_hand.low, by_hand.high, by_hand.n)
        )
    assert max(first.p_holm, second.p_holm) >= max(first.p_value, second.p_value)


def test_the_threshold_is_what_has_to_be_exceeded():
    rows = answers({"grip": 0.8, "norm": 0.5})
    for threshold, said in ((0.1, "supported"), (0.3, "undecided"), (0.6, "contradicted")):
        assert (
            verdict(claims(beats_every=[against("norm", share=0.25, threshold=threshold)]), rows).finding.verdict
            == said
        )


def test_losing_to_one_of_many_is_corrected_for_how_many_there_are():
    """The same loss, just significant by itself, contradicts alone, and among many equals no more."""
    rows = answers({"grip": 0.6, "norm": 0.66}, seed=3)
    alone = verdict(claims(beats_every=[against("norm", share=0.25, threshold=0.0)]), rows).finding
    assert alone.verdict == "contradicted"
    assert 0.05 / 20 < alone.p_value < 0.05
    names = [f"m{i}" for i in range(20)]
    equals = [rows[rows["method"] == "grip"].assign(method=name) for name in names]
    many = claims(beats_every=[against("norm", *names, share=0.25, threshold=0.0)])
    found = verdict(many, pd.concat([rows, *equals])).finding
    assert found.verdict == "undecided"
    assert next(item for item in found.comparisons if item.other == "norm").p_holm == pytest.approx(
        min(1.0, 21 * alone.p_value)
    )


# Non-inferiority


def test_within_the_margin_supports_and_far_below_contradicts():
    even = {"grip": 0.7, "norm": 0.7}
    on_the_margin = verdict(UNSEEN, answers(even | {"only_2": {2: 0.8}})).finding
    assert (on_the_margin.verdict, on_the_margin.p_value) == ("undecided", 1.0)
    above = verdict(UNSEEN, answers({"grip": 0.8, "norm": 0.75, "only_2": {2: 0.75}})).finding
    assert (above.verdict, above.p_value < 0.05) == ("supported", True)
    below = verdict(UNSEEN, answers(even | {"only_2": {2: 0.95}})).finding
    assert (below.verdict, below.other, below.k) == ("contradicted", "only_2", "2")


# Pareto front


def test_the_front_of_a_better_and_cheaper_method_dominates_and_swapped_it_does_not():
    rows = answers({"grip": {2: 0.6, 4: 0.75, 8: 0.9}, "random": 0.3, "norm": {2: 0.3, 4: 0.4, 8: 0.5}})
    found = verdict(FRONT, rows, costs(EVEN)).finding
    assert (found.verdict, found.other) == ("supported", "front of all peers")
    assert len(found.comparisons) == 1 + len(BUDGETS) * 2
    swap = verdict(FRONT, swapped(rows, "grip", "norm"), costs(EVEN)).finding
    assert (swap.verdict, swap.other) == ("contradicted", "norm")


def test_the_hypervolume_of_flat_curves_is_their_difference():
    found = verdict(FRONT, answers({"grip": 0.8, "random": 0.3, "norm": 0.5}), costs(EVEN)).finding
    assert found.effect == pytest.approx(0.3)


def test_one_lost_budget_contradicts_a_larger_hypervolume():
    rows = answers({"grip": {2: 0.3, 4: 0.9, 8: 0.9}, "random": 0.2, "norm": {2: 0.6, 4: 0.6, 8: 0.6}})
    found = verdict(FRONT, rows, costs(EVEN)).finding
    assert (found.verdict, found.other, found.k) == ("contradicted", "norm", "2")
    assert found.comparisons[0].effect > 0


def test_a_peer_inside_the_model_counts_at_its_true_cost():
    """As accurate as grip would be with twice the tokens, but as dear as well: nothing is lost to it."""
    rows = answers({"grip": {2: 0.5, 4: 0.7, 8: 0.9}, "random": 0.2, "norm": {2: 0.7, 4: 0.9, 8: 0.9}})
    at_equal_k = verdict(FRONT, rows, costs(EVEN)).finding
    assert at_equal_k.verdict == "contradicted"
    dear = verdict(FRONT, rows, costs(EVEN | {"norm": 2.5})).finding
    assert {(item.other, item.k) for item in dear.comparisons if item.other == "norm"} == set()
    assert dear.verdict == "supported"
    middling = verdict(FRONT, rows, costs(EVEN | {"norm": 1.4})).finding
    assert {item.k for item in middling.comparisons if item.other == "norm"} == {"8 against 4"}


# Time


def curves(grip: dict, other: dict) -> pd.DataFrame:
    return answers({"grip": grip, "random": other, "norm": other})


SLOW, FAST = {2: 0.4, 4: 0.5, 8: 0.6}, {2: 0.95, 4: 0.97, 8: 0.99}


def test_fewer_tokens_at_equal_accuracy_save_their_time():
    rows = curves(FAST, SLOW)
    found = verdict(SPEED, rows, costs(EVEN)).finding
    by_name = {item.other: item for item in found.comparisons}
    # Every budget of grip's is enough, and 2 is the smallest; the unpruned model reads 16.
    assert by_name["full"].effect == pytest.approx(1 - (4 + 2) / (4 + N_VISUAL))
    assert (found.verdict, found.low > 0.15) == ("supported", True)
    swap = verdict(SPEED, swapped(rows, "grip", "norm"), costs(EVEN)).finding
    assert (swap.verdict, swap.other) == ("contradicted", "norm")
    assert swap.effect < 0


def test_the_time_of_choosing_tokens_counts():
    slow = {"full": 1.0, "grip": 3.2, "random": 1.0, "norm": 1.0}
    found = verdict(SPEED, curves(FAST, SLOW), costs(EVEN, slow)).finding
    by_name = {item.other: item for item in found.comparisons}
    assert by_name["full"].effect == pytest.approx(1 - 3.2 * (4 + 2) / (4 + N_VISUAL))
    # Grip's smallest budget was already enough, so how much it saves at most is open.
    assert (by_name["full"].verdict, by_name["full"].high) == ("undecided", 1.0)


def test_a_peer_that_needs_less_than_was_measured_leaves_the_saving_open():
    found = verdict(SPEED, curves(FAST, FAST), costs(EVEN, EVEN | {"grip": 0.2})).finding
    assert (found.verdict, found.low) == ("undecided", -math.inf)


def test_where_times_do_not_count_the_saving_is_only_described():
    book = claims(faster=[against("heuristics", "full", saving=0.15, margin=0.05, settings=["paper"])])
    judged, described = (verdict(item, curves(FAST, SLOW), costs(EVEN)).finding for item in (SPEED, book))
    assert described.verdict == "not run"
    assert described.reason == "times count on Big only"
    assert replace(described, verdict=judged.verdict, reason="") == judged


# What is missing


def test_a_missing_peer_is_named_and_what_there_is_is_described():
    found = verdict(BEATS, answers({"grip": 0.8, "random": 0.4})).finding
    assert (found.verdict, found.reason) == ("not run", "there are no answers of norm")
    assert [item.other for item in found.comparisons] == ["random"]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (answers({"random": 0.4, "norm": 0.4}), "there are no answers of grip"),
        (answers({"grip": 0.8, "random": 0.4, "norm": {2: 0.4}}), "there are no answers of norm at k = 4"),
        (answers({"grip": {8: 0.8}, "random": 0.4, "norm": 0.4}), "grip has answers at k = 8 only"),
        (answers({"grip": 0.8, "random": 0.4, "norm": 0.4}).query("method != 'full'"), "there are no answers of full"),
        (
            answers({"grip": 0.8, "random": 0.4, "norm": 0.4}).query("method != 'norm' or benchmark == 'one'"),
            "there are no answers of norm to two",
        ),
        (
            answers({"grip": 0.8, "random": 0.4, "norm": 0.4}).query("method != 'norm' or image_id != 3"),
            "grip and norm did not answer the same questions",
        ),
        (
            answers({"grip": 0.8, "random": 0.4, "norm": 0.4}).query("benchmark == 'one'"),
            "there are no answers of Model M to two",
        ),
        (
            answers({"grip": 0.8, "random": 0.4, "norm": 0.4}, {"norm": 2}).query(
                "method != 'norm' or seed == 0 or image_id != 3"
            ),
            "norm does not have one row for every example, seed and budget of [2, 4]",
        ),
    ],
)
def test_what_is_missing_is_said(rows, reason):
    found = verdict(BEATS, rows).finding
    assert (found.verdict, found.reason) == ("not run", reason)


@pytest.mark.parametrize(("book", "column"), [(FRONT, "flops"), (SPEED, "seconds")])
def test_missing_costs_are_said(book, column):
    rows, table = curves(FAST, SLOW), costs(EVEN)
    unknown = table.assign(**{column: table[column].where(table["method"] != "norm")})
    for given, reason in (
        (None, "there are no measured costs"),
        (unknown, f"there are no {column} of norm"),
        (table.query("method != 'norm'"), f"there are no {column} of norm"),
    ):
        found = verdict(book, rows, given).finding
        assert (found.verdict, found.reason) == ("not run", reason)
    assert verdict(FRONT, rows, table.query("method != 'norm' or k != 4")).finding.reason == (
        "there are no flops of norm at k = 4"
    )


def test_times_may_be_measured_at_fewer_budgets_than_answers():
    """They are straight in k here, so that nothing is lost."""
    rows, table = curves(SLOW, SLOW), costs(EVEN, EVEN | {"norm": 1.1, "random": 1.2})
    few = table.assign(seconds=table["seconds"].where(table["k"] != 4))
    assert verdict(SPEED, rows, few).finding.effect == pytest.approx(verdict(SPEED, rows, table).finding.effect)


def test_arms_cost_what_grip_does():
    rows = answers({"grip": 0.8, "gumbel": 0.4})
    book = claims(dominates=[against("gumbel", share=1.0)])
    found = verdict(book, rows, costs({"full": 1.0, "grip": 1.0})).finding
    assert (found.verdict, {item.k for item in found.comparisons}) == ("supported", {"all", "2", "4", "8"})


def test_another_model_and_its_benchmarks_are_not_run():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.5})
    [result] = judge(BEATS, rows, None, BEATS.settings[1], 0.95, [])
    assert (result.finding.verdict, result.finding.reason) == ("not run", "there are no answers of Big to pope")
    both = pd.concat([rows, swapped(rows, "grip", "norm").assign(model="big")])  # another model's answers do not count
    assert verdict(BEATS, both).finding == verdict(BEATS, rows).finding


def test_rows_without_their_columns_are_refused():
    with pytest.raises(ValueError, match="lack model"):
        verdict(BEATS, answers({"grip": 0.8}).drop(columns="model"))
    with pytest.raises(ValueError, match="one row a method and budget"):
        verdict(FRONT, answers({"grip": 0.8}), pd.concat([costs(EVEN)] * 2))


def test_categories_as_exports_hold_them_change_nothing():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.5, "gumbel": 0.5})
    columns = dict.fromkeys(("benchmark", "example_id", "method"), "category")
    assert verdict(BEATS, rows.astype(columns)).finding == verdict(BEATS, rows).finding


def test_only_what_rests_on_arms_is_stale():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.4, "only_2": {2: 0.5}})
    assert verdict(BEATS, rows, stale=("grpo.steps",)).stale == ()
    assert verdict(UNSEEN, rows, stale=("grpo.steps",)).stale == ("grpo.steps",)


# Tables


def test_tables_have_a_row_a_claim_and_a_row_a_comparison():
    rows = answers({"grip": 0.8, "random": 0.4, "norm": 0.5})
    book = claims(
        beats_every=CLAIMS["beats_every"], faster=[against("norm", saving=0.1, margin=0.1, settings=["here"])]
    )
    results = judge(book, rows, None, book.settings[0], 0.95, [])
    table = ledger_table(results).set_index("claim")
    assert table["verdict"].to_dict() == {"beats": "supported", "it": "not run"}
    assert table.loc["beats", ["setting", "model", "unit", "bar", "n", "stale"]].tolist() == [
        "here",
        "Model M",
        "accuracy",
        0.0,
        80,
        "",
    ]
    made = comparison_table(results)
    assert made["other"].tolist() == ["random", "norm"]
    assert (made["claim"] == "beats").all()
    assert comparison_table([]).columns.tolist() == made.columns.tolist()
