"""The page on how stable training is: questions, answers in computed sentences, figures, and a table of all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from grip_core.claims.schema import Stability
from grip_core.claims.stability import Part
from grip_core.figures.arms import arm_label
from grip_core.figures.report import Picture, page
from grip_core.figures.stability_words import (
    NO_ABLATION,
    About,
    Tables,
    budgets_sentences,
    collapse_sentences,
    defaults_sentences,
    own_sentences,
    prevention_sentences,
    seeds_sentences,
    stale_sentence,
    verdict_words,
    warmup_sentences,
)

TEMPLATE = "stability.html.j2"
FOREST, OWN_GAINS = "all-forest", "all-gains"
"""The figures of all ablations; the others are named <ablation>-<figure>."""
NARROW = ("frontier", "importances", "sensitivity")
"""Figures of the width of a column."""
MORE = "Arms that scored more selections than the others, which counts for them: {arms}."
SLACK = 0.02
"""Of the selections that an arm was given: as much more is none."""
RATES = "Arms run at several learning rates count with the one whose accuracy on validation is best: {arms}."


@dataclass(frozen=True)
class Judged:
    """The claim on stability and what came of it."""

    claim: Stability
    verdict: str
    parts: Sequence[Part]


def render_stability(
    tables: Tables, about: About, judged: Judged, pictures: Mapping[str, Picture], confidence: float
) -> str:
    """The page as HTML. `tables` are those of grip_core/evaluation/ablations.py, of all ablations together; `pictures`
    the figures of pipeline/ablation_figures.py by name."""
    if not about:
        return page(TEMPLATE, how=NO_ABLATION)
    answers = {
        "How often does training collapse?": collapse_sentences(tables, about, confidence),
        "What prevents it?": prevention_sentences(tables),
        "How steady are the default settings?": own_sentences(tables),
        "How much do seeds matter against settings?": [*seeds_sentences(tables, confidence), *warmup_sentences(tables)],
        "Which defaults are safe?": defaults_sentences(tables),
        "How far does one scorer carry over budgets?": budgets_sentences(tables),
    }
    return page(
        TEMPLATE,
        how=None,
        answers=answers.items(),
        verdict=verdict_words(judged.claim, judged.verdict, judged.parts, confidence),
        stale=stale_sentence(about),
        sections=[_section(name, item, tables, pictures) for name, item in about.items()],
        forest=pictures[FOREST],
        gains=pictures.get(OWN_GAINS),
        confidence=f"{confidence:.0%}",
    )


def _section(name: str, item: Mapping[str, Any], tables: Tables, pictures: Mapping[str, Picture]) -> Mapping[str, Any]:
    """What the page tells of one ablation."""
    several = [
        f"{arm_label(arm)} at {found['rate']:g} of {len(found['rates'])}"
        for arm, found in item["arms"].items()
        if len(found["rates"]) > 1
    ]
    more = [
        f"{arm_label(arm)} {found['scored']:.1f} times as many"
        for arm, found in item["arms"].items()
        if found["scored"] > 1 + SLACK
    ]
    return {
        "name": name,
        "title": arm_label(name),
        "design": item["design"].replace("_", " "),
        "stale": item["stale"],
        "rates": RATES.format(arms="; ".join(several)) if several else "",
        "more": MORE.format(arms="; ".join(more)) if more else "",
        "rows": arm_rows(name, tables),
        "figures": [
            (picture, key.removeprefix(f"{name}-") in NARROW)
            for key, picture in pictures.items()
            if key.startswith(f"{name}-")
        ],
    }


def arm_rows(name: str, tables: Tables) -> list[tuple[str, ...]]:
    """A row an arm: name, seeds, accuracy, effect with its interval, spread, worst seed, collapsed, gain, drawdown, and
    time over the baseline's."""
    stability, effects = (table[table["ablation"] == name] for table in (tables["stability"], tables["effects"]))
    by_arm = {row["arm"]: row for row in effects.to_dict("records")}
    rows = []
    for row in stability.to_dict("records"):
        own = by_arm.get(row["arm"])
        effect = f"{_points(own['effect'])} [{_points(own['low'])}, {_points(own['high'])}]" if own else ""
        gain = f"{_points(row['gain'])} [{_points(row['gain_low'])}, {_points(row['gain_high'])}]"
        numbers = [_percent(row[key]) for key in ("spread", "worst_seed")]
        collapsed = f"{row['collapsed']} of {row['seeds']}"
        head = (arm_label(row["arm"]), str(row["seeds"]), _percent(row["accuracy"]), effect)
        time = f"{own['time']:.1f}" if own else ""
        rows.append((*head, *numbers, collapsed, gain, _percent(row["long_term_risk"]), time))
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if pd.notna(share) else ""


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}") if pd.notna(share) else "?"
