"""Models from folders."""

from __future__ import annotations

import copy
import importlib.metadata
import json

import httpx2
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    LlamaConfig,
    LlavaNextConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from grip_core.baselines import registry
from grip_core.errors import UserError
from grip_core.rl.teachers import TEACHERS
from grip_core.vlm import load
from grip_core.vlm.context import Selection, top_k
from grip_core.vlm.families.llava import LlavaVLM
from grip_core.vlm.frozen import Preprocessors
from grip_core.vlm.load import FAMILIES, MARK, QFORMER_TOKENIZER, TEMPLATE_FILE, load_vlm, read_part
from grip_core.vlm.words import TEMPLATE
from tests import families
from tests.families import ANSWERS, QUESTIONS, blip2_config, bpe_tokenizer

META = {"format": "pt"}  # as transformers asks for


def save(family, folder):
    family.vlm.model.save_pretrained(folder)
    family.vlm.processor.tokenizer.save_pretrained(folder)
    family.vlm.processor.image_processor.save_pretrained(folder)
    if family.vlm.reads_questions:
        family.vlm.processor.qformer_tokenizer.save_pretrained(folder / QFORMER_TOKENIZER)


def test_a_saved_model_answers_as_before(family, tmp_path):
    save(family, tmp_path)
    (tmp_path / TEMPLATE_FILE).write_text(family.vlm.template)
    loaded = load_vlm(str(tmp_path), "compact")
    assert type(loaded) is type(family.vlm)
    assert loaded.positions == "compact"
    questions, answers = ["what color ?"] * 3, ["red"] * 3
    before, after = (vlm.logits(vlm.encode(family.images, questions, answers)) for vlm in (family.vlm, loaded))
    torch.testing.assert_close(after, before)


