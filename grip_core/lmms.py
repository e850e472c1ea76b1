"""A pruned model for lmms-eval, whose tasks have the benchmarks' official scores. With `pip install lmms-eval`:

    python -m lmms_eval --model grip --tasks pope --batch_size 8 \\
        --model_args vlm=llava-hf/llava-1.5-7b-hf,scorer=my-scorer,keep_ratio=0.1,dtype=bfloat16

lmms-eval finds it by the entry point in pyproject.toml.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from tqdm import tqdm

from grip_core.errors import BadSample, UserError
from grip_core.model import GripModel, Picture, pixels

MANIFEST = ModelManifest("grip", simple_class_path="grip_core.lmms.Grip")
NEW_TOKENS = 64
MAX_BAD = 100
Question = tuple[Picture, str, dict[str, Any]]
"""An image, a text, and how its answer is wanted."""


class Grip(lmms):
    """Greedy answers from the visual tokens that a scorer keeps. Questions have one image each.

    `vlm` and `scorer` are folders or hub ids; the rest is as `vlm` has it in params.yaml, `positions` and `template` by
    default as the scorer was trained with. Up to `max_bad` questions that cannot be used, such as one that is too long
    for the model, are answered with nothing.
    """

    def __init__(
        self,
        vlm: str,
        scorer: str,
        keep_ratio: float = 0.1,
        positions: Any = None,
        template: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
        quantization: str = "none",
        max_bad: int = MAX_BAD,
        batch_size: int | str = 1,
        max_batch_size: Any = None,
    ) -> None:
        super().__init__()
        if not str(batch_size).isdigit():
            raise UserError(f"--batch_size must be a number, but got {batch_size}; --max_batch_size is not read")
        self.keep_ratio, self.batch_size = float(keep_ratio), int(batch_size)
        self.max_bad, self.bad = int(max_bad), 0
        self.model = GripModel.from_pretrained(
            vlm,
            scorer,
            positions=positions,
            template=template,
            dtype=dtype,
            device=device,
            quantization=quantization,
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of the requests, each cut off before the first of its stop words."""
        answers: list[str] = []
        for start in tqdm(range(0, len(requests), self.batch_size), desc="answers"):
            part = [self._read(request) for request in requests[start : start + self.batch_size]]
            # A task's answers are as long as it allows, whatever task comes next.
            for new, alike in groupby(part, key=lambda question: question[2].get("max_new_tokens", NEW_TOKENS)):
                answers += self._answers(list(alike), new)
        return answers

    def _read(self, request: Instance) -> Question:
        text, options, to_visual, document, task, split = request.args
        images = to_visual(self.task_dict[task][split][document])
        if len(images) != 1:
            raise ValueError(f"a question must have one image, but one of {task} has {len(images)}")
        return images[0], text.replace("<image>", "").strip(), options

    def _answers(self, asked: list[Question], new: int) -> list[str]:
        images, texts, wanted = zip(*asked, strict=True)
        try:
            given = [pixels(image) for image in images]
            found = self.model.generate(given, texts, keep_ratio=self.keep_ratio, max_new_tokens=new)
        except BadSample as error:
            if len(asked) > 1:
                return [answer for one in asked for answer in self._answers([one], new)]
            self.bad += 1
            if self.bad > self.max_bad:
                raise UserError(
                    f"max_bad={self.max_bad} questions may be unusable, but here is one more: {error}"
                ) from None
            print(f"question {self.bad} of at most {self.max_bad} that cannot be used: {error}")
            return [""]
        return [_before(answer, options.get("until")) for answer, options in zip(found, wanted, strict=True)]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not there: the tasks for which this model is meant ask for answers."""
        raise NotImplementedError("grip answers tasks of the kind generate_until only")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not there, as `loglikelihood`."""
        raise NotImplementedError("grip answers tasks of the kind generate_until only")


def _before(answer: str, stops: str | list[str] | None) -> str:
    for stop in [stops] if isinstance(stops, str) else stops or []:
        answer = answer.split(stop)[0] if stop else answer
    return answer.strip()
