"""Training a SentencePiece model: which documents, and how, so that every run gives the same model.

The settings keep text as it is: no normalisation, no space put in front, no space removed, bytes for what
has no piece. Newline and tab are pieces of their own, so lines can be trained on one by one and long
documents are never skipped.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import sentencepiece

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.ids import AnyIds, ascending, matrix, rows
from stages.hashing import keyed_all

SPECIAL = {"unk": 0, "bos": 1, "eot": 2, "pad": 3}
"""Token ids of the models that we train."""

LINE_BYTES = 4096
"""Longest stretch that is trained on at once, UTF-8 bytes; SentencePiece would skip a longer line as a whole."""

_SPLIT = re.compile(r"[\n\t\0\u2581\u2585]+")
"""Characters that no learnt piece holds: newline and tab have pieces of their own; SentencePiece refuses
NUL, and a line with U+2581 or U+2585, which it uses as marks. In encoding they are bytes."""


def train(
    documents: Iterable[tuple[bytes, str, str]],
    *,
    vocabulary: int,
    type: Literal["unigram", "bpe"] = "unigram",
    character_coverage: float = 0.9995,
    at_most: bool = False,
) -> bytes:
    """A SentencePiece model with byte fallback, serialized as a `.model` file.

    `documents` are (id, source, text) in ascending order of ids, which is checked, since another order gives
    another model. `vocabulary` is the number of pieces, special tokens and 256 bytes included;
    `character_coverage` the share of all characters of the text that get a piece of their own (the rest are
    spelt in bytes); with `at_most`, fewer pieces where the text gives no more. One thread: with several,
    SentencePiece's unigram scores vary (Kudo 2018 for unigram, Sennrich et al. 2016 for BPE; Kudo and
    Richardson 2018 for the tool).

    Raises UserError where there is no text, or too little or too much of it for `vocabulary`.
    """
    seen: Counter[str] = Counter()
    failed: list[Exception] = []
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_kept(_lines(documents, seen), failed),
            model_writer=model,
            model_type=type,
            vocab_size=vocabulary,
            hard_vocab_limit=not at_most,
            character_coverage=character_coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,  # indentation of code as one token
            split_digits=True,
            user_defined_symbols=["\n", "\t"],
            unk_id=SPECIAL["unk"],
            bos_id=SPECIAL["bos"],
            eos_id=SPECIAL["eot"],
            pad_id=SPECIAL["pad"],
            max_sentence_length=2 * LINE_BYTES,
            input_sentence_size=0,  # all of it: the sample was drawn before
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        if failed:
            raise failed[0] from None
        raise _explained(str(error), vocabulary, character_coverage, seen) from error
    return model.getvalue()


def sample(
    ids: AnyIds,
    sources: Sequence[str] | pa.Array | pa.ChunkedArray,
    lengths_bytes: npt.NDArray[np.integer[Any]],
    *,
    seed: int,
    weights: Mapping[str, float] | None,
    budget_bytes: int,
) -> npt.NDArray[np.bool_]:
    """(documents,) which documents a tokenizer is trained on.

    Of each source a prefix in the order of a keyed hash, as long as its bytes fit the source's share of the
    budget; one document at least. `weights` are relative; a source that they do not name gives nothing, and
    what a source is too small to give no other source fills, since that would shift the proportions
    further. Without weights, one prefix of all documents. Raises RecipeError for a source that does not exist,
    and for weights that choose nothing.
    """
    table = matrix(ids)
    lengths = np.asarray(lengths_bytes, np.int64)
    names = sources if isinstance(sources, pa.Array | pa.ChunkedArray) else pa.array(sources, pa.string())
    order = ascending(table)
    order = order[np.argsort(keyed_all("tokenizer", seed, rows(table[order])), kind="stable")]
    if weights:
        known = sorted(names.unique().to_pylist())
        for name, weight in weights.items():
            if name not in known:
                raise RecipeError(f"tokenizer.train.weights: no document is from '{name}'.{nearest(name, known)}")
            if not 0 <= weight < float("inf"):
                raise RecipeError(f"tokenizer.train.weights: the weight of '{name}' is {weight}; it is 0 or more")
        total = sum(weights.values())
        if total <= 0:
            raise RecipeError("tokenizer.train.weights are all 0, which leaves no text to train on")
        pools = [
            (order[np.asarray(pc.equal(names, name))[order]], int(budget_bytes * weight / total))
            for name, weight in weights.items()
        ]
    else:
        pools = [(order, budget_bytes)]
    chosen = np.zeros(len(lengths), bool)
    for pool, budget in pools:
        if budget > 0 and len(pool):
            count = int(np.searchsorted(np.cumsum(lengths[pool]), budget, side="right"))
            chosen[pool[: max(1, count)]] = True
    return chosen


def in_order(documents: Iterable[tuple[bytes, str, str]]) -> Iterator[tuple[bytes, str, str]]:
    """The documents, (id, source, text). Raises ValueError where their ids do not ascend: another order trains another
    tokenizer."""
    before = b""
    for document in documents:
        if document[0] < before:
            raise ValueError("documents to train on come in ascending order of ids")
        before = document[0]
        yield document


def _kept(lines: Iterator[bytes], failed: list[Exception]) -> Iterator[bytes]:
    """The lines; an error in them is noted, since SentencePiece passes on only its text."""
    try:
        yield from lines
    except Exception as error:
        failed.append(error)
        raise


def _lines(documents: Iterable[tuple[bytes, str, str]], seen: Counter[str]) -> Iterator[bytes]:
    """The stretches to train on, each of at most LINE_BYTES; adds to `seen` the bytes of each source."""
    for _, source, text in in_order(documents):
        for line in _SPLIT.split(text):
            data = line.encode()
            seen[source] += len(data)
            yield from _pieces(data)


def _pieces(line: bytes) -> Iterator[bytes]:
    """A line, cut before its last space within reach, or else between two characters, where it is too long."""
    start = 0
    while len(line) - start > LINE_BYTES:
        end = line.rfind(b" ", start + 1, start + LINE_BYTES)
        if end < 0:
            end = start + LINE_BYTES
            while line[end] & 0xC0 == 0x80:  # a continuation byte of UTF-8
                end -= 1
        yield line[start:end]
        start = end
    if start < len(line):
        yield line[start:]


def _explained(message: str, vocabulary: int, coverage: float, seen: Mapping[str, int]) -> UserError:
    """SentencePiece's error as what to do about it."""
    text = ", ".join(f"{size:,} bytes of '{source}'" for source, size in sorted(seen.items())) or "nothing"
    if not sum(seen.values()):
        return UserError("there is no text to train a tokenizer on; `corpusmill inspect` shows where documents went")
    if found := re.search(r"Vocabulary size too high .*<= (\d+)", message):
        return UserError(
            f"tokenizer.train.vocabulary {vocabulary:,} is more than the text to train on gives ({text}). "
            f"The largest possible is {int(found[1]):,}; or give it more text."
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"tokenizer.train.vocabulary {vocabulary:,} is too small: special tokens, bytes and the single characters "
            f"that make up {coverage:g} of the text ({text}) need {int(found[1]):,}. Raise it, or lower "
            "tokenizer.train.character_coverage: characters without a piece are spelt in bytes, nothing is lost."
        )
    return UserError(f"SentencePiece could not train a tokenizer with {vocabulary:,} pieces on {text}: {message}")
