from __future__ import annotations

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
