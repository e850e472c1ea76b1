"""What ablations say of the stability of training, as answers to questions: sentences, computed from the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from grip_core.claims.schema import Stability
from grip_core.claims.stability import NOT_RUN, Part, PartName, distinct, of_own_settings
from grip_core.evaluation.ablation_accuracy import TEST
from grip_core.evaluation.ablation_training import POWER
from grip_core.evaluation.own_settings import HEADLINE
from grip_core.evaluation.words import listed, points
from grip_core.figures.arms import arm_label
from grip_core.statistics.importance import SEEDS
from grip_core.statistics.power import seeds_needed
from grip_core.statistics.survival import wilson_interval

Tables = Mapping[str, pd.DataFrame]
About = Mapping[str, Mapping[str, Any]]
"""What ablations.json says of each ablation."""
NO_ABLATION = (
    "No ablation has been run. Launch one and export it, then run the pipeline again:",
    "python -m studies launch studies/ablations/group_size_kl.yaml",
    "python -m studies export group_size_kl --answers artifacts/exports/ablations/group_size_kl",
)
CAUSES = {
    "entropy": "the policy stopped exploring",
    "kl": "it drifted from the warm-up",
    "accuracy": "accuracy fell below the warm-up's",
    "nan": "a number was not finite",
}
POINT = 0.01
WARMUP_SEED = "warmup.seed"
ONE_WARMUP = (
    "All seeds of an arm start from one warm-up, which is a draw too: no interval and no spread over seeds knows how "
    "another warm-up of the same settings would do."
)
PARTS: Mapping[PartName, str] = {
    "collapse": "Runs do not collapse",
    "gain": "Accuracy rises from the warm-up's",
    "budgets": "It falls at no budget",
    "carries": "One scorer does as well as those of single budgets",
}


def collapse_sentences(tables: Tables, about: About, confidence: float) -> list[str]:
    """How often training collapses, over all runs and at the pipeline's own settings."""
    runs = distinct(tables["runs"])
    collapsed = runs[runs["collapsed"]]
    found = [f"{len(collapsed)} of the {len(runs)} runs of all ablations collapsed."]
    own = of_own_settings(tables["runs"])
    if len(own):
        rate = wilson_interval(int(own["collapsed"].sum()), len(own), confidence)
        found.append(
            f"At the pipeline's own settings {int(own['collapsed'].sum())} of {_count(len(own), 'run')} did: a rate "
            f"between {rate.low:.0%} and {rate.high:.0%} is compatible with that at {confidence:.0%} confidence."
        )
    if len(collapsed):
        causes = collapsed["cause"].value_counts()
        found.append("Causes: " + listed([f"{CAUSES[cause]} ({count})" for cause, count in causes.items()]) + ".")
    missing = [f"{arm_label(arm)} of {arm_label(name)}" for name, item in about.items() for arm in item["missing"]]
    if missing:
        found.append(f"Not counted, for they did not get to their end: {listed(missing)}.")
    return found


def prevention_sentences(tables: Tables) -> list[str]:
    """In which arms runs collapse, ablation by ablation, and which arms fail in another way."""
    runs, found, calm = tables["runs"], [], []
    for name, part in runs.groupby("ablation", sort=False):
        by_arm = part.groupby("arm", sort=False)["collapsed"].agg(["sum", "size"])
        bad, good = by_arm[by_arm["sum"] > 0], by_arm[by_arm["sum"] == 0]
        if bad.empty:
            calm.append(arm_label(str(name)))
            continue
        where = listed([f"{arm_label(str(arm))} ({row['sum']} of {row['size']})" for arm, row in bad.iterrows()])
        rest = f"none of the {good['size'].sum()} runs of the other arms" if len(good) else "no arm without"
        found.append(f"In the ablation {arm_label(str(name))}, runs collapsed at {where}; {rest}.")
    if not found:
        found.append("No run collapsed, so that nothing here can be said to prevent it.")
    elif calm:
        found.append(f"Whatever was varied, no run collapsed in the ablation {listed(calm)}.")
    effects = tables["effects"]
    worse = effects[effects["verdict"] == "worse"].sort_values("effect").to_dict("records")
    if worse:
        each = listed([f"{arm_label(row['arm'])} {points(row)}" for row in worse])
        found.append(f"Collapse is not the only way to fail. Shown to end worse than the default: {each}.")
    return found


