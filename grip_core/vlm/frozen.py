"""A frozen VLM behind one interface. A family is a subclass that says how its images become tokens and positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from grip_core.vlm.assemble import Assembled, Positions, assemble
from grip_core.vlm.attention import record_attention
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.inside import apply_cuts


@dataclass(frozen=True)
class Preprocessors:
    """The two parts of a processor that are used here; a transformers processor serves as well."""

    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor


@dataclass(frozen=True)
class VisualFeatures:
    """What the vision side gives for B images; it does not depend on the question, so it can be cached."""

    visual_BND: torch.Tensor
    visual_mask_BN: torch.Tensor
    grid_BN2: torch.Tensor
    encoder_attention_BN: torch.Tensor
    encoder_key_BNE: torch.Tensor

    def rows(self, index: torch.Tensor) -> VisualFeatures:
        return VisualFeatures(**{item.name: getattr(self, item.name)[index] for item in fields(self)})


@dataclass(frozen=True)
class AnswerScores:
    """How the model takes to the gold answer, one value per row."""

    log_prob_R: torch.Tensor
    """Mean log-probability of the answer's tokens, teacher-forced, in nats; <= 0."""
    correct_R: torch.Tensor
    """True where greedy decoding begins with the gold answer's tokens; what it says after them is not looked at."""
    kl_R: torch.Tensor | None = None
    """KL(every token kept || selection) of the answer's tokens, mean, in nats; only where it was asked for."""


