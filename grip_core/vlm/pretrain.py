"""Training of the embedded VLM, fast enough for two CPU cores.

What makes it train in minutes instead of staying on a plateau: many questions are packed behind one image (they see the
image but not each other, and their positions restart); the vision tower gets auxiliary targets per patch, and is
trained on those alone at first; the language model begins with short prompts about single objects, on a tower that
stands still, and meets the questions that combine objects as short and many prompts before it meets them in full.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AttentionInterface, LlavaForConditionalGeneration, LlavaProcessor

from grip_core.config import PretrainConfig
from grip_core.data.examples import Example, Scene, Split
from grip_core.files import atomic_file, write_text
from grip_core.runs import RunFolder
from grip_core.seeds import derive, numpy_random
from grip_core.vlm.embedded import GRID, PATCH, build_model, build_processor
from grip_core.vlm.patch_labels import BACKGROUND, IGNORED, PatchLabeller, PatchLabels
from grip_core.vlm.words import IMAGE_TOKEN, TEMPLATE, build_tokenizer

N_PREFIX = 1 + GRID * GRID  # begin-of-sequence and the visual tokens
STILL = ("captions", "easy")  # phases in which the tower does not move
EASY_KINDS = ("one tile", "non-relational", "read", "in row")
AUXILIARY_WEIGHTS = {"object": 1.0, "row": 0.3, "column": 0.3, "present": 0.3, "nearest": 0.15, "furthest": 0.15}
TOWER_SHARES = {"easy_vqa": 5, "sort_of_clevr": 4, "digit_grids": 3}  # of the images while the tower trains alone
WARMUP_STEPS = 100
MIN_RATE = 0.05  # of the learning rate, at the end of the cosine
CHECKPOINT_EVERY = 100
EVALUATE_EVERY = 400

Captions = Callable[[Scene], list[tuple[str, str]]]
Relations = Callable[[Scene, np.random.RandomState], list[tuple[str, str]]]


@dataclass(frozen=True)
class Packed:
    """Questions packed behind one image each; S is the length of the packed text."""

    ids_BS: torch.Tensor
    labels_BS: torch.Tensor
    """The next token where it is an answer or the end, else IGNORED."""
    positions_BS: torch.Tensor
    segment_BS: torch.Tensor
    """Which question a token belongs to; -1 for padding."""


class Packer:
    """Packs questions and answers. Each follows the template's part after the image, at the position next to it."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        self.after = TEMPLATE.split(IMAGE_TOKEN)[1]
        self.memo: dict[tuple[str, str], tuple[list[int], list[int]]] = {}

    def __call__(self, groups: Sequence[Sequence[tuple[str, str]]]) -> Packed:
        """One group of (question, answer) an image."""
        rows = [[self._encode(*pair) for pair in group] for group in groups]
        length = max(sum(len(ids) for ids, _ in row) for row in rows)
        ids = np.zeros((len(rows), length), np.int64)
        labels = np.full((len(rows), length), IGNORED, np.int64)
        positions = np.zeros((len(rows), length), np.int64)
        segment = np.full((len(rows), length), -1, np.int64)
        for b, row in enumerate(rows):
            start = 0
            for number, (text, targets) in enumerate(row):
                stop = start + len(text)
                ids[b, start:stop] = text
                labels[b, start:stop] = targets
                positions[b, start:stop] = N_PREFIX + np.arange(len(text))
                segment[b, start:stop] = number
                start = stop
        return Packed(*(torch.from_numpy(array) for array in (ids, labels, positions, segment)))

    def _encode(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        key = (question, answer)
        if key not in self.memo:
            asked = self.tokenizer(self.after.format(question=question), add_special_tokens=False).input_ids
            answered = self.tokenizer(answer, add_special_tokens=False).input_ids
            labels = [IGNORED] * (len(asked) - 1) + answered + [self.tokenizer.eos_token_id]
            self.memo[key] = (asked + answered, labels)
        return self.memo[key]


def packed_mask(segment_BS: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask (B, 1, T, T): causal, questions blind to each other, every question sees the prefix."""
    prefix = -2
    segment_BT = F.pad(segment_BS, (N_PREFIX, 0), value=prefix)
    total = segment_BT.shape[1]
    causal = torch.ones(total, total, dtype=torch.bool).tril()
    same = segment_BT[:, :, None] == segment_BT[:, None, :]
    allowed = causal & (same | (segment_BT == prefix)[:, None, :])
    mask = torch.zeros(len(segment_BS), 1, total, total, dtype=dtype)
    return mask.masked_fill(~allowed[:, None], torch.finfo(dtype).min)


class PatchHeads(nn.Module):
    """Linear read-outs for the auxiliary targets; thrown away after training."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        sizes = dict.fromkeys(AUXILIARY_WEIGHTS, n_classes) | {"row": GRID, "column": GRID}
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def loss(self, hidden_BND: torch.Tensor, pooled_BD: torch.Tensor, labels: PatchLabels) -> torch.Tensor:
        """Weighted sum of the cross-entropies per patch, and of the classes present read from the CLS token."""
        present_BC = torch.from_numpy(labels.present_BC)
        read_BC = self.heads["present"](pooled_BD).float()
        total = AUXILIARY_WEIGHTS["present"] * F.binary_cross_entropy_with_logits(read_BC, present_BC)
        for name in ("object", "row", "column", "nearest", "furthest"):
            target = torch.from_numpy(getattr(labels, f"{name}_BN")).flatten()
            if (target != IGNORED).any():
                logits = self.heads[name](hidden_BND).flatten(0, 1).float()
                total = total + AUXILIARY_WEIGHTS[name] * F.cross_entropy(logits, target, ignore_index=IGNORED)
        return total


def _plain_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Attention by two products: on a CPU, for sequences this short, its backward takes half the fused one's time."""
    scores = query * scaling @ key.transpose(-1, -2)
    scores = scores if attention_mask is None else scores + attention_mask
    # Outside autocast, so that the softmax stays in the narrow type and moves half the memory.
    with torch.autocast("cpu", enabled=False):
        weights = scores.softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("grip_plain", _plain_attention)


class Pretraining:
    """Model, data and optimizer of one training of the embedded VLM."""

    def __init__(
        self,
        config: PretrainConfig,
        splits: dict[str, Split],
        captions: dict[str, Captions],
        relations: dict[str, Relations],
    ) -> None:
        self.config, self.splits, self.captions, self.relations = config, splits, captions, relations
        self.asked = {name: _by_image(split) for name, split in splits.items()}
        scenes = [scene for split in splits.values() for scene in split.scenes]
        self.labeller = PatchLabeller(scenes, GRID, PATCH)
        self.processor = build_processor(build_tokenizer(self._texts()))
        self.packer = Packer(self.processor.tokenizer)
        torch.manual_seed(derive(config.seed, "pretrain"))
        self.model = build_model(
            len(self.processor.tokenizer),
            self.processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
            width=config.width,
            vision_layers=config.vision_layers,
            text_layers=config.text_layers,
        )
        self.model.set_attn_implementation("grip_plain")
        self.heads = PatchHeads(config.width, len(self.labeller.classes) + 1)
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )

    def step(self, step: int) -> dict[str, float]:
        """One optimizer step (counted from 1); returns its losses."""
        config = self.config
        phase = self.phase(step)
        scenes, pixels_BCHW, groups = self._batch(step, phase)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._rate(step)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(phase not in STILL):
                hidden_BND, pooled_BD = self.vision(pixels_BCHW)
            row = {}
            loss = torch.zeros(())
            if phase not in STILL:
                auxiliary = self.heads.loss(hidden_BND, pooled_BD, self.labeller(scenes))
                row["auxiliary_loss"] = auxiliary.item()
                loss = auxiliary if phase == "vision" else config.auxiliary_weight * auxiliary
            if phase != "vision":
                logits, labels = self.answer_logits(hidden_BND, self.packer(groups))
                answer = F.cross_entropy(logits, labels)
                row["answer_loss"] = answer.item()
                loss = loss + answer
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return row

    def phase(self, step: int) -> str:
        """What a step trains, see `Phase`."""
        ends = np.cumsum([phase.steps for phase in self.config.phases])
        return self.config.phases[int(np.searchsorted(ends, step))].name

    def vision(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches before the projector (B, N, D) and the CLS token (B, D)."""
        output = self.model.model.vision_tower(pixels_BCHW, output_hidden_states=True)
        return output.hidden_states[-1][:, 1:], output.pooler_output

    def answer_logits(self, hidden_BND: torch.Tensor, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (answer tokens, V), float32, and their labels."""
        visual_BND = self.model.model.multi_modal_projector(hidden_BND)
        embed = self.model.get_input_embeddings()
        start_B1 = torch.full((len(visual_BND), 1), self.processor.tokenizer.bos_token_id)
        embeds = [embed(start_B1).to(visual_BND.dtype), visual_BND, embed(packed.ids_BS).to(visual_BND.dtype)]
        prefix = torch.arange(N_PREFIX).expand(len(visual_BND), -1)
        hidden_BSD = self.model.model.language_model(
            inputs_embeds=torch.cat(embeds, dim=1),
            attention_mask=packed_mask(packed.segment_BS, visual_BND.dtype),
            position_ids=torch.cat([prefix, packed.positions_BS], dim=1),
            use_cache=False,
        ).last_hidden_state[:, N_PREFIX:]
        asked = packed.labels_BS != IGNORED
        return self.model.lm_head(hidden_BSD[asked]).float(), packed.labels_BS[asked]

    @torch.no_grad()
    def accuracy(self, splits: dict[str, Split], images: int) -> dict[str, float]:
        """Accuracy by benchmark and kind on the first `images` images of `splits`, every token kept.

        "patches" is the share of the objects' patches whose class is read off right.
        """
        hits: dict[str, list[bool]] = defaultdict(list)
        for name, split in splits.items():
            asked = _by_image(split)
            for start in range(0, images, self.config.images_per_step):
                ids = [i for i in range(start, min(start + self.config.images_per_step, images)) if i in asked]
                with torch.autocast("cpu", torch.bfloat16):
                    hidden_BND, _ = self.vision(_pixels([split.image(i) for i in ids]))
                    packed = self.packer([[(e.question, e.answer) for e in asked[i]] for i in ids])
                    logits, labels = self.answer_logits(hidden_BND, packed)
                    read_BN = self.heads.heads["object"](hidden_BND).argmax(-1)
                object_BN = torch.from_numpy(self.labeller([split.scenes[i] for i in ids]).object_BN)
                hits[f"{name}/patches"] += (read_BN == object_BN)[object_BN != BACKGROUND].tolist()
                right = (logits.argmax(-1) == labels)[labels != self.processor.tokenizer.eos_token_id]
                for example, hit in zip((e for i in ids for e in asked[i]), right.tolist(), strict=True):
                    hits[f"{name}/{example.kind}"].append(hit)
        return {name: float(np.mean(values)) for name, values in sorted(hits.items())}

    def _batch(self, step: int, phase: str) -> tuple[list, torch.Tensor, list[list[tuple[str, str]]]]:
        random = numpy_random(self.config.seed, "pretrain batch", step)
        shares = {name: TOWER_SHARES.get(name, 3) if phase == "vision" else 1 for name in self.splits}
        scenes, images, groups = [], [], []
        for name, split in self.splits.items():
            count = self.config.images_per_step * shares[name] // sum(shares.values())
            for image_id in random.randint(len(split.scenes), size=count):
                scenes.append(split.scenes[image_id])
                images.append(split.image(image_id))
                groups.append(self._questions(name, int(image_id), phase, random))
        return scenes, _pixels(images), groups

    def _questions(self, name: str, image_id: int, phase: str, random: np.random.RandomState) -> list[tuple[str, str]]:
        scene = self.splits[name].scenes[image_id]
        if phase == "captions":
            return self.captions[name](scene)
        if phase == "relations":
            return self.relations[name](scene, random)
        asked = [e for e in self.asked[name][image_id] if phase != "easy" or e.kind in EASY_KINDS]
        chosen = random.permutation(len(asked))[: self.config.questions_per_image]
        return [(asked[i].question, asked[i].answer) for i in chosen]

    def _rate(self, step: int) -> float:
        """Warm-up, then a cosine, once for the tower's own phase and once for the rest."""
        config = self.config
        alone = config.phases[0].steps
        start, length = (0, alone) if step <= alone else (alone, config.steps - alone)
        cosine = 0.5 * (1 + math.cos(math.pi * (step - start) / length))
        return min(1.0, (step - start) / WARMUP_STEPS) * (MIN_RATE + (1 - MIN_RATE) * cosine)

    def _texts(self) -> Iterator[str]:
        for name, split in self.splits.items():
            for example in split.examples:
                yield from (example.question, example.answer)
            for scene in split.scenes:
                for pair in self.captions[name](scene):
                    yield from pair


def pretrain(
    config: PretrainConfig,
    train: dict[str, Split],
    validation: dict[str, Split],
    captions: dict[str, Captions],
    relations: dict[str, Relations],
    run: RunFolder,
    output: Path,
) -> None:
    """Train the embedded VLM and save it with its processor in `output`; resumes from the run folder's checkpoint."""
    training = Pretraining(config, train, captions, relations)
    path = run.checkpoints / "pretrain.pt"
    start = _restore(path, training)
    run.drop_metrics_after(start)
    began = time.perf_counter()
    for step in tqdm(range(start + 1, config.steps + 1), initial=start, total=config.steps, desc="vlm"):
        row = {"step": step, "phase": training.phase(step), **training.step(step)}
        if step % EVALUATE_EVERY == 0 or step == config.steps:
            row |= training.accuracy(validation, len(next(iter(validation.values())).scenes))
        run.append_metrics(row)
        if step % CHECKPOINT_EVERY == 0:
            _store(path, training, step)
    save(training.model, training.processor, output)
    run.finish(config.steps, {"pretrain": time.perf_counter() - began})


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, output: Path) -> None:
    """Weights, processor and prompt template, as transformers' `from_pretrained` and our `load_vlm` read them."""
    model.set_attn_implementation("sdpa")
    model.save_pretrained(output)
    processor.save_pretrained(output)
    write_text(output / "prompt_template.txt", TEMPLATE)


def _by_image(split: Split) -> dict[int, list[Example]]:
    asked: dict[int, list[Example]] = defaultdict(list)
    for example in split.examples:
        asked[example.image_id].append(example)
    return asked


def _pixels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """What the processor makes of images that have its size already: [-1, 1], channels first."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _store(path: Path, training: Pretraining, step: int) -> None:
    with atomic_file(path) as file:
        states = (training.model.state_dict(), training.heads.state_dict(), training.optimizer.state_dict())
        torch.save({"step": step, "states": states}, file)


def _restore(path: Path, training: Pretraining) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for item, state in zip((training.model, training.heads, training.optimizer), saved["states"], strict=True):
        item.load_state_dict(state)
    return saved["step"]
