from __future__ import annotations

from grip_core.baselines.registry import known
from grip_core.evaluation.names import benchmark_label, label


def test_labels():
    assert label("grip") == "GRIP"
    assert all(label(name) == baseline.label for name, baseline in known().items())
    assert label("some_study") == "some study"
    assert benchmark_label("sort_of_clevr") == "Sort-of-CLEVR"
