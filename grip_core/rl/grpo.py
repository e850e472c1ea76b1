"""GRPO for the scorer on TRL's GRPOTrainer, through its public doors.

To TRL a selection is a completion: its tokens are positions of visual tokens, its prompt is one integer, the place of
the prompt in the run's order. `rollout_func` draws the selections, a reward function scores them with the frozen VLM,
and an override of the log-probabilities scores them with the scorer. What TRL cannot be told is overridden in one
place each: advantages (a floor on the std) and what a checkpoint holds.

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
from tokenizers.pre_tokenizers import WhitespaceSplit
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
        callbacks: list,
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
            reward_funcs=[self._reward],
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(place) for place in range(len(plan))]}),
            processing_class=position_tokenizer(store.visual[0].shape[1]),
            rollout_func=lambda prompts, _: self.stopwatch.timed("rollout", self._draw, prompts),
            callbacks=callbacks,
        )
        # TRL would reload a reference by name; ours is a module.
        self.beta = config.beta
        self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    # Rollout --------------------------------------------------------------------------------------------------------

    def _draw(self, prompts: list[str]) -> dict[str, list]:
        """Selections for TRL's rows, which repeat every prompt G times in a row."""
        group = self.num_generations
        places = [int(prompt) for prompt in prompts[::group]]
        k_B = self.plan.k[places]
        context = self.store.context(self.vlm, self.plan.example[places])
        self.rollout = Rollout(places[0], context, k_B)
        with torch.no_grad():
            distribution = PlackettLuce(self.model(context, k_B), k_B)
        # The block of all processes is drawn and each keeps its slice, so that their number does not change the draws.
        generator = torch_generator(self.seed, "selection", places[0])
        selection_BGK = distribution.sample(group, generator)
        log_prob_BGK = distribution.log_prob(selection_BGK)
        k_R = k_B.repeat_interleave(group).tolist()
        rows, log_probs = selection_BGK.flatten(0, 1).tolist(), log_prob_BGK.flatten(0, 1).tolist()
        return {
            "prompt_ids": [[int(prompt)] for prompt in prompts],
            "completion_ids": [row[:k] for row, k in zip(rows, k_R, strict=True)],
            "logprobs": [row[:k] for row, k in zip(log_probs, k_R, strict=True)],
        }

    def _reward(self, completion_ids: list[list[int]], **_) -> list[float]:
        return self.stopwatch.timed("vlm_forward", self._score, completion_ids)

    def _score(self, completion_ids: list[list[int]]) -> list[float]:
        context, k_B = self.rollout.context, self.rollout.k_B
        width = int(k_B.max())
        padded = [ids + [0] * (width - len(ids)) for ids in completion_ids]
        selection_BGK = torch.tensor(padded).view(len(k_B), self.num_generations, width)
        mask_BK = torch.arange(width) < k_B[:, None]
        return REWARDS[self.grip.reward](score_selections(self.vlm, context, selection_BGK, mask_BK)).tolist()

    # Log-probabilities ----------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **_
    ):
        """Log-probability and entropy of every pick, each (R, K); the scorer runs once per prompt, not once per row."""
        place_R, selection_R1K = input_ids[:, 0] - self.rollout.first, input_ids[:, None, -logits_to_keep:]
        mask_RK = attention_mask[:, -logits_to_keep:].bool()
        scores_BN = model(self.rollout.context, self.rollout.k_B)
        distribution = PlackettLuce(scores_BN[place_R], mask_RK.sum(1))
        selection_R1K = selection_R1K.masked_fill(~mask_RK[:, None], 0)
        log_probs_RK = distribution.log_prob(selection_R1K)[:, 0]
        with torch.no_grad():  # only logged
            entropies_RK = distribution.entropy(selection_R1K)[:, 0] if compute_entropy else None
        return log_probs_RK, entropies_RK, None

    # Advantages and diagnostics -------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs):
        output = super()._generate_and_score_completions(inputs)
        # TRL keeps a rollout's rewards in its log buffer, which is exactly one rollout long.
        rewards_BG = torch.tensor(list(self._logs["rewards"]["_reward"])).view(-1, self.num_generations)
        advantages_BG = group_advantages(rewards_BG, self.grip.scale_rewards, self.grip.min_std)
        rows = slice(self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs))
        output["advantages"] = advantages_BG.flatten()[rows].to(output["advantages"])
        metrics = self._metrics["train"]
        metrics["reward_std"] = [rewards_BG.std(1).mean().item()]
        metrics["dead_share"].append(dead_groups(rewards_BG, self.grip.min_std).float().mean().item())
        metrics["k_mean"].append(self.rollout.k_B.float().mean().item())
        metrics["entropy_uniform"].append(self._uniform_entropy())
        # TRL shuffles the rows of a rollout with the global generator; seeding it here makes a resumed run shuffle
        # alike.
        torch.manual_seed(derive(self.seed, "shuffle", self.rollout.first))
        return output

    def _uniform_entropy(self) -> float:
        """Mean entropy per pick of a uniform policy at this rollout's budgets, nats: the unit of the logged entropy."""
        n = self.rollout.context.n_visual
        logs = np.log(np.arange(n, 0, -1))
        per_prompt = np.cumsum(logs)[self.rollout.k_B.numpy() - 1]
        return float(per_prompt.sum() / self.rollout.k_B.sum())

    def training_step(self, *args, **kwargs):
        return self.stopwatch.timed("step", super().training_step, *args, **kwargs)


def position_tokenizer(n_visual: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the positions of visual tokens, because TRL decodes completions for its logs."""
    vocabulary = {str(position): position for position in range(n_visual)}
    vocabulary |= {"<pad>": n_visual, "<eos>": n_visual + 1}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
