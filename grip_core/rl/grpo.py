"""GRPO for the scorer on TRL's GRPOTrainer: its loop, its sampler, its losses.

To TRL a selection is a completion: its tokens are positions of visual tokens, its prompt is one integer, the place of
the prompt in the run's order. Two of its methods are overridden: the one that makes a rollout, which here draws
selections and has the frozen VLM score them, and the one that gives the log-probabilities, which here asks the scorer.

Shape legend: B prompts, G selections per prompt, R = B * G rows in TRL's order, K picks, N visual tokens.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from grip_core.config import GrpoConfig
from grip_core.policy.plackett_luce import PlackettLuce
from grip_core.policy.scorer import Scorer
from grip_core.rl.advantages import dead_groups, group_advantages
from grip_core.rl.rewards import REWARDS
from grip_core.rl.scoring import score_selections
from grip_core.seeds import derive, torch_generator
from grip_core.vlm.context import Context
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.frozen import FrozenVLM


@dataclass(frozen=True)
class Plan:
    """The whole run's prompts, drawn beforehand: which example comes when, with which budget. Both int64,
    (prompts,)."""

    example: np.ndarray
    k: torch.Tensor

    def __len__(self) -> int:
        return len(self.example)


@dataclass
class Rollout:
    """The prompts of the current rollout. `first` is the place of the first one in the plan."""

    first: int
    context: Context
    k_B: torch.Tensor
    scores_BN: torch.Tensor | None
    """The policy's scores with their graph, until the first update has used it: the policy has not moved since."""