def own_sentences(tables: Tables) -> list[str]:
    """How steadily the runs at the pipeline's own settings train: those of the first length in the table."""
    if tables["own"].empty:
        return ["No ablation exported has a run at them."]
    own = tables["own"].to_dict("records")[0]
    short = own["steps"] < own["pipeline_steps"]
    length = f"{own['steps']} steps (the pipeline has {own['pipeline_steps']})" if short else f"{own['steps']} steps"
    of = f"{_count(own['seeds'], 'run')} of {length}, all of other seeds"
    if own["seeds"] < 2:
        return [f"Only {of}, is there: nothing is known of how seeds differ."]
    share = {key: f"{100 * own[key]:.1f}" for key in ("accuracy", "spread", "worst_seed", "risk_across_runs")}
    level = (
        f"Of {of}, test accuracy at the headline budgets is {share['accuracy']} % on average, with a standard "
        f"deviation of {share['spread']} points; it is {share['worst_seed']} % in the worst run, and "
        f"{share['risk_across_runs']} % in the worst twentieth of the runs."
    )
    course = (
        f"The worst falls of a run below its best evaluation so far are {100 * own['long_term_risk']:.1f} points, on "
        f"average over runs; its worst change from one evaluation to the next is {_signed(own['short_term_risk'])} "
        "points."
    )
    risen = [
        f"Against the warm-up they gain {points(row)[1:-1]}, over new seeds and new images."
        for row in tables["rises"].to_dict("records")
        if row["at"] == HEADLINE
    ]
    return [level, *risen, course]


def seeds_sentences(tables: Tables, confidence: float) -> list[str]:
    """How much seeds matter against what was varied."""
    importances, stability = tables["importances"], tables["stability"]
    test = importances[(importances["phase"] == TEST) & (importances["parameter"] == SEEDS)].dropna(
        subset=["importance"]
    )
    found = []
    if len(test):
        order = test.sort_values("importance", ascending=False)
        more = int((order["importance"] > 0.5).sum())
        each = listed([f"{arm_label(row.ablation)} {row.importance:.0%}" for row in order.itertuples()])
        found.append(
            f"Share of the seeds in the variance of test accuracy between runs: {each}. In {more} of "
            f"{_count(len(order), 'ablation')} the seed matters more than all that was varied."
        )
    spread, apart = stability["spread"].dropna(), stability["apart"].dropna()
    if len(spread):
        found.append(
            f"Seeds of one arm differ by {100 * spread.median():.1f} points (median standard deviation over arms, at "
            f"most {100 * spread.max():.1f})."
        )
    if len(apart):
        needed = seeds_needed(POINT, apart.median(), POWER, 1 - confidence) if apart.median() > 0 else 2
        found.append(
            f"The difference of an arm to its baseline, seed by seed, differs by {100 * apart.median():.1f} points "
            f"(median standard deviation over arms, at most {100 * apart.max():.1f}). One that would be found four "
            f"times in five is {100 * stability['detectable'].median():.1f} points (median); to find one of a point so "
            f"often takes {needed} seeds an arm, as far as seeds go: new questions add to it."
        )
    agreement = stability.dropna(subset=["agreement"])
    if len(agreement):
        found.append(
            f"Two seeds of an arm share {agreement['agreement'].median():.0%} of the tokens that either keeps (median "
            f"over arms of the Jaccard index at the headline budgets); by chance it would be "
            f"{agreement['agreement_chance'].median():.0%}."
        )
    return found


def warmup_sentences(tables: Tables) -> list[str]:
    """What intervals do not know of warm-ups, and how far training from two that differ by their seed was apart."""
    found = [ONE_WARMUP]
    stability = tables["stability"]
    for (name, _), part in stability.groupby(["ablation", stability["settings"].map(_but_warmup_seed)], sort=False):
        if len(part) > 1:
            ends = listed([f"{100 * row.accuracy:.1f} % ({arm_label(row.arm)})" for row in part.itertuples()])
            spread = part["spread"].mean()
            seeds = f"; seeds from one of them differ by {100 * spread:.1f} points (standard deviation)"
            found.append(
                f"In the ablation {arm_label(str(name))}, from warm-ups that differ by their seed alone, training "
                f"ends at {ends}{seeds if pd.notna(spread) else ''}."
            )
    return found