class FrozenVLM(ABC):
    """A vision-language model that is never trained.

    `template` is the prompt around "{question}", with the family's image placeholder in it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Preprocessors | ProcessorMixin,
        template: str,
        positions: Positions = "original",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.template = template
        self.positions = positions
        self.embed = model.get_input_embeddings()
        self._prompts: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._answers: dict[str, torch.Tensor] = {}

    # What a family implements ------------------------------------------------------------------------------------

    @abstractmethod
    def visual_features(self, images: Sequence[np.ndarray]) -> VisualFeatures:
        """Visual tokens of uint8 (H, W, 3) images, as the language model takes them."""

    @abstractmethod
    def prompt_positions(self, input_ids_BT, attention_mask_BT, features: VisualFeatures) -> torch.Tensor:
        """Position ids of the full prompts, (P, B, T)."""

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """The decoder that reads embeddings."""

    @property
    @abstractmethod
    def image_token_id(self) -> int:
        """The placeholder that stands for one visual token."""

    @property
    def device(self) -> torch.device:
        """Where the model lies, and with it a context's tensors."""
        return self.model.device

    # What methods call -------------------------------------------------------------------------------------------

    def encode(self, images: Sequence[np.ndarray], questions: Sequence[str], answers: Sequence[str]) -> Context:
        """Prompts from raw images and texts. Raises ValueError when the numbers of images and texts differ."""
        if not len(images) == len(questions) == len(answers):
            raise ValueError(
                f"as many images as questions and answers are needed, but got {len(images)}, {len(questions)} and "
                f"{len(answers)}"
            )
        return self.context(self.visual_features(images), questions, answers)

    @torch.no_grad()
    def context(self, features: VisualFeatures, questions: Sequence[str], answers: Sequence[str]) -> Context:
        """Prompts from visual tokens that are already computed.

        What methods read of it is in float32, whatever the model computes in.
        """
        n_visual_B = features.visual_mask_BN.sum(1).tolist()
        texts = [self._prompt_ids(*key) for key in zip(questions, n_visual_B, strict=True)]
        prompts = [ids for ids, _ in texts]
        input_ids, mask = _pad(prompts, left=True)
        total = input_ids.shape[1]
        question, question_mask = _pad([ids for _, ids in texts], left=False)
        answer, answer_mask = _pad([self._answer_ids(answer) for answer in answers], left=False)
        device = features.visual_BND.device
        slots = torch.zeros(features.visual_mask_BN.shape, dtype=torch.long)
        for b, ids in enumerate(prompts):
            places = (ids == self.image_token_id).nonzero()[:, 0] + total - len(ids)
            slots[b, : len(places)] = places
        input_ids, mask, question = input_ids.to(device), mask.to(device), question.to(device)
        return Context(
            visual_BND=features.visual_BND.float(),
            visual_mask_BN=features.visual_mask_BN,
            grid_BN2=features.grid_BN2,
            encoder_attention_BN=features.encoder_attention_BN.float(),
            encoder_key_BNE=features.encoder_key_BNE.float(),
            question_BLD=self.embed(question).float(),
            question_mask_BL=question_mask.to(device),
            input_ids_BT=input_ids,
            attention_mask_BT=mask,
            positions_PBT=self.prompt_positions(input_ids, mask, features),
            visual_slot_BN=slots.to(device),
            answer_ids_BA=answer.to(device),
            answer_mask_BA=answer_mask.to(device),
        )

    def _prompt_ids(self, question: str, n_visual: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of the full prompt and of the question's own tokens; kept, as training asks the same of many images."""
        key = (question, n_visual)
        if key not in self._prompts:
            before, after = self.template.split("{question}")
            placeholder = str(self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id))
            head = before.replace(placeholder, placeholder * n_visual, 1)
            # In one piece, as the stock processor: pieces would tokenise otherwise where they meet.
            encoded = self.processor.tokenizer(
                head + question + after, add_special_tokens=False, return_offsets_mapping=True
            )
            first, last = len(head), len(head) + len(question)
            own = [start < last and stop > first for start, stop in encoded.offset_mapping]
            ids = torch.tensor(encoded.input_ids)
            self._prompts[key] = ids, ids[torch.tensor(own)]
        return self._prompts[key]

    def _answer_ids(self, answer: str) -> torch.Tensor:
        if answer not in self._answers:
            self._answers[answer] = torch.tensor(self.processor.tokenizer(answer, add_special_tokens=False).input_ids)
        return self._answers[answer]

    @torch.inference_mode()
    def logits(self, context: Context, selection: Selection | None = None) -> torch.Tensor:
        """Logits (R, A, V) that predict the gold answer's tokens, teacher-forced, from the kept visual tokens.

        `selection=None` keeps every token.
        """
        return self.forward_logits(context, Selection.all(context) if selection is None else selection)

    def forward_logits(self, context: Context, selection: Selection) -> torch.Tensor:
        """`logits`, but open to autograd (the visual tokens may require gradients)."""
        answers_RA = context.answer_ids_BA[selection.prompt_R]
        inputs = assemble(context, selection, self.embed, self.positions, answers_RA[:, :-1])
        with apply_cuts(self.language_model, context.n_visual, selection, inputs):
            hidden_RSD = self.hidden_states(inputs)
        return self.model.get_output_embeddings()(hidden_RSD[:, -answers_RA.shape[1] :])

    def hidden_states(self, inputs: Assembled) -> torch.Tensor:
        """What the decoder's last layer gives, (R, S, D), after the final norm."""
        return self.language_model(
            inputs_embeds=inputs.embeds_RSD,
            attention_mask=inputs.attention_mask_RS.long(),
            position_ids=self._position_ids(inputs),
            use_cache=False,
        ).last_hidden_state

    def answer_scores(
        self, context: Context, selection: Selection | None = None, with_kl: bool = False
    ) -> AnswerScores:
        """Gold answer's mean log-probability and exact-match correctness for every row of `selection`.

        `with_kl` adds the KL to the full model's answer, for which the full model is run once a context.
        """
        selection = Selection.all(context) if selection is None else selection
        prompt_R = selection.prompt_R
        ids_RA, mask_RA = context.answer_ids_BA[prompt_R], context.answer_mask_BA[prompt_R]
        logits_RAV = self.logits(context, selection)
        scores = answer_scores(logits_RAV, ids_RA, mask_RA)
        if not with_kl:
            return scores
        kl_R = answer_kl(self._full_log_probs(context)[prompt_R], logits_RAV, mask_RA)
        return AnswerScores(scores.log_prob_R, scores.correct_R, kl_R)

    def _full_log_probs(self, context: Context) -> torch.Tensor:
        """What the full model says at the answer's tokens, (B, A, V), once a context."""
        name = "full_log_probs_BAV"
        if name not in context.memo:
            context.memo[name] = self.logits(context).float().log_softmax(-1)
        return context.memo[name]

    @torch.inference_mode()
    def generate(self, context: Context, selection: Selection | None = None, max_new_tokens: int = 8) -> torch.Tensor:
        """Greedy continuation, token ids (R, at most max_new_tokens); pad after the end token.

        Our own loop, because `generate` derives the positions of new tokens from the attention mask, which is wrong
        after pruning with the original positions. Raises ValueError for a selection with cuts inside the language
        model: their layers' caches would differ in length.
        """
        selection = Selection.all(context) if selection is None else selection
        if selection.cuts:
            raise ValueError("generate cannot drop tokens inside the language model; use logits or answer_scores")
        tokenizer = self.processor.tokenizer
        inputs = assemble(context, selection, self.embed, self.positions)
        mask_RS, position_ids, embeds = inputs.attention_mask_RS.long(), self._position_ids(inputs), inputs.embeds_RSD
        next_R = inputs.positions_PRS.amax(dim=(0, 2)) + 1
        done_R = torch.zeros_like(next_R, dtype=torch.bool)
        cache, generated = None, []
        for _ in range(max_new_tokens):
            output = self.language_model(
                inputs_embeds=embeds,
                attention_mask=mask_RS,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            cache = output.past_key_values
            token_R = self.model.get_output_embeddings()(output.last_hidden_state[:, -1]).argmax(-1)
            token_R = token_R.masked_fill(done_R, tokenizer.pad_token_id)
            generated.append(token_R)
            done_R |= token_R == tokenizer.eos_token_id
            if done_R.all():
                break
            embeds = self.embed(token_R[:, None])
            mask_RS = torch.cat([mask_RS, mask_RS.new_ones(len(mask_RS), 1)], dim=1)
            step = next_R[:, None].expand(inputs.positions_PRS.shape[0], -1, -1)
            position_ids = step[0] if step.shape[0] == 1 else step
            next_R = next_R + 1
        return torch.stack(generated, dim=1)

    @torch.inference_mode()
    def answer_attention(self, context: Context) -> torch.Tensor:
        """Attention of the prompt's last token to every visual token, (B, layers, N), mean over heads; 0 on padding."""
        inputs = assemble(context, Selection.all(context), self.embed, self.positions)
        with record_attention(self.language_model, "last") as recorder:
            self.hidden_states(inputs)
        rows_BLT = torch.stack([recorder.rows_BT[layer] for layer in sorted(recorder.rows_BT)], dim=1)
        # Padding that all prompts share is cut off by the assembly; a padding slot may point anywhere.
        shift = context.input_ids_BT.shape[1] - rows_BLT.shape[2]
        slots = (context.visual_slot_BN - shift).clamp(min=0)[:, None].expand(-1, rows_BLT.shape[1], -1)
        return rows_BLT.gather(2, slots).masked_fill(~context.visual_mask_BN[:, None], 0.0)

    @staticmethod
    def _position_ids(inputs: Assembled) -> torch.Tensor:
        return inputs.positions_PRS[0] if inputs.positions_PRS.shape[0] == 1 else inputs.positions_PRS


def answer_scores(logits_RAV: torch.Tensor, ids_RA: torch.Tensor, mask_RA: torch.Tensor) -> AnswerScores:
    """Mean log-probability of the answer's tokens and whether each is the argmax; padding is left out."""
    log_probs_RA = logits_RAV.float().log_softmax(-1).gather(-1, ids_RA[..., None])[..., 0]
    count_R = mask_RA.sum(1)
    hit_RA = (logits_RAV.argmax(-1) == ids_RA) | ~mask_RA
    return AnswerScores((log_probs_RA * mask_RA).sum(1) / count_R, hit_RA.all(1))


def answer_kl(full_RAV: torch.Tensor, logits_RAV: torch.Tensor, mask_RA: torch.Tensor) -> torch.Tensor:
    """KL of the full model's log-probabilities to those of the logits, mean over the answer's tokens, (R,), nats."""
    log_probs_RAV = logits_RAV.float().log_softmax(-1)
    kl_RA = (full_RAV.exp() * (full_RAV - log_probs_RAV)).sum(-1)
    return (kl_RA * mask_RA).sum(1) / mask_RA.sum(1)


def _pad(rows: list[torch.Tensor], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids padded with 0 to one length, and the mask of what is real."""
    length = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        part = slice(length - len(row), length) if left else slice(0, len(row))
        ids[i, part] = row
        mask[i, part] = True
    return ids, mask
