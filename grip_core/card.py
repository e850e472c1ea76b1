"""The model card of a scorer, written from its run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from grip_core.errors import UserError

PAPER = "2605.13375"
LICENSE = "apache-2.0"


def model_card(run: Path, vlm: str, accuracy: Mapping[int, float], benchmarks: Sequence[str]) -> ModelCard:
    """A card for the scorer of a finished run that prunes `vlm`, with test accuracy by budget where it was measured.

    Raises UserError if the run is not finished.
    """
    status = run / "status.json"
    if not status.exists() or json.loads(status.read_text())["state"] != "finished":
        raise UserError(f"{run} must be a finished run, but is not; train it to its end first")
    config, environment = (json.loads((run / name).read_text()) for name in ("config.json", "environment.json"))
    data = ModelCardData(
        license=LICENSE,
        library_name="grip",
        base_model=None if Path(vlm).exists() else vlm,
        tags=["visual-token-pruning", "vision-language-model", "grpo", f"arxiv:{PAPER}"],
    )
    return ModelCard(f"---\n{data}\n---\n{_text(run, vlm, config, environment, accuracy, benchmarks)}")


def _text(
    run: Path,
    vlm: str,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    accuracy: Mapping[int, float],
    benchmarks: Sequence[str],
) -> str:
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    measured = "\n".join(f"| {k} | {100 * share:.1f} |" for k, share in sorted(accuracy.items()))
    grpo, schedule = config["grpo"], config["budgets"]
    rows = {
        "VLM": vlm,
        "budgets in training": f"{schedule['low']} to {schedule['high']} tokens, {schedule['schedule']}",
        "steps": grpo["steps"],
        "prompts a step": grpo["prompts_per_step"],
        "group size": grpo["group_size"],
        "KL weight": grpo["beta"],
        "learning rate": grpo["learning_rate"],
        "seed": config["seed"],
        "validation accuracy at the end": f"{100 * last['accuracy']:.1f} %" if "accuracy" in last else "not measured",
        "commit": environment["git_commit"],
        "torch": environment["packages"]["torch"],
        "transformers": environment["packages"]["transformers"],
    }
    return f"""# A visual-token pruner

A scorer that rates the visual tokens of `{vlm}` for a question and a budget. It was trained by GRPO straight on the
choice of tokens (GRIP-VLM, arXiv {PAPER}); the VLM itself is unchanged. One scorer serves every budget.

```python
from grip_core.model import GripModel

model = GripModel.from_pretrained("{vlm}", "path/or/hub-id/of/this/scorer")
print(model.generate([image], ["what is on the table ?"], keep_ratio=0.1))
```

## Training

| | |
|---|---|
{chr(10).join(f"| {name} | {value} |" for name, value in rows.items())}

## Accuracy

{_measured(measured, benchmarks)}
"""


def _measured(rows: str, benchmarks: Sequence[str]) -> str:
    if not rows:
        return "Not measured."
    of = f"On test questions of {', '.join(benchmarks)}, mean over the benchmarks:"
    return f"{of}\n\n| Kept tokens | % |\n|---|---|\n{rows}"
