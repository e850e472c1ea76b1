"""What the two training stages share: opening what a run reads."""

from __future__ import annotations

from grip_core.config import Params, check_budgets
from grip_core.places import FEATURES
from grip_core.rl.inputs import Inputs, open_inputs
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import configured_vlm


def load_inputs(params: Params) -> Inputs[FrozenVLM]:
    """Open the VLM and the caches; budgets are checked against the number of visual tokens."""
    inputs = open_inputs(
        configured_vlm(params.vlm),
        FEATURES,
        params.data.trained_on,
        params.evaluate.budgets,
        params.evaluate.headline_share,
        params.grpo.validation_questions,
    )
    check_budgets(params, inputs.train.n_visual)
    return inputs
