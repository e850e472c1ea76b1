"""A pruned vision-language model that a user can keep: a frozen VLM, and a trained scorer that decides what it reads.

    model = GripModel.from_pretrained("llava-hf/llava-1.5-7b-hf", "my-scorer")
    model.generate([image], ["What is on the table?"], keep_ratio=0.1)

The scorer is saved as the Hub has it (`config.json`, `model.safetensors`), so that `model.scorer.push_to_hub` works.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from PIL import Image

from grip_core.data.decode import BadImage, decoded
from grip_core.errors import BadSample, UserError
from grip_core.policy.saved import read_scorer, trained_with
from grip_core.policy.scorer import Scorer
from grip_core.vlm.assemble import Positions
from grip_core.vlm.context import Context, Selection, top_k
from grip_core.vlm.frozen import FrozenVLM
from grip_core.vlm.load import load_vlm

Picture = Image.Image | np.ndarray | str | PathLike[str]


class GripModel:
    """Answers from the visual tokens that the scorer rates best, as many as are asked for at each call.

    Raises UserError if the scorer was trained for a model of another width.
    """

    def __init__(self, vlm: FrozenVLM, scorer: Scorer) -> None:
        width = vlm.embed.weight.shape[1]
        if scorer.config.input_width != width:
            raise UserError(
                f"the scorer must be one for visual tokens of the VLM's width {width}, but it is for "
                f"{scorer.config.input_width}; take the scorer that was trained with this VLM"
            )
        self.vlm = vlm
        self.scorer = scorer.eval().to(vlm.device)

    @classmethod
    def from_pretrained(
        cls,
        vlm: str,
        scorer: str,
        *,
        positions: Positions | None = None,
        template: str | None = None,
        dtype: str | torch.dtype = "float32",
        device: str = "auto",
        quantization: str = "none",
    ) -> GripModel:
        """From folders or hub ids; the rest is as `vlm` in params.yaml. `positions` and `template` are by default those
        that the scorer was trained with. Raises UserError if one cannot be read."""
        rates = read_scorer(scorer)
        trained = trained_with(rates)
        positions = positions or trained.get("positions", "original")
        template = template or trained.get("template")
        return cls(load_vlm(vlm, positions, dtype, device, quantization, template), rates)

    @torch.inference_mode()
    def generate(
        self,
        images: Sequence[Picture],
        text: Sequence[str],
        *,
        keep_ratio: float | None = None,
        keep: int | None = None,
        max_new_tokens: int = 64,
    ) -> list[str]:
        """Greedy answers to one question about each image, from a share or a number of its visual tokens.

        With a ratio, of images with N tokens ceil(keep_ratio * N) are kept. Raises ValueError unless exactly one of the
        two is given, and within its range, and UserError for what is no image and if the GPU's memory is too small.
        """
        try:
            context = self.vlm.encode([pixels(image) for image in images], list(text), [""] * len(text))
            selection = self.select(context, keep_ratio, keep)
            ids_RS = self.vlm.generate(context, selection, max_new_tokens)
        except torch.OutOfMemoryError:
            raise UserError(
                f"the GPU's memory must hold {len(images)} images with their answers, but does not; give fewer at a "
                "time, or take dtype bfloat16"
            ) from None
        return [
            answer.strip() for answer in self.vlm.processor.tokenizer.batch_decode(ids_RS, skip_special_tokens=True)
        ]

    @torch.inference_mode()
    def select(self, context: Context, keep_ratio: float | None = None, keep: int | None = None) -> Selection:
        """What is kept of prompts that are already encoded; see `generate`."""
        k_B = budgets(context.visual_mask_BN.sum(1), keep_ratio, keep)
        return top_k(self.scorer(context, k_B), k_B)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Save the scorer; the VLM stays where it is."""
        self.scorer.save_pretrained(folder)


def budgets(n_B: torch.Tensor, keep_ratio: float | None, keep: int | None) -> torch.Tensor:
    """Tokens to keep of each image, int64 (B,), of `n_B` that it has. Raises ValueError as `generate` does."""
    if (keep_ratio is None) == (keep is None):
        raise ValueError("exactly one of keep_ratio and keep must be given")
    if keep_ratio is not None:
        if not 0 < keep_ratio <= 1:
            raise ValueError(f"keep_ratio must be above 0 and at most 1, but got {keep_ratio}")
        # A ratio such as 0.1 of 30 tokens is 3, not the 4 of 3.0000000000000004.
        return (keep_ratio * n_B.double() - 1e-9).ceil().long().clamp(min=1)
    if keep is None or keep < 1:
        raise ValueError(f"keep must be at least 1, but got {keep}")
    return torch.full_like(n_B, keep).minimum(n_B)


def pixels(image: Picture) -> np.ndarray:
    """An image, or the file of one, as uint8 (height, width, 3).

    Raises BadSample if there is no such file or it holds no image, and ValueError for an array of another shape.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"an array must be uint8 of shape (height, width, 3), but got {image.dtype} {image.shape}")
        return image
    try:
        return decoded(image)
    except BadImage as error:
        raise BadSample(
            f"{image} cannot be read as an image: {error}; take a file that an image viewer shows"
        ) from None
