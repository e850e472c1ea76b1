"""Void settings change nothing: both arms of every case are run, where they are void and where they matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers.trainer_utils import SaveStrategy

from grip_core.policy.budgets import make_schedule
from grip_core.rl.rewards import Scored, reward
from grip_core.rl.train import Task, train
from grip_core.runs import RunFolder
from grip_core.seeds import torch_generator
from grip_core.vlm.frozen import AnswerScores
from tests.rl.conftest import configs, make_scorer
from tests.rl.void_cases import CLIPPED, DRAWN, TRAINED, WATCHED, Settings, named

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def trained(build, llava, store):
    """The log-probabilities of each first pick by the trained policy, at two budgets.

    Not its parameters: some do nothing, as a bias that is added to all scores, and Adam follows their rounding noise.
    """
    known: dict[str, torch.Tensor] = {}

    def policy(changes: Settings) -> torch.Tensor:
        name = str(configs(changes))
        if name not in known:
            rollouts = {"grpo.steps": 2 * changes.get("grpo.num_iterations", 1), "grpo.lr_warmup_steps": 0}
            trainer = build({**rollouts, "grpo.lr_schedule": "constant", **changes})
            trainer.args.save_strategy = SaveStrategy.NO
            trainer.train()
            context = store.context(llava.vlm, np.arange(len(store)))
            with torch.no_grad():
                scores = [trainer.model.eval()(context, torch.full((len(store),), k)) for k in (2, 9)]
            known[name] = torch.stack(scores).log_softmax(-1)
        return known[name]

    return policy


@named(TRAINED)
def test_void_arms_end_in_one_policy_and_others_do_not(case, trained):
    start = trained({"grpo.learning_rate": 1e-12})
    inside = [trained({**case.inside, **arm}) for arm in (case.first, case.second)]
    assert (inside[0] - start).abs().max() > 0.1
    assert (inside[0] - inside[1]).abs().max() < 1e-3
    outside = [trained({**case.outside, **arm}) for arm in (case.first, case.second)]
    assert (outside[0] - outside[1]).abs().max() > 1e-2


def drawn(changes: Settings) -> torch.Tensor:
    """The budgets of a run whose rewards vary more at some budgets than at others."""
    schedule = make_schedule(configs(changes)[1])
    state, budgets = schedule.initial(), []
    for step in range(8):
        k_B = schedule.sample(state, step, 8, 32, torch_generator(0, "budget", step))
        state = schedule.update(state, k_B, (1 + step) * (k_B - 4.0).abs())
        budgets.append(k_B)
    return torch.cat(budgets)


@named(DRAWN)
def test_void_arms_draw_the_same_budgets_and_others_do_not(case):
    assert torch.equal(*(drawn({**case.inside, **arm}) for arm in (case.first, case.second)))
    assert not torch.equal(*(drawn({**case.outside, **arm}) for arm in (case.first, case.second)))


@named(CLIPPED)
def test_void_clips_leave_every_reward_alone_and_others_do_not(case):
    answers = AnswerScores(
        torch.tensor([-9.0, -2.0, -0.5, 0.0]),
        torch.tensor([False, False, True, True]),
        torch.tensor([4.0, 1.0, 0.5, 0.0]),
    )
    scored = Scored(answers, torch.full((4,), -3.0))

    def rewards(changes: Settings) -> torch.Tensor:
        return reward(configs(changes)[0].reward, scored)

    assert torch.equal(*(rewards({**case.inside, **arm}) for arm in (case.first, case.second)))
    assert not torch.equal(*(rewards({**case.outside, **arm}) for arm in (case.first, case.second)))


@named(WATCHED)
def test_what_only_watches_changes_no_weight(case, llava, store, tmp_path):
    def weights(name: str, changes: Settings) -> torch.Tensor:
        grpo, budgets = configs({"grpo.steps": 4, **changes})
        accuracy = itertools.count(0.9, -0.1)

        def falling(*_) -> dict[str, float]:
            return {"accuracy": next(accuracy)}

        run = RunFolder(tmp_path / name, {})
        scorer = train(grpo, budgets, 3, Task(llava.vlm, store, make_scorer()), falling, run)
        return torch.nn.utils.parameters_to_vector(scorer.parameters())

    assert torch.equal(weights("a", {**case.inside, **case.first}), weights("b", {**case.inside, **case.second}))
    if case.outside:
        arms = ({**case.outside, **arm} for arm in (case.first, case.second))
        assert not torch.equal(*(weights(f"outside-{i}", arm) for i, arm in enumerate(arms)))
