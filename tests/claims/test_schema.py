from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from grip_core.baselines.registry import known
from grip_core.claims.schema import Claims, load_claims
from grip_core.config import load, parse
from grip_core.errors import UserError
from grip_core.evaluation.evaluate import FULL
from grip_core.evaluation.names import GRIP, WARMUP
from tests.claims.answers import CLAIMS, against

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_claims(ROOT / "claims.yaml")


def test_every_method_of_the_shipped_claims_exists():
    arms = yaml.safe_load((ROOT / "studies/training_principles.yaml").read_text())["arms"]
    assert set(SHIPPED.arms) == set(arms)
    named = {method for claim in SHIPPED.all for method in SHIPPED.methods(claim)}
    assert named <= {GRIP, WARMUP, FULL, *known(), *arms}


def test_no_heuristic_is_left_out():
    assert {*SHIPPED.groups["before_llm"], *SHIPPED.groups["inside_llm"]} == set(known())
    assert set(SHIPPED.groups["inside_llm"]) == {name for name, kind in known().items() if kind.inside}


def test_the_embedded_setting_is_the_pipelines():
    params = load(ROOT / "params.yaml")
    [embedded] = [setting for setting in SHIPPED.settings if setting.name == "embedded"]
    assert (embedded.model, embedded.benchmarks) == (params.vlm.path, params.data.benchmarks)
    shares = {claim.share for claim in SHIPPED.beats_every}
    assert shares == {params.evaluate.headline_share}


def test_groups_stand_for_their_methods():
    book = parse(Claims, CLAIMS | {"dominates": [against("heuristics", "gumbel", share=1.0)]}, "claims")
    [claim] = book.dominates
    assert book.methods(claim) == ["grip", "random", "norm", "gumbel"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"dominates": [against("norm", shares=1.0)]},
            (
                "claims.yaml: dominates[0].share is missing; every key must be given\n"
                "claims.yaml: dominates[0].shares is not a known key, but got 1.0 for it; did you mean share? "
                "known here: figure, method, name, peers, share, words"
            ),
        ),
        (
            {"dominates": [against("norm", share=1.5)]},
            "claims.yaml: dominates[0].share: input should be less than or equal to 1, but got 1.5",
        ),
        (
            {"dominates": [against("norm", share=1.0)] * 2},
            "claims.yaml: names of claims must differ, but got it more than once",
        ),
        (
            {"faster": [against("norm", saving=0.1, margin=0.1, settings=["there"])]},
            "claims.yaml: a claim's settings must be among here, paper, but got there",
        ),
        (
            {"faster": [against("norm", saving=0.1, margin=0.0, settings=["here"])]},
            "claims.yaml: faster[0].margin: input should be greater than 0, but got 0.0",
        ),
        ({"beats": []}, "claims.yaml: beats is not a known key, but got [] for it; did you mean beats_every?"),
    ],
)
def test_a_bad_file_is_told_in_a_line_a_mistake(change, line):
    with pytest.raises(UserError) as caught:
        parse(Claims, CLAIMS | change, "claims.yaml")
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == len(line.splitlines())