def test_a_model_in_half_precision_answers_nearly_alike_and_serves_every_method(family, tmp_path):
    save(family, tmp_path)
    (tmp_path / TEMPLATE_FILE).write_text(family.vlm.template)
    half = load_vlm(str(tmp_path), family.vlm.positions, "bfloat16")
    assert half.model.dtype == torch.bfloat16
    full, context = family.context(), half.encode(family.images, QUESTIONS, ANSWERS)
    assert context.visual_BND.dtype == context.question_BLD.dtype == torch.float32
    kept = top_k(torch.arange(full.n_visual).float().masked_fill(~full.visual_mask_BN, -torch.inf), 3)
    wanted, found = (vlm.answer_scores(item, kept, True) for vlm, item in ((family.vlm, full), (half, context)))
    logits, exact = half.logits(context, kept), family.vlm.logits(full, kept)
    real_RA = full.answer_mask_BA[kept.prompt_R]
    off = (logits - exact)[real_RA].square().mean().sqrt() / exact[real_RA].std()
    others = [family.vlm.logits(full, other)[real_RA] for other in (Selection.all(full), Selection.none(full))]
    apart = min((other - exact[real_RA]).square().mean().sqrt() / exact[real_RA].std() for other in others)
    assert 0 < off < 0.03
    assert off < apart / 3, "nor is it what the model says to other tokens"
    torch.testing.assert_close(found.log_prob_R, wanted.log_prob_R, rtol=0, atol=0.15)
    assert found.kl_R.dtype == torch.float32
    for name in registry.known():
        assert registry.create(name, half, 0).select(context, 3).mask_RK.any(1).all()
    for teacher in TEACHERS.values():
        assert teacher(half, context).isfinite().all()


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantisation_is_transformers_own(llava, tmp_path, monkeypatch, bits):
    """Up to what transformers is asked for: the rest needs a GPU."""
    save(llava, tmp_path)
    asked = {}

    def read(kind, path, **options):
        asked.update(options)
        options.pop("quantization_config", None)
        return read_part(kind, path, **options)

    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.50.0" if "bits" in name else version(name))
    monkeypatch.setattr(load, "read_part", read)
    monkeypatch.setattr(load, "find_spec", lambda name: name == "bitsandbytes")
    monkeypatch.setattr(load, "_device_map", lambda device: {"": "cpu"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    load_vlm(str(tmp_path), "original", torch.bfloat16, "auto", bits, template=llava.vlm.template)
    config = asked["quantization_config"]
    assert (config.load_in_8bit, config.load_in_4bit) == (bits == "8bit", bits == "4bit")
    assert asked["dtype"] == config.bnb_4bit_compute_dtype == torch.bfloat16


def test_in_half_precision_logits_are_not_rounded_to_it(llava, tmp_path):
    save(llava, tmp_path)
    half = load_vlm(str(tmp_path), "original", "bfloat16", template=llava.vlm.template)
    hidden = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    logits = half.read_out(hidden)
    weight = half.model.get_output_embeddings().weight
    torch.testing.assert_close(logits, hidden.float() @ weight.float().T)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_an_answer_has_a_space_before_it_unless_the_prompt_ends_a_line(llava):
    def answer(end: str) -> str:
        tokenizer = bpe_tokenizer(["<image>"])
        vlm = LlavaVLM(llava.vlm.model, Preprocessors(tokenizer, llava.vlm.processor.image_processor), TEMPLATE + end)
        return tokenizer.decode(vlm._answer_ids("red"))

    assert [answer(end) for end in ("", ":", "\n")] == [" red", " red", "red"]


def test_without_a_template_the_family_has_one(family, tmp_path):
    save(family, tmp_path)
    with pytest.raises(UserError, match="marks that the model's tokenizer knows, but it does not know"):
        load_vlm(str(tmp_path), "original", template="<|odd|> <image> {question}")
    tokenizer, config = copy.deepcopy(family.vlm.processor.tokenizer), family.vlm.model.config
    template = FAMILIES[config.model_type].template_for(config)
    tokenizer.add_tokens(MARK.findall(template))
    tokenizer.save_pretrained(tmp_path)
    loaded = load_vlm(str(tmp_path), "original")
    assert loaded.template == template.replace("{bos}", family.vlm.processor.tokenizer.bos_token or "")
    assert loaded.template.count("{question}") == 1


def test_the_prompt_of_a_family_may_depend_on_its_language_model():
    templates = {
        text.model_type: FAMILIES["llava_next"].template_for(LlavaNextConfig(text_config=text))
        for text in (LlamaConfig(), MistralConfig())
    }
    assert "USER: <image>" in templates["llama"]
    assert "[INST] <image>" in templates["mistral"]
    with pytest.raises(UserError, match=r"vlm\.template must be given for llava_next models with a qwen2 language"):
        FAMILIES["llava_next"].template_for(LlavaNextConfig(text_config=Qwen2Config()))


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_the_first_token_is_put_before_the_text_as_the_tokenizer_does(llava, scheme):
    """Llama's way with spaces, of both generations: they differ in a text that begins with <s>."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer, backend.decoder = Metaspace(prepend_scheme=scheme), decoders.Metaspace()
    named = ["<unk>", "<s>", "</s>", "<image>"]
    backend.train_from_iterator(
        ["USER: what color ? ASSISTANT: red"] * 2, BpeTrainer(special_tokens=named, show_progress=False)
    )
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    network = copy.deepcopy(llava.vlm.model)
    network.config.image_token_id = 3
    parts = Preprocessors(tokenizer, llava.vlm.processor.image_processor)
    vlm = LlavaVLM(network, parts, "<s>USER: <image> {question} ASSISTANT:")
    ids, own = vlm.tokenized("what color ?", (2,))
    assert ids.tolist() == tokenizer("USER: <image><image> what color ? ASSISTANT:").input_ids
    assert tokenizer.decode(ids[own]).strip() == "what color ?"


def test_an_unknown_family_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "git"}))
    with pytest.raises(UserError, match=r"git, which is not supported; supported are: llava, llava_next,") as error:
        load_vlm(str(tmp_path), "original")
    assert "FrozenVLM" in str(error.value)


@pytest.mark.parametrize("content", [None, {}, {"model_type": "no such type"}])
def test_no_model_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(json.dumps(content))
    folder = tmp_path if content is not None else tmp_path / "missing"
    with pytest.raises(UserError, match="no model can be read from") as error:
        load_vlm(str(folder), "original")
    assert "\n" not in str(error.value)


def saved(family, folder):
    save(family, folder)
    (folder / TEMPLATE_FILE).write_text(family.vlm.template)
    return str(folder)


def test_a_model_split_over_devices_answers_as_before(llava, tmp_path):
    """Here over the one there is, by the same hooks."""
    vlm = load_vlm(saved(llava, tmp_path), "original", device="split")
    context = vlm.encode(llava.images, QUESTIONS, ANSWERS)
    torch.testing.assert_close(vlm.logits(context), llava.vlm.logits(llava.context()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"device": "cuda"}, "vlm.device: cuda must have a GPU for each of 1 processes, but there are 0; take auto"),
        ({"quantization": "8bit"}, "vlm.quantization: 8bit needs a GPU, but there is none; take none"),
    ],
)
def test_what_the_machine_has_not_is_one_line(llava, tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        load_vlm(saved(llava, tmp_path), "original", **given)


def test_a_tokenizer_of_another_model_is_one_line(llava, tmp_path):
    path = saved(llava, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"image_token_index": 32000, "image_token_id": 32000}))
    with pytest.raises(UserError, match="must know the model's image token 32000, but has only"):
        load_vlm(path, "original")


@pytest.mark.parametrize("size", [16, 64])
def test_an_image_processor_of_another_model_is_one_line(llava, tmp_path, size):
    path = saved(llava, tmp_path)
    made = json.loads((tmp_path / "preprocessor_config.json").read_text())
    other = {"crop_size": {"height": size, "width": size}, "size": {"shortest_edge": size}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(made | other))
    with pytest.raises(UserError, match=r"the image processor of .* must be its model's, but") as error:
        load_vlm(path, "original")
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_lacks_weights_is_one_line(llava, tmp_path):
    path = saved(llava, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in weights if "layers.1." in name)
    save_file({name: value for name, value in weights.items() if name != gone}, tmp_path / "model.safetensors", META)
    with pytest.raises(UserError, match="must hold all weights of a llava model, but lacks 1, such as"):
        load_vlm(path, "original")


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", None])
def test_a_broken_file_of_weights_is_one_line(llava, tmp_path, content):
    path, file = saved(llava, tmp_path), tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(UserError, match="no model can be read from") as error:
        load_vlm(path, "original")
    assert "\n" not in str(error.value)


def test_a_configuration_without_the_image_token_is_one_line(tmp_path):
    path = saved(families.blip2_opt(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("image_token_index", "image_token_id"):
        config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="must name the image token, but does not"):
        load_vlm(path, "original")


def test_blips_answers_end_where_its_language_model_ends_them():
    vlm = families.blip2_opt().vlm
    vlm.model.language_model.generation_config.eos_token_id = 17
    assert vlm.end_tokens == [vlm.processor.tokenizer.eos_token_id, 17]


def test_a_gated_model_says_how_to_get_in(monkeypatch):
    """The Hub's own answer, which cannot be had here."""
    response = httpx2.Response(403, request=httpx2.Request("GET", "https://hub"))

    def refused(*_, **__):
        raise OSError("You are trying to access a gated repo.") from GatedRepoError("gated", response=response)

    monkeypatch.setattr(AutoConfig, "from_pretrained", refused)
    with pytest.raises(UserError, match=r"some/model is gated; ask for access .* hf auth login"):
        load_vlm("some/model", "original")


def test_a_model_with_an_encoder_for_its_language_is_refused(tmp_path):
    text = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, vocab_size=64)
    tokenizer = bpe_tokenizer(["<image>"], bos="<s>")
    config = Blip2Config(**blip2_config(text, tokenizer))
    Blip2ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    BlipImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="must be a decoder, but is of type t5; take a model with OPT"):
        load_vlm(str(tmp_path), "original")
