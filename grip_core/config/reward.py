"""What a selection is rewarded for."""

from __future__ import annotations

from pydantic import model_validator

from grip_core.config.section import NonNegative, Section


class RewardConfig(Section):
    """The reward of a selection: a weighted sum of grip_core/rl/rewards.py's, then clipped."""

    log_prob: NonNegative
    """Mean log-probability of the gold answer, nats."""
    correct: NonNegative
    """1 where the greedy answer is the gold answer."""
    fidelity: NonNegative
    """-KL(full || pruned) of the answer's tokens, nats: the model with every token kept is the teacher."""
    gain: NonNegative
    """log_prob minus what the model gives without the image, nats."""
    clip_low: float
    clip_high: float
    """The sum is kept between these two."""

    @property
    def weights(self) -> dict[str, float]:
        """The rewards that count, by name."""
        named = {name: getattr(self, name) for name in ("log_prob", "correct", "fidelity", "gain")}
        return {name: weight for name, weight in named.items() if weight > 0}

    @model_validator(mode="after")
    def _some_reward(self):
        if not self.weights:
            raise ValueError("at least one of log_prob, correct, fidelity and gain must be above 0, but all are 0")
        if not self.clip_low < self.clip_high:
            raise ValueError(
                f"clip_low must be below clip_high, but got clip_low={self.clip_low} and clip_high={self.clip_high}"
            )
        return self
