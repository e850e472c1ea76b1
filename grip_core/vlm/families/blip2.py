"""BLIP-2 and InstructBLIP: a fixed number of query tokens that a Q-Former fills from the image. With a Llama for the
language model, BLIP-2's is the architecture of MiniGPT-4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AddedToken, GenerationConfig, PreTrainedModel, ProcessorMixin

from grip_core.errors import UserError
from grip_core.vlm.attention import record_attention
from grip_core.vlm.frozen import FrozenVLM, Preprocessors, VisualFeatures
from grip_core.vlm.words import IMAGE_TOKEN


class Blip2VLM(FrozenVLM):
    """transformers' Blip2ForConditionalGeneration with a decoder for its language model.

    Raises UserError for an encoder-decoder such as T5.
    """

    def __init__(
        self, model: PreTrainedModel, processor: Preprocessors | ProcessorMixin, *given: Any, **more: Any
    ) -> None:
        text = model.config.text_config
        if not model.config.use_decoder_only_language_model:
            raise UserError(
                f"the language model of {model.config.model_type} must be a decoder, but is of type {text.model_type}; "
                "take a model with OPT, Llama or Vicuna"
            )
        tokenizer = processor.tokenizer
        if IMAGE_TOKEN not in tokenizer.get_vocab():  # as the stock processors do
            tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
        super().__init__(model, processor, *given, **more)

    @property
    def tokens_an_image(self) -> int:
        """One for each query."""
        return self.model.config.num_query_tokens

    @property
    def language_model(self) -> PreTrainedModel:
        return self.model.language_model.get_decoder()

    @property
    def generation_config(self) -> GenerationConfig | None:
        """The stock model has its language model generate, which ends OPT's answers at a line's end."""
        return self.model.language_model.generation_config

    def tokenized(self, question: str, layout: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """The image's tokens, then a text of its own with the tokenizer's first token."""
        head, after = self.text_around
        ids, own = self.pieces(head, question, after, special=True)
        image = torch.full((layout[0],), self.image_token_id)
        return torch.cat([image, ids]), torch.cat([torch.zeros_like(image, dtype=torch.bool), own])

    @property
    def text_around(self) -> tuple[str, str]:
        """What the template has before and after the question."""
        head, after = self.template.replace(self.placeholder, "").split("{question}")
        return head, after

    @torch.no_grad()
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Projected query tokens; the attention that each receives from all of them in the Q-Former's last layer, and
        its key there. They have no place in the image, and lie in one row."""
        inputs = self.processor.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        asked = self.question_inputs(questions)
        former, n = self.model.qformer, self.tokens_an_image
        last = former.encoder.layer[-1].attention.attention
        with record_attention(former, "mean", only=last, first=n) as recorder:
            features = self.model.get_image_features(inputs["pixel_values"].to(self.model.dtype), **asked)
        visual_BND = features.pooler_output
        columns_N = torch.arange(n, device=visual_BND.device)
        grid_N2 = torch.stack([torch.zeros_like(columns_N), columns_N], dim=1)
        return VisualFeatures(
            visual_BND,
            torch.ones(visual_BND.shape[:2], dtype=torch.bool, device=visual_BND.device),
            grid_N2.expand(len(visual_BND), -1, -1),
            recorder.rows_BT[0][:, :n],
            recorder.keys_BTE[0][:, :n],
        )

    def question_inputs(self, questions: Sequence[str] | None) -> dict[str, torch.Tensor]:
        """What the Q-Former is given of the questions."""
        return {}


class InstructBlipVLM(Blip2VLM):
    """transformers' InstructBlipForConditionalGeneration: its Q-Former reads the question."""

    reads_questions = True

    def question_inputs(self, questions: Sequence[str] | None) -> dict[str, torch.Tensor]:
        """Raises ValueError without questions."""
        if questions is None:
            raise ValueError("InstructBLIP's visual tokens depend on the question: give one for each image")
        head, after = self.text_around
        texts = [f"{head}{question}{after}" for question in questions]
        tokenizer = self.processor.qformer_tokenizer
        assert tokenizer is not None  # load_vlm reads it with the model
        longest = self.model.config.qformer_config.max_position_embeddings
        asked = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        asked = asked.to(self.model.device)
        return {"qformer_input_ids": asked["input_ids"], "qformer_attention_mask": asked["attention_mask"]}
