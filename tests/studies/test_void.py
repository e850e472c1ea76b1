"""Settings that cannot matter, as a study's user is told of them."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from grip_core.errors import UserError
from grip_core.rl.void import Axis
from studies.definition import Definition, Dimension, load_definition
from studies.launch import launch
from studies.preview import preview
from studies.profile import Profile
from studies.void import axis, void_settings
from tests.studies.conftest import ROOT, toy

PROFILE = Profile(cluster="local", workers=1)
EPSILON = {"low": 0.1, "high": 0.3}
PENALTY = {"choices": [0.5, 1.0]}
BASELINE = {"choices": ["mean", "leave_one_out"]}


def study(space: dict[str, Any], **changes: Any) -> Definition:
    """A study of GRPO runs."""
    return toy(space=space, trainable="studies.training:Training", **changes)


def test_a_launch_refuses_all_void_keys_a_line_each(params, tmp_path):
    definition = study({"grpo.epsilon": EPSILON, "grpo.budget_penalty": PENALTY, "grpo.baseline": BASELINE})
    with pytest.raises(UserError) as error:
        launch(tmp_path, definition, params, PROFILE, None, [])
    lines = str(error.value).splitlines()
    assert [line.split(" makes ")[0] for line in lines] == ["toy: space.grpo.epsilon", "toy: space.grpo.budget_penalty"]
    assert not list(tmp_path.iterdir())


def test_a_launch_warns_and_goes_on(params, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where there are no outputs of the pipeline, which are looked for next
    with pytest.raises(UserError, match="needs the pipeline's outputs"):
        launch(tmp_path, study({"grpo.baseline": BASELINE}), params, PROFILE, None, [])
    assert capsys.readouterr().err.startswith("warning: toy: space.grpo.baseline makes hardly a difference: ")


def test_a_preview_shows_both_and_then_refuses(params, tmp_path):
    console = Console(record=True, width=200)
    definition = study({"grpo.epsilon": EPSILON, "grpo.baseline": BASELINE})
    with pytest.raises(UserError, match=r"^toy: space\.grpo\.epsilon"):
        preview(console, tmp_path, definition, params, PROFILE)
    shown = console.export_text()
    assert "refuses │ grpo.epsilon" in shown
    assert "warns   │ grpo.baseline" in shown


def test_a_preview_of_a_sound_space_has_no_such_table(params, tmp_path):
    console = Console(record=True, width=200)
    preview(console, tmp_path, study({"grpo.entropy_coef": EPSILON}), params, PROFILE)
    assert "Void" not in console.export_text()


def test_conditions_and_the_params_of_all_trials_count(params):
    conditional = {
        "grpo.num_iterations": {"choices": [1, 2]},
        "grpo.epsilon": EPSILON | {"when": {"grpo.num_iterations": [2]}},
    }
    assert not void_settings(study(conditional), params)
    assert not void_settings(study({"grpo.epsilon": EPSILON}, params={"grpo.num_iterations": 2}), params)
    (finding,) = void_settings(study(conditional | {"grpo.epsilon": EPSILON}), params)
    assert finding.remedy == "search it only `when: {grpo.num_iterations: [2]}`"


def test_trials_that_are_no_grpo_runs_are_not_judged(params):
    assert not void_settings(toy(space={"grpo.epsilon": EPSILON}), params)


def test_nothing_is_wrong_with_the_shipped_search(params):
    assert not void_settings(load_definition(ROOT / "studies" / "search.yaml"), params)


@pytest.mark.parametrize(
    ("dimension", "wanted"),
    [
        ({"choices": [1, 2]}, Axis((1, 2))),
        ({"low": 0.0, "high": 0.75}, Axis((0.25, 0.5), finite=False)),  # 0 itself is never drawn
        ({"low": 1, "high": 36}, Axis((1, 18, 36), finite=False)),
        ({"low": 1, "high": 2}, Axis((1, 2), finite=False)),
    ],
)
def test_ranges_are_stood_for_by_values_that_may_be_drawn(dimension, wanted):
    assert axis(Dimension(**dimension)) == wanted
