"""Training by GRPO, and the combinations of its settings that are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from grip_core.config.collapse import CollapseConfig
from grip_core.config.items import FilterConfig
from grip_core.config.reward import RewardConfig
from grip_core.config.section import Count, NonNegative, Rate, Section, Seed, Several

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


class GrpoConfig(Section):
    """Training by GRPO."""

    seeds: Annotated[list[Seed], *Several]
    steps: Count
    """Optimizer steps; every rollout serves `num_iterations` of them."""
    prompts_per_step: Count
    group_size: Annotated[int, Field(ge=2)]
    num_iterations: Count
    """mu: updates per rollout."""
    distribution: Literal["plackett_luce", "conditional_bernoulli", "bernoulli"]
    """What selections are drawn from; grip_core/policy/distribution.py."""
    start: Literal["warmup", "untrained"]
    """The scorer that training begins with, and that the KL anchors to."""
    budget_penalty: NonNegative
    """bernoulli: reward lost per token kept beyond or below the budget, as a share of the budget."""
    learning_rate: Rate
    lr_schedule: Literal["constant", "linear", "cosine"]
    """After the warm-up of `lr_warmup_steps`."""
    lr_warmup_steps: Annotated[int, Field(ge=0)]
    beta: NonNegative
    """Weight of the KL to the warm-up reference: per pick in the loss, whose policy term is per pick too, or of the
    whole selection in the reward."""
    kl_estimator: Literal["k1", "k2", "k3", "exact"]
    kl_placement: Literal["loss", "reward"]
    entropy_coef: NonNegative
    """Weight of the bonus for entropy, nats per pick."""
    loss_type: LossType
    importance_level: Literal["token", "sequence"]
    """Whether probability ratios are taken per pick or per selection (GSPO)."""
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Ratios are clipped below at 1 - epsilon ..."""
    epsilon_high: Annotated[float, Field(gt=0.0)]
    """... and above at 1 + epsilon_high; cispo: at epsilon_high itself."""
    max_grad_norm: Annotated[float, Field(gt=0.0)]
    baseline: Literal["mean", "leave_one_out"]
    """What is taken off a reward: its group's mean, or the mean of the others of its group (RLOO)."""
    scale_rewards: Literal["group", "batch", "none"]
    std_floor: NonNegative
    """The least that advantages are divided by, in units of the reward."""
    min_std: NonNegative
    """A group whose reward std is at most this is dead: it carries no signal."""
    dead_groups: Literal["keep", "drop", "resample"]
    """keep: no advantage, but the KL in the loss and the entropy bonus count. drop: out of the loss; where all are, the
    gradient is zero, though the optimizer's momentum goes on. resample: another prompt takes its place once, at its
    budget; what is dead even then is dropped."""
    reward: RewardConfig
    filter: FilterConfig
    evaluate_every: Count
    """Optimizer steps between evaluations of the mode on validation questions."""
    validation_questions: Count
    """Per benchmark."""
    checkpoint_every: Count
    collapse: CollapseConfig

    @model_validator(mode="after")
    def _checkpoints_at_rollouts(self):
        for name in ("checkpoint_every", "evaluate_every", "steps"):
            value = getattr(self, name)
            if value % self.num_iterations:
                raise ValueError(
                    f"{name} must be a multiple of num_iterations={self.num_iterations}, but got {name}={value}"
                )
        return self

    @model_validator(mode="after")
    def _loss_has_its_level(self):
        """TRL only warns of these, and computes something else than the papers do."""
        level = {"luspo": "sequence", "vespo": "token", "bnpo": "token", "dr_grpo": "token", "dapo": "token"}
        level["cispo"] = "token"
        wanted = level.get(self.loss_type, self.importance_level)
        if self.importance_level != wanted:
            raise ValueError(
                f"importance_level must be {wanted} for loss_type={self.loss_type}, but got {self.importance_level}"
            )
        if self.loss_type == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"epsilon_high must be at least 1 for loss_type=cispo, which clips the ratio itself there, but got "
                f"{self.epsilon_high}"
            )
        return self

    @model_validator(mode="after")
    def _kl_in_the_reward_is_k1(self):
        """There only its value counts, not its gradient: that of k2 and k3 pulls towards nothing (see k1)."""
        if self.beta and self.kl_placement == "reward" and self.kl_estimator != "k1":
            raise ValueError(
                f"kl_estimator must be k1 for kl_placement=reward, but got {self.kl_estimator}: k2 and k3 do not lead "
                "to the reference from there, and exact is one number for a whole group, which cancels"
            )
        return self

    @model_validator(mode="after")
    def _sizes_do_not_weigh(self):
        """A mean over the picks of each selection weighs it by 1 / size, which is biased where the size is drawn."""
        if self.distribution == "bernoulli" and self.loss_type in ("grpo", "sapo"):
            raise ValueError(
                f"loss_type must not be a mean over a selection's picks for distribution=bernoulli, whose selections "
                f"differ in size, but got {self.loss_type}; take dapo or bnpo"
            )
        return self
