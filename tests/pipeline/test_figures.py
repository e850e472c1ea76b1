from __future__ import annotations

from grip_core.evaluation.headline import headline_differences
from pipeline.figures import choose_examples, order_methods
from tests.answers import make_rows


def test_examples_need_the_image_and_alternate_between_benchmarks():
    rows = make_rows({"grip": 0.0, "warmup": 0.5})
    chosen = choose_examples(rows, 6)
    assert chosen == choose_examples(rows.sample(frac=1, random_state=0), 6)
    assert [example.split("-")[0] for example in chosen] == ["one", "two"] * 3
    blind = rows[(rows["method"] == "no_image") & rows["correct"]]["example_id"]
    assert not set(chosen) & set(blind)


def test_what_pruning_makes_of_an_example_plays_no_part():
    lucky, unlucky = (choose_examples(make_rows({"grip": share, "warmup": 0.5}), 6) for share in (1.0, 0.0))
    assert lucky == unlucky


def test_methods_are_ordered_by_the_mean():
    rows = make_rows({"grip": 0.6, "warmup": 0.5, "random": 0.1, "norm": 0.9})
    ordered = order_methods(headline_differences(rows, 0.25, 0.95))
    assert ordered["benchmark"].unique().tolist() == ["mean", "one", "two"]
    for _, part in ordered.groupby("benchmark"):
        assert part["method"].tolist() == ["random", "warmup", "norm"]
