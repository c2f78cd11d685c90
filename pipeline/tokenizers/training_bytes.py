"""Training a byte-level BPE, which tiktoken runs: a tokenizer.json of Hugging Face.

Text is cut into words as GPT-4 does it, but each digit is a word of its own, and white space before a word keeps its
own tokens. Every byte is a token, so every text can be encoded and comes back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pipeline.errors import UserError
from pipeline.tokenizers.training import in_order

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""Words, with their marks (else Hindi, Thai and Arabic fall apart at each vowel sign), single digits, runs of signs.
`translate` has it once more, written so that it never goes back."""
SPECIAL = ("<|endoftext|>", "<|begin_of_text|>", "<|pad|>")
LONGEST = 24
"""Most characters of a word's token, so that a text of one long run does not take the vocabulary."""


def train(documents: Iterable[tuple[bytes, str, str]], *, vocabulary: int, at_most: bool = False) -> bytes:
    """A byte-level BPE as the contents of a tokenizer.json (Sennrich et al. 2016; Radford et al. 2019 for bytes).

    `documents` are (id, source, text) in ascending order of ids, which is checked. `vocabulary` is the number of
    tokens, 256 bytes and three special tokens included; with `at_most`, fewer where the text gives no more. One
    thread. Raises UserError where there is no text, or too little of it.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST,
        show_progress=False,
    )
    size = 0

    def texts() -> Iterator[str]:
        nonlocal size
        for _, _, text in in_order(documents):
            size += len(text)
            yield text

    tokenizer.train_from_iterator(texts(), trainer)
    if not size:
        raise UserError("there is no text to train a tokenizer on; `corpusmill inspect` shows where documents went")
    made = tokenizer.get_vocab_size()
    if made < vocabulary and not at_most:
        raise UserError(
            f"tokenizer.train.vocabulary {vocabulary:,} is more than the text to train on gives ({size:,} characters). "
            f"The largest possible is {made:,}; or give it more text."
        )
    return str(tokenizer.to_str(pretty=False)).encode()