@dataclass
class Stopwatch:
    """Seconds spent in the parts of a step, summed over the run."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, name: str, function: Callable, *args, **kwargs) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return result


class SelectionTrainer(GRPOTrainer):
    """TRL's trainer with a scorer for a language model and selections for completions."""

    def __init__(
        self,
        *,
        config: GrpoConfig,
        arguments: GRPOConfig,
        plan: Plan,
        scorer: Scorer,
        reference: Scorer,
        vlm: FrozenVLM,
        store: FeatureStore,
        seed: int,
    ) -> None:
        self.grip = config
        self.plan, self.vlm, self.store, self.seed = plan, vlm, store, seed
        self.rollout: Rollout
        self.stopwatch = Stopwatch()
        # Copied before TRL sees the policy: its __init__ patches `forward` with a closure over the live model.
        reference = copy.deepcopy(reference).eval().requires_grad_(False)
        scorer.generation_config = GenerationConfig()
        super().__init__(
            model=scorer,
            reward_funcs=REWARDS[config.reward],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(len(plan))]}),
            processing_class=position_tokenizer(store.n_visual),
        )
        # TRL would reload a reference by name; ours is a module.
        self.beta = config.beta
        self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    # Rollout --------------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        """Draw and score selections for TRL's rows, which repeat every prompt G times in a row.

        It stands in for TRL's own, which makes lists and texts of every completion: that takes as long as the forward
        of a small model. What it returns is what TRL's loss reads.
        """
        group = self.num_generations
        places = torch.tensor([int(row["prompt"]) for row in inputs[::group]])
        selection_BGK, mask_BK = self.stopwatch.timed("rollout", self._draw, places)
        rewards_BG = self.stopwatch.timed("vlm_forward", self._score, selection_BGK, mask_BK)
        advantages_BG = group_advantages(rewards_BG, self.grip.scale_rewards, self.grip.min_std)
        completion_mask_RK = mask_BK.repeat_interleave(group, dim=0).long()
        prompt_R1 = places.repeat_interleave(group)[:, None]
        output = {
            "prompt_ids": prompt_R1,
            "prompt_mask": torch.ones_like(prompt_R1),
            "completion_ids": selection_BGK.flatten(0, 1),
            "completion_mask": completion_mask_RK,
            "advantages": advantages_BG.flatten(),
            "num_items_in_batch": completion_mask_RK.sum(),
        }
        with torch.no_grad():
            if self.num_iterations > 1:
                output["old_per_token_logps"] = self._log_probs(self.model, output)
            if self.beta:
                output["ref_per_token_logps"] = self._log_probs(self.ref_model, output)
        self._record(rewards_BG)
        # TRL shuffles the rows of a rollout with the global generator; seeding it here makes a resumed run shuffle
        # alike.
        torch.manual_seed(derive(self.seed, "shuffle", self.rollout.first))
        return output

    def _draw(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Selections (B, G, K) for the prompts at `places` in the plan, and which of their K picks are real (B, K)."""
        k_B = self.plan.k[places]
        context = self.store.context(self.vlm, self.plan.example[places.numpy()])
        with torch.enable_grad():
            scores_BN = self.model_wrapped(context, k_B)
        self.rollout = Rollout(int(places[0]), context, k_B, scores_BN)
        distribution = PlackettLuce(scores_BN, k_B)
        generator = torch_generator(self.seed, "selection", self.rollout.first)
        return distribution.sample(self.num_generations, generator), distribution.mask_BK

    def _score(self, selection_BGK: torch.Tensor, mask_BK: torch.Tensor) -> torch.Tensor:
        """Rewards (B, G)."""
        scores = score_selections(self.vlm, self.rollout.context, selection_BGK, mask_BK)
        (reward,) = self.reward_funcs
        return reward(scores).view(selection_BGK.shape[:2])

    def _record(self, rewards_BG: torch.Tensor) -> None:
        metrics = self._metrics["train"]
        metrics["reward"].append(rewards_BG.mean().item())
        metrics["reward_std"].append(rewards_BG.std(1).mean().item())
        metrics["dead_share"].append(dead_groups(rewards_BG, self.grip.min_std).float().mean().item())
        metrics["k_mean"].append(self.rollout.k_B.float().mean().item())
        metrics["entropy_uniform"].append(self._uniform_entropy())

    # Log-probabilities ----------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **_
    ):
        """Log-probability and entropy of every pick, each (R, K); the scorer runs once per prompt, not once per row."""
        place_R, selection_R1K = input_ids[:, 0] - self.rollout.first, input_ids[:, None, -logits_to_keep:]
        mask_RK = attention_mask[:, -logits_to_keep:].bool()
        scores_BN = self._scores(model)
        # Not scores_BN[place_R]: its gradient adds rows up in whatever order the threads come.
        distribution = PlackettLuce(scores_BN.index_select(0, place_R), mask_RK.sum(1))
        selection_R1K = selection_R1K.masked_fill(~mask_RK[:, None], 0)
        log_probs_RK = distribution.log_prob(selection_R1K)[:, 0]
        with torch.no_grad():  # only logged
            entropies_RK = distribution.entropy(selection_R1K)[:, 0] if compute_entropy else None
        return log_probs_RK, entropies_RK, None

    def _log_probs(self, model, rows: dict[str, torch.Tensor]) -> torch.Tensor:
        ids, mask = (torch.cat([rows[f"prompt_{name}"], rows[f"completion_{name}"]], dim=1) for name in ("ids", "mask"))
        return self._get_per_token_logps_and_entropies(model, ids, mask, rows["completion_ids"].shape[1])[0]

    def _scores(self, model) -> torch.Tensor:
        kept = self.rollout.scores_BN
        if model is self.ref_model or kept is None:
            return model(self.rollout.context, self.rollout.k_B)
        if torch.is_grad_enabled():
            self.rollout.scores_BN = None
        return kept

    def _uniform_entropy(self) -> float:
        """Mean entropy per pick of a uniform policy at this rollout's budgets, nats: the unit of the logged entropy."""
        n = self.rollout.context.n_visual
        logs = np.log(np.arange(n, 0, -1))
        per_prompt = np.cumsum(logs)[self.rollout.k_B.numpy() - 1]
        return float(per_prompt.sum() / self.rollout.k_B.sum())

    def training_step(self, *args, **kwargs):
        return self.stopwatch.timed("step", super().training_step, *args, **kwargs)


def position_tokenizer(n_visual: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the positions of visual tokens: TRL must have one, with a padding token."""
    vocabulary = {str(position): position for position in range(n_visual)}
    vocabulary |= {"<pad>": n_visual, "<eos>": n_visual + 1}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
