"""The tokenizer: byte-pair encoding in CLIP's layout, trained on the captions themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 24
VOCABULARY = 1500
RARE_WORD = "hta"
"""One token that no caption uses, as `hta` is in Stable Diffusion's vocabulary."""


def train_tokenizer(captions: Iterable[str]) -> Any:
    """Train a `CLIPTokenizer` on captions; other words are split into pieces."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [chr(c) + suffix for c in range(33, 127) for suffix in ("", "</w>")]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator([*captions, *[RARE_WORD] * 1000], trainer)
    merges = [tuple(pair) for pair in _merges(bpe)]
    vocabulary = dict(sorted(bpe.get_vocab().items(), key=lambda item: item[1]))
    for special in (START, END):  # The end has the highest number, where CLIP pools.
        vocabulary.pop(special, None)
    vocabulary = {token: i for i, token in enumerate([*vocabulary, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH, pad_token=END, unk_token=END)


def _merges(bpe: Tokenizer) -> list[list[str]]:
    return [m.split(" ") if isinstance(m, str) else m for m in json.loads(bpe.to_str())["model"]["merges"]]