def _but_warmup_seed(settings: str) -> str:
    return json.dumps({key: value for key, value in json.loads(settings).items() if key != WARMUP_SEED}, sort_keys=True)


def defaults_sentences(tables: Tables) -> list[str]:
    """Which of the pipeline's settings no level beats, and which one does."""
    effects, safe, found = tables["effects"], [], []
    for name, part in effects.groupby("ablation", sort=False):
        better = part[part["verdict"] == "better"].sort_values("effect", ascending=False)
        if better.empty:
            worse = int((part["verdict"] == "worse").sum())
            safe.append(f"{arm_label(str(name))} (of {_count(len(part), 'arm')}, {worse} worse)")
            continue
        arms = [
            f"{arm_label(row['arm'])} {points(row)} in {row['time']:.1f} times its time"
            for row in better.to_dict("records")
        ]
        found.append(f"In the ablation {arm_label(str(name))} the default is beaten by {listed(arms)}.")
    if safe:
        found.insert(0, f"No arm is shown to beat the default in the ablation {listed(safe)}.")
    tau = tables["ranks"].groupby("ablation", sort=False)["tau"].first()
    if len(tau):
        found.append(
            f"Undecided is not equal: arms' order under resampled seeds agrees with the one found by Kendall's tau of "
            f"{tau.median():.2f} (median over ablations; 1 is the same order)."
        )
    return found


def budgets_sentences(tables: Tables) -> list[str]:
    """How far one scorer serves all budgets, against those trained at one, and how far these do elsewhere."""
    carry, matrix = tables["carry"], tables["matrix"]
    if carry.empty:
        return ["No ablation of the budget schedule has been run: nothing is known of scorers of single budgets."]
    found = [
        f"At k = {row['k']}, the scorer of all budgets against the one trained there alone: {points(row)[1:-1]}."
        for row in carry.to_dict("records")
    ]
    for row in carry.itertuples():
        own = matrix[(matrix["ablation"] == row.ablation) & (matrix["arm"] == row.arm) & matrix["unseen"]]
        if len(own):
            worst = own.loc[own["difference"].idxmin()]
            ends = {"effect": "difference", "low": "difference_low", "high": "difference_high"}
            interval = {key: worst[column] for key, column in ends.items()}
            found.append(
                f"The scorer trained at k = {row.k} alone does worst against it at k = {worst['k']} {points(interval)}."
            )
    return found


def verdict_words(claim: Stability, verdict: str, parts: Sequence[Part], confidence: float) -> list[str]:
    """The verdict, what each part of the claim came to, and the rule."""
    found = [f"{verdict.capitalize()}: {claim.words}."]
    for part in parts:
        if part.verdict == NOT_RUN:
            found.append(f"{PARTS[part.name]}: {NOT_RUN}, for no ablation exported has what it needs.")
            continue
        found.append(f"{PARTS[part.name]}: {part.verdict}; {_decisive(part)}.")
    found.append(
        f"The rule: a part is supported if its whole {confidence:.0%} interval lies above its bar, at every budget or "
        "scorer that it is about, and contradicted if one of them, corrected for their number, lies below. The claim "
        "is supported if all parts are, contradicted if any is, and undecided otherwise. The bars are in claims.yaml."
    )
    return found


def _decisive(part: Part) -> str:
    """The effect that decides a part, its bar, and what it is of."""
    if part.name == "collapse":
        rate, low, high, bar = (-value + 0.0 for value in (part.effect, part.high, part.low, part.bar))
        return (
            f"the rate is {rate:.0%} ({low:.0%} to {high:.0%}) of {_count(part.n, 'run')} and has to be below {bar:.0%}"
        )
    at = f" at k = {part.k}" if part.k else ""
    effect = points({"effect": part.effect, "low": part.low, "high": part.high})[1:-1]
    of = _count(part.n, "scorer" if part.name == "carries" else "run")
    return f"what decides it is {effect}{at}, of {of}, and has to exceed {_signed(part.bar)} points"


def stale_sentence(about: About) -> str | None:
    """Which exports are older than what they were made from; None if none is."""
    stale = [arm_label(name) for name, item in about.items() if item["stale"]]
    if not stale:
        return None
    return f"Exports of {listed(stale)} are stale: code, data or settings have changed since. Their figures are marked."


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
