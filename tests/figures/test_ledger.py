from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from grip_core.claims.judge import judge
from grip_core.claims.results import ledger_table
from grip_core.figures.ledger import LOOKS, ledger
from tests.claims.answers import against, answers, claims, costs

BOOK = claims(
    beats_every=[
        against("random", share=0.25, threshold=0.0) | {"name": "won"},
        against("norm", share=0.25, threshold=0.0) | {"name": "lost"},
        against("gumbel", share=0.25, threshold=0.0) | {"name": "even"},
        against("only_2", share=0.25, threshold=0.0) | {"name": "absent"},
    ],
    faster=[against("full", saving=0.15, margin=0.1, settings=["here"]) | {"name": "faster"}],
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = answers({"grip": {2: 0.5, 4: 0.7, 8: 0.85}, "random": 0.2, "norm": 0.9, "gumbel": 0.6})
    table = costs({"full": 1.0, "grip": 1.0})
    return ledger_table([item for place in BOOK.settings for item in judge(BOOK, rows, table, place, 0.95, ["old"])])


def test_a_panel_a_model_and_unit_with_what_is_not_run_listed(table):
    figure = ledger(table)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == ["Model M: accuracy", "Model M: time", "Big"]
    assert [len(axis.get_yticks()) for axis in figure.axes] == [4, 1, 5]
    assert not figure.axes[2].lines


def test_effects_intervals_and_bars_in_hundredths_with_the_look_of_the_verdict(table):
    figure = ledger(table)
    figure.draw_without_rendering()
    rows = table[(table["setting"] == "here") & (table["unit"] == "accuracy") & table["effect"].notna()]
    axis = figure.axes[0]
    segments = np.array([item.get_segments()[0] for item in axis.collections])
    assert segments[:, :, 0] == pytest.approx(100 * rows[["low", "high"]].to_numpy())
    assert [to_hex(item.get_colors()[0]) for item in axis.collections] == [
        LOOKS[said].color for said in rows["verdict"]
    ]
    dots = [line for line in axis.lines if line.get_marker() != "None"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx((100 * rows["effect"]).tolist())
    assert [line.get_marker() for line in dots] == [LOOKS[said].marker for said in rows["verdict"]]
    bars = [line for line in figure.axes[1].lines if len(set(line.get_xdata())) == 1 and line.get_xdata()[0] == 15.0]
    assert len(bars) == 1


def test_verdicts_are_words_too_and_stale_ones_are_marked(table):
    texts = [item.get_text() for item in ledger(table).axes[0].texts]
    assert texts[::2] == ["✓ supported", "✗ contradicted", "? undecided (stale)", "- not run (stale)"]
    assert texts[-1] == "there are no answers of only_2"


def test_an_open_end_stops_at_the_frame(table):
    part = table[table["claim"] == "faster"].head(1).assign(low=-np.inf)
    axis = ledger(part).axes[0]
    [[start, _]] = axis.collections[0].get_segments()
    assert start[0] == axis.get_xlim()[0]
