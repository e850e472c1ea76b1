from __future__ import annotations

import base64
import re
from html import unescape

import pandas as pd
import pytest

from grip_core.evaluation.headline import headline, headline_differences
from grip_core.evaluation.summary import summary_table
from grip_core.evaluation.tables import interval_table
from grip_core.figures.report import Findings, Picture, benchmark_grid, render_report, tiles
from tests.answers import make_rows

PICTURES = {
    name: Picture(f"<svg>{name}</svg>".encode(), "svg", f"alt of {name}")
    for name in (
        "claims", "pareto", "difference", "cost", "time", "profiles", "curves", "schedules",
        "keep_maps", "shrinking", "methods_by_budgets", "heat", "coverage", "published",
    )
}  # fmt: skip
CLAIMS = pd.DataFrame(
    [("not run", "Not run on a large model: it is fast."), ("supported", "Supported here: it is good.")],
    columns=["verdict", "sentence"],
)
ENVIRONMENT = {"Inputs": {"VLM (SHA-256)": "abc123"}, "This report": {"packages": "torch 2 < 3"}}


@pytest.fixture
def findings(numbers, table, rows) -> Findings:
    return Findings(numbers, table, summary_table(rows, None, [2, 4], 0.95), CLAIMS)


@pytest.fixture
def html(findings) -> str:
    return render_report(findings, PICTURES, ENVIRONMENT)


def test_everything_is_there(html, numbers):
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
    assert numbers["verdict"].split(". ")[0] in text
    assert "GRIP answers" in text
    assert "abc123" in text
    assert "torch 2 < 3" in text
    assert "3 comparisons" in text
    for picture in PICTURES.values():
        assert base64.b64encode(picture.data).decode() in html
        assert picture.alt in html
    for heading in ("Mean over benchmarks", "one", "two"):
        assert f"<h3>{heading}</h3>" in html


def test_claims_that_were_judged_come_first(html):
    assert html.index("Supported here") < html.index("Not run on a large model")


def test_costs_may_be_missing(findings):
    pictures = {name: picture for name, picture in PICTURES.items() if name not in ("cost", "time")}
    assert "No costs were measured" in render_report(findings, pictures, ENVIRONMENT)


def test_needs_nothing_else(html):
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_links_and_sections_match(html):
    links = re.findall(r'href="#(\w+)"', html)
    assert links == re.findall(r'<section id="(\w+)"', html)


def test_best_of_each_column_is_bold(table):
    grid = benchmark_grid(table, "one")
    assert grid.budgets == [2, 4, 8]
    assert [name for name, _ in grid.rows] == ["GRIP", "Warm-up only", "Random", "Token norm"]
    best = {name: [cell.best for cell in cells] for name, cells in grid.rows}
    assert best == {"GRIP": [False] * 3, "Warm-up only": [False] * 3, "Random": [False] * 3, "Token norm": [True] * 3}
    assert dict(grid.rows)["Token norm"][0].mean == "90.0"
    assert (grid.full.mean, grid.no_image.mean) == ("100.0", "25.0")


def test_tiles_name_the_best_baseline_and_the_way_from_no_image(numbers):
    values = {name: value for value, name, _ in tiles(numbers)}
    assert values["Token norm"] == "90.0%"
    assert values["Warm-up only"] == "60.0%"
    span = (numbers["accuracy"]["grip"] - 0.25) / 0.75
    assert values["of the image's worth"] == f"{span:.0%}"


@pytest.mark.parametrize(
    ("grip", "said"),
    [(0.9, "GRIP beats the warm-up"), (0.5, "GRIP loses to the warm-up"), (0.7, "shows no clear effect")],
)
def test_flipped_data_flip_the_words(grip, said):
    rows = make_rows({"grip": grip, "warmup": 0.7, "random": 0.3})
    numbers = headline(rows, headline_differences(rows, 0.25, 0.95), 0.25, 0.95) | {"training": {}}
    findings = Findings(numbers, interval_table(rows, 0.95), summary_table(rows, None, [2, 4], 0.95), CLAIMS)
    html = render_report(findings, PICTURES, ENVIRONMENT)
    first = re.search(r'<ul class="verdicts">\s*<li>(.*?)</li>', html, re.DOTALL)
    assert first is not None
    assert said in first[1]


def test_runs_are_summed_up_in_words(html):
    assert "90% of the training questions carry a signal and were used; rank correlation of reward" in html
    assert "the reward rose while validation accuracy fell; no collapse" in html
    assert "collapsed (kl at step 7)" in html
