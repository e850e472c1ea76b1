"""A frozen VLM behind one interface. A family is a subclass that says how its images become tokens and positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    BaseImageProcessor,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.modeling_outputs import BaseModelOutputWithPast

from grip_core.errors import BadSample
from grip_core.vlm.assemble import Assembled, Positions, assemble, extend
from grip_core.vlm.attention import record_attention
from grip_core.vlm.context import Context, Selection
from grip_core.vlm.deepstack import stacked
from grip_core.vlm.inside import apply_cuts

ROWS_PER_FORWARD = 128
"""Selections: larger batches fall out of a CPU's cache, smaller ones starve its cores."""
REMEMBERED = 20_000
"""Prompts: a few hundred megabytes of them."""


@dataclass(frozen=True)
class Preprocessors:
    """The parts of a processor that are used here; a transformers processor serves as well."""

    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor
    qformer_tokenizer: PreTrainedTokenizerBase | None = None
    """InstructBLIP's, for the question that its Q-Former reads."""


@dataclass(frozen=True)
class VisualFeatures:
    """What the vision side gives for B images, padded at the right; the fields are those of a Context.

    It does not depend on the question, unless the family `reads_questions`, so it can be cached.
    """

    visual_BND: torch.Tensor
    visual_mask_BN: torch.Tensor
    grid_BN2: torch.Tensor
    encoder_attention_BN: torch.Tensor
    encoder_key_BNE: torch.Tensor
    deep_BNMD: torch.Tensor | None = None

    @classmethod
    def padded(
        cls,
        visual: Sequence[torch.Tensor],
        grid: Sequence[torch.Tensor],
        attention: Sequence[torch.Tensor],
        key: Sequence[torch.Tensor],
        deep: Sequence[torch.Tensor] | None = None,
    ) -> VisualFeatures:
        """From one tensor an image, of as many rows as it has tokens."""
        device = visual[0].device
        sizes = torch.tensor([len(image_ND) for image_ND in visual], device=device)
        return cls(
            pad_sequence(list(visual), batch_first=True),
            torch.arange(int(sizes.max()), device=device) < sizes[:, None],
            pad_sequence(list(grid), batch_first=True).to(device),
            pad_sequence(list(attention), batch_first=True),
            pad_sequence(list(key), batch_first=True),
            None if deep is None else pad_sequence(list(deep), batch_first=True),
        )

    def rows(self, index: torch.Tensor) -> VisualFeatures:
        """The images that `index` names."""
        return self._each(lambda value: value[index])

    def to(self, device: torch.device) -> VisualFeatures:
        """The same on a device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> VisualFeatures:
        given: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: change(value) for name, value in given.items() if value is not None})


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

    reads_questions: ClassVar[bool] = False
    """Whether an image's visual tokens depend on the question that is asked about it."""
    windows_by_position: ClassVar[bool] = False
    """Whether `prompt_mask` makes masks for layers that see a window."""

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
        self.rows_per_forward = ROWS_PER_FORWARD
        self.embed = model.get_input_embeddings()
        self._prompts: dict[tuple[str, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]] = {}
        self._answers: dict[str, torch.Tensor] = {}

    # What a family implements ------------------------------------------------------------------------------------

    @abstractmethod
    def visual_features(self, images: Sequence[np.ndarray], questions: Sequence[str] | None = None) -> VisualFeatures:
        """Visual tokens of uint8 (H, W, 3) images, as the language model takes them.

        `questions`, one an image, are needed only if the family `reads_questions`.
        """

    @property
    def tokens_an_image(self) -> int | None:
        """Visual tokens of every image, where the configuration alone says so."""
        return None

    @property
    def language_model(self) -> PreTrainedModel:
        """The decoder that reads embeddings."""
        return self.model.model.language_model

    @property
    def image_token_id(self) -> int:
        """The placeholder that stands for one visual token."""
        return self.model.config.image_token_id

    @property
    def generation_config(self) -> GenerationConfig | None:
        """By which the stock model generates."""
        return self.model.generation_config

    @property
    def end_tokens(self) -> list[int]:
        """Those that end an answer: the tokenizer's, and those that the model generates by default until."""
        known = getattr(self.generation_config, "eos_token_id", None)
        several = known if isinstance(known, list) else [known]
        return [token for token in (self.processor.tokenizer.eos_token_id, *several) if token is not None]

    @property
    def max_length(self) -> int:
        """Tokens of a prompt and its answer that the decoder reads at most."""
        config = self.language_model.config
        # Windows are masks over the order of the tokens, unless a family makes its own from their positions.
        window = None if self.windows_by_position else getattr(config, "sliding_window", None)
        return config.max_position_embeddings if window is None else min(window, config.max_position_embeddings)

    def fits(self, question: str, layout: tuple[int, ...], answer: str) -> bool:
        """Whether a question about an image of that layout fits into `max_length` with its answer."""
        return len(self._prompt_ids(question, layout)[0]) + len(self._answer_ids(answer)) <= self.max_length

    def prompt_positions(self, input_ids_BT, attention_mask_BT, features: VisualFeatures) -> torch.Tensor:
        """Position ids of the full prompts, (P, B, T)."""
        return (attention_mask_BT.long().cumsum(1) - 1).clamp(min=0)[None]

    def layouts(self, features: VisualFeatures) -> list[tuple[int, ...]]:
        """What `image_text` has to know of each image: how many visual tokens it has."""
        return [(n,) for n in features.visual_mask_BN.sum(1).tolist()]

    def image_text(self, layout: tuple[int, ...]) -> str:
        """What a prompt has instead of the template's one placeholder: one for each visual token, and what a family
        puts between them."""
        return self.placeholder * layout[0]

    def prompt_mask(self, inputs: Assembled, new: int) -> Any:
        """The mask by which the last `new` tokens read all those up to them, as `language_model` takes it."""
        return inputs.attention_mask_RS.long()

    @property
    def placeholder(self) -> str:
        """The image token as the tokenizer writes it."""
        return str(self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id))

    @property
    def device(self) -> torch.device:
        """Where the model lies, and with it a context's tensors; of one that is split, its first part."""
        return self.model.device

    @property
    def setup(self) -> dict[str, str]:
        """See AnsweringVLM."""
        return {"path": self.model.name_or_path, "template": self.template, "positions": self.positions}

    # What methods call -------------------------------------------------------------------------------------------

    def encode(self, images: Sequence[np.ndarray], questions: Sequence[str], answers: Sequence[str]) -> Context:
        """Prompts from raw images and texts. Raises ValueError when the numbers of images and texts differ."""
        if not len(images) == len(questions) == len(answers):
            raise ValueError(
                f"as many images as questions and answers are needed, but got {len(images)}, {len(questions)} and "
                f"{len(answers)}"
            )
        return self.context(self.visual_features(images, questions), questions, answers)

    @torch.no_grad()
    def context(self, features: VisualFeatures, questions: Sequence[str], answers: Sequence[str]) -> Context:
        """Prompts from visual tokens that are already computed.

        What methods read of it is in float32, whatever the model computes in. Raises BadSample for a prompt that is too
        long for the model.
        """
        texts = [self._prompt_ids(*key) for key in zip(questions, self.layouts(features), strict=True)]
        prompts = [ids for ids, _ in texts]
        longest = max(range(len(prompts)), key=lambda b: len(prompts[b]) + len(self._answer_ids(answers[b])))
        length = len(prompts[longest]) + len(self._answer_ids(answers[longest]))
        if length > self.max_length:
            raise BadSample(
                f"a prompt must fit into the {self.max_length} tokens that the VLM reads, but has {length}, with its "
                f"answer; shorten the question: {questions[longest][:60]!r}"
            )
        input_ids, mask = _pad(prompts, left=True)
        total = input_ids.shape[1]
        question, question_mask = _pad([ids for _, ids in texts], left=False)
        answer, answer_mask = _pad([self._answer_ids(answer) for answer in answers], left=False)
        device = features.visual_BND.device
        slots = torch.zeros(features.visual_mask_BN.shape, dtype=torch.long)
        for b, ids in enumerate(prompts):
            places = (ids == self.image_token_id).nonzero()[:, 0] + total - len(ids)
            if len(places) != features.visual_mask_BN[b].sum():
                raise BadSample(
                    f"a question must not hold {self.placeholder}, for which the prompt has its own place, but got "
                    f"{questions[b][:60]!r}; remove it"
                )
            slots[b, : len(places)] = places
        input_ids, mask, question = input_ids.to(device), mask.to(device), question.to(device)
        return Context(
            visual_BND=features.visual_BND.float(),
            visual_mask_BN=features.visual_mask_BN,
            grid_BN2=features.grid_BN2,
            encoder_attention_BN=features.encoder_attention_BN.float(),
            encoder_key_BNE=features.encoder_key_BNE.float(),
            deep_BNMD=None if features.deep_BNMD is None else features.deep_BNMD.float(),
            question_BLD=self.embed(question).float(),
            question_mask_BL=question_mask.to(device),
            input_ids_BT=input_ids,
            attention_mask_BT=mask,
            positions_PBT=self.prompt_positions(input_ids, mask, features),
            visual_slot_BN=slots.to(device),
            answer_ids_BA=answer.to(device),
            answer_mask_BA=answer_mask.to(device),
        )

    def _prompt_ids(self, question: str, layout: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of the full prompt and of the question's own tokens; kept, as training asks the same of many images."""
        key = (question, layout)
        if key not in self._prompts:
            if len(self._prompts) == REMEMBERED:
                self._prompts.clear()
            ids, own = self.tokenized(question, layout)
            self._prompts[key] = ids, ids[own]
        return self._prompts[key]

    def tokenized(self, question: str, layout: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of the full prompt, and which of them are the question's own."""
        before, after = self.template.split("{question}")
        head = before.replace(self.placeholder, self.image_text(layout), 1)
        tokenizer = self.processor.tokenizer
        first = tokenizer.bos_token or ""
        # Some tokenizers split a text otherwise where its first token is written out.
        special = bool(first) and head.startswith(first) and tokenizer("").input_ids == [tokenizer.bos_token_id]
        return self.pieces(head.removeprefix(first) if special else head, question, after, special)

    def pieces(self, head: str, question: str, after: str, special: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids of a text, with the tokenizer's `special` ones around it if wanted, and which are the question's own."""
        # In one piece, as the stock processor: pieces would tokenise otherwise where they meet.
        encoded = self.processor.tokenizer(
            head + question + after, add_special_tokens=special, return_offsets_mapping=True
        )
        first, last = len(head), len(head) + len(question)
        own = [start < last and stop > first for start, stop in encoded.offset_mapping]
        return torch.tensor(encoded.input_ids), torch.tensor(own, dtype=torch.bool)

    def _answer_ids(self, answer: str) -> torch.Tensor:
        """As the model would write them after the prompt: of `Answer: Yes` the last token, ` Yes`; of `Answer: 2` the
        last two, where the space is one of its own."""
        if answer not in self._answers:
            end = self.template.split("{question}")[1]
            before = end if not end or end[-1].isspace() else f"{end} "
            encoded = self.processor.tokenizer(before + answer, add_special_tokens=False, return_offsets_mapping=True)
            own = [stop > len(end) for _, stop in encoded.offset_mapping]
            self._answers[answer] = torch.tensor(encoded.input_ids)[torch.tensor(own, dtype=torch.bool)]
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
        last_RAD = hidden_RSD[:, -answers_RA.shape[1] :]
        # In one piece a GPU multiplies all rows by the vocabulary's matrix at once; as a view it reads it for each row.
        last_RAD = last_RAD.contiguous() if last_RAD.is_cuda else last_RAD
        return self.read_out(last_RAD)

    def read_out(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (..., V), on `device`, from what the decoder's last layer gives.

        They are in float32 where the model computes in half precision: rounded to it, answers that a group's selections
        tell apart would be equal, and equal ones differ (ScaleRL, Khatri et al. 2025, does so too).
        """
        head = self.model.get_output_embeddings()
        # A head that is offloaded comes with its call alone, a quantised one has no such weight.
        if head.weight.is_meta or head.weight.dtype not in (torch.bfloat16, torch.float16):
            return head(hidden).to(self.device)
        bias = None if head.bias is None else head.bias.float()
        return F.linear(hidden.to(head.weight.device).float(), head.weight.float(), bias).to(self.device)

    def hidden_states(self, inputs: Assembled) -> torch.Tensor:
        """What the decoder's last layer gives, (R, S, D), after the final norm."""
        return self._decode(inputs).last_hidden_state

    def _decode(
        self, inputs: Assembled, cache: DynamicCache | None = None, new: int | None = None
    ) -> BaseModelOutputWithPast:
        """What the decoder makes of the last `new` tokens, those before them being in the cache; by default of all."""
        new = inputs.embeds_RSD.shape[1] if new is None else new
        position_PRS = inputs.positions_PRS[:, :, -new:]
        with stacked(self.language_model, inputs.deep if new == inputs.embeds_RSD.shape[1] else None):
            return self.language_model(
                inputs_embeds=inputs.embeds_RSD[:, -new:],
                attention_mask=self.prompt_mask(inputs, new),
                position_ids=position_PRS[0] if len(position_PRS) == 1 else position_PRS,
                past_key_values=cache,
                use_cache=cache is not None,
            )

    def answer_scores(
        self, context: Context, selection: Selection | None = None, with_kl: bool = False
    ) -> AnswerScores:
        """Gold answer's mean log-probability and exact-match correctness for every row of `selection`, of which a
        forward takes `rows_per_forward` at most.

        `with_kl` adds the KL to the full model's answer, for which the full model is run once a context.
        """
        selection = Selection.all(context) if selection is None else selection
        rows_R = torch.arange(len(selection.prompt_R), device=selection.prompt_R.device)
        if len(rows_R) <= self.rows_per_forward:
            return self._scores(context, selection, with_kl)
        parts = [self._scores(context, selection.rows(rows), with_kl) for rows in rows_R.split(self.rows_per_forward)]
        kl = [part.kl_R for part in parts if part.kl_R is not None]
        return AnswerScores(
            torch.cat([part.log_prob_R for part in parts]),
            torch.cat([part.correct_R for part in parts]),
            torch.cat(kl) if with_kl else None,
        )

    def _scores(self, context: Context, selection: Selection, with_kl: bool) -> AnswerScores:
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
            rows_B = torch.arange(context.batch_size, device=context.visual_BND.device)
            parts = [Selection.all(context).rows(rows) for rows in rows_B.split(self.rows_per_forward)]
            logits = [self.logits(context, part).float().log_softmax(-1) for part in parts]
            context.memo[name] = logits[0] if len(logits) == 1 else torch.cat(logits)
        return context.memo[name]

    @torch.inference_mode()
    def generate(self, context: Context, selection: Selection | None = None, max_new_tokens: int = 8) -> torch.Tensor:
        """Greedy continuation, token ids (R, at most max_new_tokens); pad after the end token, and where the prompt
        with what is written has `max_length` tokens.

        Our own loop, because `generate` derives the positions of new tokens from the attention mask, which is wrong
        after pruning with the original positions. Raises ValueError for a selection with cuts inside the language
        model: their layers' caches would differ in length.
        """
        selection = Selection.all(context) if selection is None else selection
        if selection.cuts:
            raise ValueError("generate cannot drop tokens inside the language model; use logits or answer_scores")
        ends = torch.tensor(self.end_tokens, dtype=torch.long, device=self.device)
        pad = self.processor.tokenizer.pad_token_id
        pad = self.end_tokens[0] if pad is None else pad
        inputs = assemble(context, selection, self.embed, self.positions)
        # Without the model's configuration, by which layers with a window would forget by count, not by position.
        cache, new, generated = DynamicCache(), None, []
        done_R = inputs.attention_mask_RS.new_zeros(len(inputs.attention_mask_RS))
        # A prompt that fills all of it may be continued by one token, which nothing has to read.
        room_R = (self.max_length - context.attention_mask_BT.sum(1)).clamp(min=1)[selection.prompt_R]
        for written in range(1, max_new_tokens + 1):
            hidden_RSD = self._decode(inputs, cache, new).last_hidden_state
            token_R = self.read_out(hidden_RSD[:, -1]).argmax(-1).masked_fill(done_R, pad)
            generated.append(token_R)
            done_R |= torch.isin(token_R, ends) | (room_R <= written)
            if done_R.all():
                break
            following = extend(inputs, self.embed(token_R[:, None]))
            # Rows that are done go on beside the others, if need be past the last position that there is.
            in_reach_PRS = following.positions_PRS.clamp(max=self.max_length - 1)
            inputs, new = replace(following, positions_PRS=in_reach_PRS), 1
        return torch.stack(generated, dim=1)

    @torch.inference_mode()
    def answer_attention(self, context: Context) -> torch.Tensor:
        """Attention of the prompt's last token to every visual token, (B, layers, N), mean over heads; 0 on padding."""
        inputs = assemble(context, Selection.all(context), self.embed, self.positions)
        with record_attention(self.language_model, "last", with_keys=False) as recorder:
            self.hidden_states(inputs)
        rows_BLT = torch.stack([recorder.rows_BT[layer].to(self.device) for layer in sorted(recorder.rows_BT)], dim=1)
        # Padding that all prompts share is cut off by the assembly; a padding slot may point anywhere.
        shift = context.input_ids_BT.shape[1] - rows_BLT.shape[2]
        slots = (context.visual_slot_BN - shift).clamp(min=0)[:, None].expand(-1, rows_BLT.shape[1], -1)
        return rows_BLT.gather(2, slots).masked_fill(~context.visual_mask_BN[:, None], 0.0)


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
