"""The headline numbers as sentences: what beats what, and plainly what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grip_core.evaluation.evaluate import FULL, NO_IMAGE
from grip_core.evaluation.names import GRIP, WARMUP, label

PHRASES = {"better": "beats", "worse": "loses to", "undecided": "cannot be told from"}
ONE_SEED = "One seed tells of this checkpoint alone, not of training by GRPO"


def setting_sentence(numbers: Mapping[str, Any]) -> str:
    """What was measured, and between which references it lies."""
    accuracy = numbers["accuracy"]
    return (
        f"Averaged over {numbers['benchmarks']} benchmarks ({numbers['questions']} test questions) and budgets of at "
        f"most {numbers['share']:.0%} of the {numbers['tokens']} visual tokens (k = {numbers['budgets']}), GRIP "
        f"answers {accuracy[GRIP]:.1%} of the questions correctly. With all tokens the model answers "
        f"{accuracy[FULL]:.1%}, without the image {accuracy[NO_IMAGE]:.1%}."
    )


def verdict_sentences(numbers: Mapping[str, Any]) -> list[str]:
    """First GRIP against its own warm-up, then a sentence for every verdict that some baseline gets, largest first."""
    differences = numbers["difference"]
    own = differences[WARMUP]
    opening = _opening(own["verdict"]) if len(numbers["grip_seeds"]) > 1 else ONE_SEED
    sentences = [f"{opening}: GRIP {PHRASES[own['verdict']]} the warm-up that it starts from {points(own)}."]
    for verdict, phrase in PHRASES.items():
        found = [(name, item) for name, item in differences.items() if name != WARMUP and item["verdict"] == verdict]
        found.sort(key=lambda pair: -pair[1]["effect"])
        if found:
            sentences.append(
                f"GRIP {phrase} " + listed([f"{label(name)} {points(item)}" for name, item in found]) + "."
            )
    return sentences


def points(item: Mapping[str, float]) -> str:
    """A difference of shares as percentage points with its interval."""
    effect, low, high = (f"{100 * item[key]:+.1f}".replace("-", "\N{MINUS SIGN}") for key in ("effect", "low", "high"))
    return f"({effect} points, [{low}, {high}])"


def listed(items: list[str]) -> str:
    """Items as English: "a", "a and b", "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _opening(verdict: str) -> str:
    return {
        "better": "Training by GRPO helps",
        "worse": "Training by GRPO hurts",
        "undecided": "Training by GRPO shows no clear effect",
    }[verdict]
