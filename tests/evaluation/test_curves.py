from __future__ import annotations

import json

from grip_core.evaluation.curves import read_curves


def test_curves_are_tidy_and_named_by_run(tmp_path):
    for name, text in {"a": '{"step": 0, "accuracy": 0.5}\n{"step": 1, "kl": 2, "reward": -1.0}\n', "b": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(text)
    table = read_curves({"seed-0": tmp_path / "a", "warmup": tmp_path / "b"})
    assert table.to_numpy().tolist() == [
        ["seed-0", 0, "accuracy", 0.5],
        ["seed-0", 1, "kl", 2.0],
        ["seed-0", 1, "reward", -1.0],
    ]


def test_single_budgets_are_kept_of_what_is_validated_alone(tmp_path):
    kept = ["accuracy@1", "accuracy@1/easy_vqa", "log_prob@4", "sampled_accuracy@4", "sampled_log_prob@4", "overlap"]
    left_out = ["reward@1", "reward_std@2-3", "dead_share@4-7", "overlap@1", "entropy@1", "kl@8-15"]
    row = {"step": 3, **dict.fromkeys(kept + left_out, 0.5)}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert read_curves({"seed-0": tmp_path})["metric"].tolist() == kept


def test_a_collapse_is_a_metric_at_its_step(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "kl": 2.0}\n')
    (tmp_path / "collapse.json").write_text('{"step": 7, "cause": "kl"}')
    assert read_curves({"seed-0": tmp_path}).to_numpy().tolist() == [
        ["seed-0", 7, "kl", 2.0],
        ["seed-0", 7, "collapse_kl", 1.0],
    ]
