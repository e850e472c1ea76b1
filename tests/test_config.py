"""params.yaml: what is accepted, and how each kind of mistake is told."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from grip_core.config import EMBEDDED_N, Params, check_budgets, load, parse
from grip_core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
WIDTH, HIGH = DEFAULTS["scorer"]["width"], DEFAULTS["budgets"]["high"]
EVERY = DEFAULTS["grpo"]["checkpoint_every"]
MISSING = object()


def _changed(key: str, value: object) -> dict:
    raw = copy.deepcopy(DEFAULTS)
    *sections, last = key.split(".")
    place = raw
    for section in sections:
        place = place[section]
    if value is MISSING:
        del place[last]
    else:
        place[last] = value
    return raw


def test_defaults_are_valid():
    params = load(ROOT / "params.yaml")
    check_budgets(params, EMBEDDED_N)
    assert params.model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "scorer.widht",
            16,
            "scorer.widht is not a known key, but got 16 for it; did you mean width? known here: heads, layers, width",
        ),
        (
            "budgets.zzz",
            1,
            (
                "budgets.zzz is not a known key, but got 1 for it; known here: bins, constant, direction, exploration, "
                "high, low, schedule, smoothing, stages, values, weights"
            ),
        ),
        (
            "pretrain.phases",
            [{"name": "vision", "step": 1, "steps": 1}],
            "pretrain.phases[0].step is not a known key, but got 1 for it; did you mean steps? known here: name, steps",
        ),
        ("grpo.seeds", MISSING, "grpo.seeds is missing; every key must be given"),
        ("vlm", MISSING, "vlm is missing; every key must be given"),
        (
            "vlm",
            None,
            (
                "vlm must hold the keys device, dtype, path, positions, processes, quantization, rows_per_forward, "
                "template, but got None"
            ),
        ),
        ("grpo.steps", True, "grpo.steps: input should be a valid integer, but got True"),
        ("grpo.steps", "600", "grpo.steps: input should be a valid integer, but got '600'"),
        ("grpo.steps", 0, "grpo.steps: input should be greater than or equal to 1, but got 0"),
        ("grpo.beta", float("nan"), "grpo.beta: input should be a finite number, but got nan"),
        (
            "grpo.learning_rate",
            yaml.safe_load("1e-3"),
            "grpo.learning_rate: input should be a valid number, but got '1e-3'; YAML takes it for text, write 0.001",
        ),
        ("evaluate.budgets", [4, -1], "evaluate.budgets[1]: input should be greater than or equal to 1, but got -1"),
        ("grpo.seeds", [0, 0], "grpo.seeds: no value may come twice, but got [0, 0]"),
        (
            "data.benchmarks",
            ["mnist"],
            (
                "data.benchmarks[0]: input should be 'easy_vqa', 'sort_of_clevr', 'digit_grids', 'pope', 'scienceqa', "
                "'ai2d', 'mme', 'ocrbench' or 'textvqa', but got 'mnist'"
            ),
        ),
        ("scorer.heads", 5, f"scorer: heads must divide width, but got heads=5 and width={WIDTH}"),
        ("budgets.low", 100, f"budgets: low must be at most high, but got low=100 and high={HIGH}"),
        (
            "budgets",
            {**DEFAULTS["budgets"], "schedule": "mixture", "values": [1, 40, 2]},
            "budgets: values must lie between low=1 and high=36, but got 40",
        ),
        (
            "budgets",
            {**DEFAULTS["budgets"], "schedule": "constant", "constant": 37},
            "budgets: constant must lie between low=1 and high=36, but got 37",
        ),
        (
            "budgets.weights",
            [1.0],
            "budgets: weights must be one for each of the 3 values and not all 0, but got [1.0]",
        ),
        (
            "grpo.loss_type",
            "luspo",
            "grpo: importance_level must be sequence for loss_type=luspo, but got token",
        ),
        (
            "grpo.loss_type",
            "cispo",
            (
                "grpo: epsilon_high must be at least 1 for loss_type=cispo, which clips the ratio itself there, "
                "but got 0.2"
            ),
        ),
        (
            "grpo",
            {**DEFAULTS["grpo"], "kl_placement": "reward"},
            (
                "grpo: kl_estimator must be k1 for kl_placement=reward, but got k3: k2 and k3 do not lead to the "
                "reference from there, and exact is one number for a whole group, which cancels"
            ),
        ),
        (
            "grpo.distribution",
            "bernoulli",
            (
                "grpo: loss_type must not be a mean over a selection's picks for distribution=bernoulli, whose "
                "selections differ in size, but got grpo; take dapo or bnpo"
            ),
        ),
        (
            "grpo.reward.log_prob",
            0.0,
            "grpo.reward: at least one of log_prob, correct, fidelity and gain must be above 0, but all are 0",
        ),
        (
            "grpo.reward.clip_high",
            -30.0,
            "grpo.reward: clip_low must be below clip_high, but got clip_low=-20.0 and clip_high=-30.0",
        ),
        (
            "grpo.num_iterations",
            7,
            f"grpo: checkpoint_every must be a multiple of num_iterations=7, but got checkpoint_every={EVERY}",
        ),
        (
            "features.images",
            {"train": 1000, "validation": 101, "test": 100},
            "features.images.validation must be at most data.images.validation=100, but got 101",
        ),
        (
            "features.images",
            {"train": 1000, "validation": 50, "test": 1},
            "features: images.test must be at least 2, which an interval needs, but got 1",
        ),
        (
            "features.questions_per_image",
            5,
            "features.questions_per_image must be at most data.questions_per_image.validation=4, but got 5",
        ),
        (
            "grpo.validation_questions",
            201,
            (
                "grpo.validation_questions must be at most the 200 validation questions a benchmark has in features, "
                "but got 201"
            ),
        ),
        (
            "report.example_budget",
            3,
            "report.example_budget must be one of evaluate.budgets [1, 2, 4, 7, 14, 36, 72, 144], but got 3",
        ),
    ],
)
def test_mistake_is_told_in_one_line(key, value, message):
    with pytest.raises(UserError) as caught:
        parse(Params, _changed(key, value), "params.yaml")
    assert str(caught.value) == f"params.yaml: {message}"


def test_every_mistake_has_its_line():
    raw = _changed("grpo.steps", 0)
    raw["scorer"]["layers"] = 0
    with pytest.raises(UserError) as caught:
        parse(Params, raw, "params.yaml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["scorer.layers", "grpo.steps"]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("budgets.high", 145, "budgets.high"),
        ("evaluate.budgets", [7, 145], "evaluate.budgets[1]"),
    ],
)
def test_budget_above_number_of_tokens(key, value, name):
    params = parse(Params, _changed(key, value), "params.yaml")
    with pytest.raises(UserError) as caught:
        check_budgets(params, 144)
    expected = f"params.yaml: {name} must be at most the number of visual tokens (144), but got 145; lower it"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"data: [1, 2", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        (b"", "must hold the keys budgets, data"),
        (b"- 1", "must hold the keys budgets, data"),
    ],
)
def test_unreadable_content(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}")
    assert "\n" not in str(caught.value)


def test_unreadable_path(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; run from the repository's root"):
        load(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_settings_cannot_be_changed():
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.grpo.steps = 1


def test_stage_ends_with_code_2_and_no_traceback(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(_changed("data.seed", -1)))
    command = [sys.executable, "-m", "pipeline.prepare", "--params", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {path}: data.seed: input should be greater than or equal to 0, but got -1\n"
    assert done.stdout == ""
