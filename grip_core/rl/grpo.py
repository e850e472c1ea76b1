"""GRPO for the scorer on TRL's GRPOTrainer: its loop, its sampler, its losses.

To TRL a selection is a completion, whose tokens are positions of visual tokens. What its loop hands over is not looked
at: a row for each of B x G selections would take it longer than their loss does. Overridden are the method
that makes a rollout, which here draws selections and has the frozen VLM score them; the one that gives the
log-probabilities, which here asks the scorer; and the loss, to which the KL and the entropy bonus are added.

Shape legend: B prompts, G selections per prompt, R = B * G rows in that order, K picks, N visual tokens.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional as F
from transformers import GenerationConfig, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from grip_core.config import GrpoConfig
from grip_core.policy.budgets import BudgetSchedule
from grip_core.policy.distribution import Picks, SelectionDistribution
from grip_core.policy.distributions import DISTRIBUTIONS
from grip_core.policy.scorer import Scorer
from grip_core.rl.advantages import dead_groups, group_advantages
from grip_core.rl.diagnostics import maximum_entropy, policy_diagnostics, rollout_diagnostics, update_diagnostics
from grip_core.rl.processes import by_first, world_size
from grip_core.rl.regularizers import exact_entropy, exact_kl, sampled_kl
from grip_core.rl.rewards import Scored, budget_overrun, needs_kl, reward
from grip_core.rl.scoring import score_selections
from grip_core.seeds import torch_generator
from grip_core.vlm.context import Context
from grip_core.vlm.features import FeatureStore
from grip_core.vlm.protocol import AnsweringVLM


@dataclass(frozen=True)
class Plan:
    """Which example comes when, drawn for the whole run beforehand: (rollouts, B), int64.

    `reserve` has those that take the places of dead groups, as many again; None where none is replaced.
    """

    example: np.ndarray
    reserve: np.ndarray | None

    def __len__(self) -> int:
        """Rollouts."""
        return len(self.example)


@dataclass
class Rollout:
    """Prompts, the selections drawn for them, and what these earned."""

    example_B: np.ndarray
    context: Context
    k_B: torch.Tensor
    picks: Picks
    rewards_BG: torch.Tensor
    scores_BN: torch.Tensor | None
    """The policy's scores with their graph, until the first update has used it: the policy has not moved since."""
    reference_BN: torch.Tensor
    """The reference's scores."""

    def rows(self, index_B: torch.Tensor) -> Rollout:
        """Some of the prompts."""
        assert self.scores_BN is not None
        return Rollout(
            self.example_B[index_B.cpu().numpy()],
            self.context.rows(index_B),
            self.k_B[index_B],
            Picks(self.picks.index_BGK[index_B], self.picks.mask_BGK[index_B]),
            self.rewards_BG[index_B],
            self.scores_BN.index_select(0, index_B),
            self.reference_BN[index_B],
        )


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
        schedule: BudgetSchedule,
        scorer: Scorer,
        reference: Scorer,
        vlm: AnsweringVLM,
        store: FeatureStore,
        seed: int,
    ) -> None:
        self.grip = config
        self.distribution = DISTRIBUTIONS[config.distribution]
        self.plan, self.vlm, self.store, self.seed = plan, vlm, store, seed
        self.schedule, self.budget_state = schedule, schedule.initial()
        self.rollout: Rollout
        self.stopwatch = Stopwatch()
        self.diagnostics: dict[str, float] = {}
        """Of the current update, until somebody takes them."""
        # Copied before TRL sees the policy: its __init__ patches `forward` with a closure over the live model.
        reference = copy.deepcopy(reference).eval().requires_grad_(False)
        scorer.generation_config = GenerationConfig()
        super().__init__(
            model=scorer,
            reward_funcs=_no_reward,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": [str(number) for number in range(len(plan))]}),
            processing_class=position_tokenizer(store.n_visual),
        )
        # TRL would reload a reference by name; ours is a module, and the KL to it is not TRL's.
        self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)

    # Rollout --------------------------------------------------------------------------------------------------------

    def _prepare_inputs(self, rows: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        """A rollout's rows, for as many updates as it serves.

        TRL's own shuffles them, to cut them into parts; here a rollout is one part, and stays in the order (B, G).
        """
        if self._step % self.num_iterations == 0:
            self._buffered_inputs = [self._generate_and_score_completions(rows)]
        return self._buffered_inputs[0]

    def _generate_and_score_completions(self, inputs: list[dict[str, str]]) -> dict[str, torch.Tensor]:
        """Draw and score the selections of the rollout whose turn it is.

        It stands in for TRL's own, which makes lists and texts of every completion: that takes as long as the forward
        of a small model. What it returns is what TRL's loss reads.
        """
        number = self._step // self.num_iterations
        self.rollout = rollout = self._without_dead(self._first_draw(number), number)
        with torch.no_grad():
            sampled_BGK = self._policy(self.model).log_prob(rollout.picks)
            reference_BGK = self._reference().log_prob(rollout.picks)
        dead_B = dead_groups(rollout.rewards_BG, self.grip.min_std)
        device = rollout.k_B.device
        prompt_R1 = torch.arange(len(rollout.k_B), device=device).repeat_interleave(self.num_generations)[:, None]
        completion_mask_RK = rollout.picks.mask_BGK.flatten(0, 1).long()
        output = {
            "prompt_ids": prompt_R1,
            "prompt_mask": torch.ones_like(prompt_R1),
            "completion_ids": rollout.picks.index_BGK.flatten(0, 1),
            "completion_mask": completion_mask_RK,
            # TRL takes it for that of all processes, each of which has the whole rollout here.
            "num_items_in_batch": completion_mask_RK.sum() * self.accelerator.num_processes,
            "advantages": self._advantages(rollout, dead_B, sampled_BGK, reference_BGK).flatten(),
            "reference_BGK": reference_BGK,
            # Where every group is dead and dead groups are to be dropped, there is no gradient.
            "weight": torch.tensor(float(self.grip.dead_groups == "keep" or not bool(dead_B.all())), device=device),
        }
        if self.num_iterations > 1:
            output["old_per_token_logps"] = sampled_BGK.flatten(0, 1)
        return output

    def _first_draw(self, number: int) -> Rollout:
        """Selections for the rollout's own prompts, at the budgets that the schedule gives them, and learns from."""
        k_B = self.schedule.sample(
            self.budget_state,
            number,
            len(self.plan),
            self.grip.prompts_per_step,
            torch_generator(self.seed, "budget", number),
        )
        generator = torch_generator(self.seed, "selection", number)
        rollout = self._draw(self.plan.example[number], k_B.to(self.vlm.device), generator)
        self.budget_state = self.schedule.update(self.budget_state, k_B, rollout.rewards_BG.std(1))
        self._record(rollout)
        return rollout

    def _advantages(
        self, rollout: Rollout, dead_B: torch.Tensor, sampled_BGK: torch.Tensor, reference_BGK: torch.Tensor
    ) -> torch.Tensor:
        """Advantages (B, G), of rewards less the KL where that is where the KL goes."""
        config, rewards_BG = self.grip, rollout.rewards_BG
        if config.beta and config.kl_placement == "reward":
            # k1 of the whole selection. Per pick, as in the loss, it would weigh k times less against the reward.
            rewards_BG = rewards_BG - config.beta * (sampled_BGK - reference_BGK).sum(-1)
        return group_advantages(rewards_BG, config.baseline, config.scale_rewards, config.std_floor, dead_B)

    def _draw(self, example_B: np.ndarray, k_B: torch.Tensor, generator: torch.Generator) -> Rollout:
        """Selections for these examples at these budgets, scored."""
        context, k_B, scores_BN, reference_BN = self.stopwatch.timed("rollout", self._look, example_B, k_B)
        picks = self.stopwatch.timed("rollout", self._pick, scores_BN.detach(), k_B, generator)
        rewards_BG = self.stopwatch.timed("vlm_forward", self._rewards, example_B, context, k_B, picks)
        return Rollout(example_B, context, k_B, picks, rewards_BG, scores_BN, reference_BN)

    def _pick(self, scores_BN: torch.Tensor, k_B: torch.Tensor, generator: torch.Generator) -> Picks:
        """Selections, as the first process draws them: the scores of another may differ in their last bits."""

        def draw() -> Picks:
            return self.distribution(scores_BN, k_B).sample(self.num_generations, generator)

        if world_size() == 1:
            return draw()
        picks = by_first(lambda: Picks(*(part.cpu() for part in astuple(draw()))))
        return Picks(*(part.to(k_B.device) for part in astuple(picks)))

    def _look(
        self, example_B: np.ndarray, k_B: torch.Tensor
    ) -> tuple[Context, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The examples' prompts, the budgets, of which none is more than its image has tokens, the policy's scores with
        their graph, and the reference's."""
        context = self.store.context(self.vlm, example_B)
        k_B = context.at_most(k_B)
        with torch.enable_grad():
            scores_BN = self.model_wrapped(context, k_B)
        with torch.no_grad():
            return context, k_B, scores_BN, self.ref_model(context, k_B)

    def _rewards(self, example_B: np.ndarray, context: Context, k_B: torch.Tensor, picks: Picks) -> torch.Tensor:
        """Rewards (B, G)."""
        answers = score_selections(self.vlm, context, picks, needs_kl(self.grip.reward))
        blind_B = torch.from_numpy(self.store.table["blind_log_prob"].to_numpy(np.float32)[example_B])
        group = self.num_generations
        scored = Scored(answers, blind_B.to(answers.log_prob_R.device).repeat_interleave(group))
        rewards_BG = reward(self.grip.reward, scored).view(-1, group)
        if self.distribution.name == "bernoulli":
            overrun_BG = budget_overrun(picks.mask_BGK.sum(-1), k_B[:, None])
            rewards_BG = rewards_BG - self.grip.budget_penalty * overrun_BG
        return rewards_BG

    def _without_dead(self, rollout: Rollout, number: int) -> Rollout:
        """The rollout with its dead groups kept, dropped or replaced; as it is where all would have to go."""
        if self.grip.dead_groups == "keep":
            return rollout
        dead_B = dead_groups(rollout.rewards_BG, self.grip.min_std)
        live = rollout.rows((~dead_B).nonzero()[:, 0])
        if self.plan.reserve is not None and dead_B.any():
            examples = self.plan.reserve[number, : int(dead_B.sum())]
            generator = torch_generator(self.seed, "resampled selection", number)
            fresh = self._draw(examples, rollout.k_B[dead_B], generator)
            self.diagnostics["scored"] += float(fresh.rewards_BG.numel())
            alive_B = ~dead_groups(fresh.rewards_BG, self.grip.min_std)
            live = self._joined(live, fresh.rows(alive_B.nonzero()[:, 0]))
        return live if len(live.k_B) else rollout

    def _joined(self, first: Rollout, second: Rollout) -> Rollout:
        """The prompts of both; scored anew, for the two were padded to other lengths."""
        example_B = np.concatenate([first.example_B, second.example_B])
        if not len(example_B):
            return first
        k_B = torch.cat([first.k_B, second.k_B])
        context, k_B, scores_BN, reference_BN = self.stopwatch.timed("rollout", self._look, example_B, k_B)
        width = max(first.picks.index_BGK.shape[-1], second.picks.index_BGK.shape[-1])
        index_BGK, mask_BGK = (
            torch.cat([F.pad(part, (0, width - part.shape[-1])) for part in parts])
            for parts in (
                (first.picks.index_BGK, second.picks.index_BGK),
                (first.picks.mask_BGK, second.picks.mask_BGK),
            )
        )
        rewards_BG = torch.cat([first.rewards_BG, second.rewards_BG])
        return Rollout(example_B, context, k_B, Picks(index_BGK, mask_BGK), rewards_BG, scores_BN, reference_BN)

    @torch.no_grad()
    def _record(self, rollout: Rollout) -> None:
        """What is to be known of a rollout as it was drawn, before dead groups leave it."""
        dead_B = dead_groups(rollout.rewards_BG, self.grip.min_std)
        mode_BK = self.distribution(rollout.reference_BN, rollout.k_B).mode()
        self.diagnostics |= rollout_diagnostics(rollout.rewards_BG, dead_B, rollout.k_B, rollout.picks, mode_BK)
        self.diagnostics["scored"] = float(rollout.rewards_BG.numel())

    # Log-probabilities and loss -------------------------------------------------------------------------------------

    def _policy(self, model) -> SelectionDistribution:
        """The policy at the current rollout's prompts. Its first use with a gradient takes the rollout's own scores."""
        rollout = self.rollout
        scores_BN = rollout.scores_BN
        if scores_BN is None:
            scores_BN = model(rollout.context, rollout.k_B)
        elif torch.is_grad_enabled():
            rollout.scores_BN = None
        return self.distribution(scores_BN, rollout.k_B)

    def _reference(self) -> SelectionDistribution:
        return self.distribution(self.rollout.reference_BN, self.rollout.k_B)

    def _get_per_token_logps_and_entropies(self, model, input_ids, attention_mask, logits_to_keep, *_, **__):
        """Log-probability of every pick, (R, K), of the current rollout, whose rows these are.

        The entropies are TRL's to log, which ours are not.
        """
        self.policy = self._policy(model)
        self.log_prob_BGK = self.policy.log_prob(self.rollout.picks)
        log_probs_RK = self.log_prob_BGK.flatten(0, 1)
        return log_probs_RK, torch.zeros_like(log_probs_RK), None

    def _compute_loss(self, model, inputs) -> torch.Tensor:
        """TRL's loss, plus the KL to the reference, less the entropy bonus."""
        loss = super()._compute_loss(model, inputs)
        config, picks, log_prob_BGK = self.grip, self.rollout.picks, self.log_prob_BGK
        old_RK = inputs.get("old_per_token_logps")
        old_BGK = log_prob_BGK.detach() if old_RK is None else old_RK.view_as(log_prob_BGK)
        if config.beta and config.kl_placement == "loss":
            if config.kl_estimator == "exact":
                kl_BG = exact_kl(self.policy, self._reference(), picks, log_prob_BGK, old_BGK)
            else:
                ordered = not self.policy.closed_form
                kl_BG = sampled_kl(config.kl_estimator, ordered, log_prob_BGK, inputs["reference_BGK"], picks)
            loss = loss + config.beta * kl_BG.mean()
        if config.entropy_coef:
            loss = loss - config.entropy_coef * exact_entropy(self.policy, picks, log_prob_BGK, old_BGK).mean()
        self._record_update(inputs, old_BGK)
        return loss * inputs["weight"]

    @torch.no_grad()
    def _record_update(self, inputs: dict[str, torch.Tensor], old_BGK: torch.Tensor) -> None:
        config, rollout, picks = self.grip, self.rollout, self.rollout.picks
        self.diagnostics |= update_diagnostics(
            self.log_prob_BGK.flatten(0, 1),
            old_BGK.flatten(0, 1),
            picks.mask_BGK.flatten(0, 1),
            inputs["advantages"],
            *clip_range(config),
            config.importance_level,
        )
        k_R = rollout.k_B.repeat_interleave(self.num_generations)
        n_B = rollout.context.visual_mask_BN.sum(1)
        maximum_B = maximum_entropy(config.distribution, rollout.k_B, n_B)
        self.diagnostics |= policy_diagnostics(
            self.policy.entropy(picks).flatten(0, 1),
            self.policy.kl(self._reference(), picks).flatten(0, 1),
            picks.mask_BGK.flatten(0, 1),
            k_R,
            maximum_B.repeat_interleave(self.num_generations),
        )

    def take_diagnostics(self) -> dict[str, float]:
        """What was recorded since the last call."""
        taken, self.diagnostics = self.diagnostics, {}
        return taken

    def create_model_card(self, *args, **kwargs) -> None:
        """None: TRL's takes as long as a few steps at every checkpoint, and a run folder says what it holds."""

    def training_step(self, *args, **kwargs):
        return self.stopwatch.timed("step", super().training_step, *args, **kwargs)


def clip_range(config: GrpoConfig) -> tuple[float, float]:
    """How far below and above 1 the loss lets ratios go. CISPO clips above alone, and names the ratio itself; SAPO and
    VESPO do not clip."""
    if config.loss_type in ("sapo", "vespo"):
        return 1.0, math.inf
    if config.loss_type == "cispo":
        return 1.0, config.epsilon_high - 1
    return config.epsilon, config.epsilon_high


def _no_reward(**_) -> list[float]:
    """TRL must be given a reward function; rewards are made where selections are drawn."""
    raise AssertionError("TRL's own scoring is not used")


def position_tokenizer(n_visual: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose words are the positions of visual tokens: TRL must have one, with a padding token."""
    vocabulary = {str(position): position for position in range(n_visual)}
    vocabulary |= {"<pad>": n_visual, "<eos>": n_visual + 1}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
