"""A language of whole words: the embedded VLM's, and that of models of random weights."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

IMAGE_TOKEN = "<image>"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", IMAGE_TOKEN)
TEMPLATE = f"<bos> {IMAGE_TOKEN} {{question}} answer :"


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the words of `texts`, in sorted order so that ids do not depend on theirs."""
    words = sorted({word for text in texts for word in text.split()} | {"answer", ":"})
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=[IMAGE_TOKEN],
        padding_side="left",
        model_max_length=512,
    )
