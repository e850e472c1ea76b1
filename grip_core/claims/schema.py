"""The schema of claims.yaml: a claim is a method, whom it is held against, at which budgets, and by how much."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from grip_core.config import Count, NonNegative, Section, Several, Share, parse, read_yaml

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
FigureName = Literal["difference", "pareto", "speed"]
Unit = Literal["accuracy", "time"]
OWN = "own"
"""The shape of a model that no setting names."""


class Setting(Section):
    """A model and the benchmarks it answers."""

    name: Name
    model: Text
    """vlm.path of params.yaml, and the column `model` of the rows."""
    label: Text
    """The model as sentences name it."""
    shape: Text
    """Whose sizes the costs are measured at, the column `shape` of the cost table."""
    benchmarks: Annotated[list[Name], *Several]


class Claim(Section):
    """What every claim has."""

    name: Name
    words: Text
    """The paper's claim in short, as a clause."""
    figure: FigureName
    """The figure that shows what it is judged by."""

    unit: ClassVar[Unit] = "accuracy"
    """What effects are shares of: of the questions, or of a peer's time."""

    @property
    @abstractmethod
    def bar(self) -> float:
        """What every effect has to exceed."""


class AgainstPeers(Claim):
    """A claim of one method against many."""

    method: Name
    peers: Annotated[list[Name], *Several]
    """Methods, or groups of them."""


class BeatsEvery(AgainstPeers):
    """Mean accuracy at the budgets of at most `share` of the tokens is above each peer's by more than `threshold`."""

    share: Share
    threshold: NonNegative

    @property
    def bar(self) -> float:
        return self.threshold


class Dominates(AgainstPeers):
    """The front of accuracy over FLOPs, at the budgets of at most `share` of the tokens, lies above that of all peers
    together, and at none of these budgets does a peer do better at the same cost or less."""

    share: Share

    @property
    def bar(self) -> float:
        return 0.0


class Faster(AgainstPeers):
    """More than `saving` of each peer's time is saved where both are within `margin` of the unpruned model's
    accuracy."""

    saving: Share
    margin: Annotated[float, Field(gt=0.0)]
    settings: Annotated[list[Name], *Several]
    """Where times count; elsewhere the effect is described and not judged."""

    unit: ClassVar[Unit] = "time"

    @property
    def bar(self) -> float:
        return self.saving


class Pair(Section):
    """Two methods at one budget."""

    method: Name
    other: Name
    k: Count


class NotWorse(Claim):
    """In every pair the method's accuracy is not below the other's by `margin` or more."""

    pairs: Annotated[list[Pair], Field(min_length=1)]
    margin: Annotated[float, Field(gt=0.0)]

    @property
    def bar(self) -> float:
        return -self.margin


class Stability(Section):
    """On the runs of ablations that have the pipeline's own settings; grip_core/claims/stability.py judges it.

    Their share that collapses is below `collapse`; test accuracy at the headline budgets rises from the warm-up's by
    more than `gain`, and falls at no budget by `margin`; no scorer that was trained at one budget alone is better there
    by `margin`.
    """

    words: Text
    collapse: Share
    gain: NonNegative
    margin: Annotated[float, Field(gt=0.0)]


AnyClaim = BeatsEvery | Dominates | Faster | NotWorse


class Claims(Section):
    """All of claims.yaml."""

    settings: Annotated[list[Setting], Field(min_length=1)]
    groups: dict[Name, Annotated[list[Name], *Several]]
    arms: Annotated[list[Name], *Several]
    """Scorers of GRIP's architecture that are trained apart: they cost what GRIP costs."""
    beats_every: list[BeatsEvery]
    dominates: list[Dominates]
    faster: list[Faster]
    not_worse: list[NotWorse]
    stability: Stability

    @property
    def all(self) -> list[AnyClaim]:
        """Every claim, in the order they are reported in."""
        return [*self.beats_every, *self.dominates, *self.faster, *self.not_worse]

    def shape_of(self, model: str) -> str:
        """The shape that costs of `model` (vlm.path) are kept under: its setting's, or "own" where it has none."""
        return next((setting.shape for setting in self.settings if setting.model == model), OWN)

    def peers(self, claim: AgainstPeers) -> list[str]:
        """The methods a claim's peers are."""
        return [method for name in claim.peers for method in self.groups.get(name, [name])]

    def methods(self, claim: AnyClaim) -> list[str]:
        """Every method that a claim is about."""
        if isinstance(claim, NotWorse):
            return [method for pair in claim.pairs for method in (pair.method, pair.other)]
        return [claim.method, *self.peers(claim)]

    def subjects(self, claim: AnyClaim) -> list[str]:
        """The methods that a claim says something good of; all are trained."""
        return [pair.method for pair in claim.pairs] if isinstance(claim, NotWorse) else [claim.method]

    @model_validator(mode="after")
    def _names_come_once(self):
        names = {"settings": [item.name for item in self.settings], "claims": [item.name for item in self.all]}
        for key, given in names.items():
            twice = [name for name, count in Counter(given).items() if count > 1]
            if twice:
                raise ValueError(f"names of {key} must differ, but got {twice[0]} more than once")
        return self

    @model_validator(mode="after")
    def _settings_exist(self):
        names = [setting.name for setting in self.settings]
        unknown = [name for claim in self.faster for name in claim.settings if name not in names]
        if unknown:
            raise ValueError(f"a claim's settings must be among {', '.join(names)}, but got {unknown[0]}")
        return self


def load_claims(path: Path = Path("claims.yaml")) -> Claims:
    """Read and check a claims file. Raises UserError, one line a mistake, on anything the schema refuses."""
    return parse(Claims, read_yaml(path), str(path))
