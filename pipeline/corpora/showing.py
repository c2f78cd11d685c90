"""`corpusmill head` and `corpusmill decode`: tokens of shards as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipeline.errors import DamageError, RecipeError, nearest
from pipeline.parts import read_batches
from pipeline.shards import Corpus, Shard
from pipeline.splits import TRAIN
from pipeline.tokenizers import Tokenizer

MOST = 100_000
"""Tokens that are decoded at once, at most, by place."""
_PLACE = re.compile(r"(?P<shard>.+):(?P<start>\d+)(?:\.\.(?P<end>\d+))?")


def head(
    corpus: Corpus, model: Tokenizer, split: str | None, most: int, group: str | None, tokens: int
) -> Iterator[dict[str, Any]]:
    """The first `most` documents of a split (of its group) in shard order: shard, id, source, url, the number of
    tokens, and the text of the first `tokens` of them (0: all).

    Raises RecipeError where there is no such split or group.
    """
    name = _split(corpus, split)
    shards = corpus.shards(name)
    if group is not None:
        groups = dict.fromkeys(shard.group for shard in shards)
        if not any(groups):
            raise RecipeError(f"--group {group}: the shards are {corpus.meta['layout']}, so they have no groups")
        if group not in groups:
            raise RecipeError(f"--group {group}: no such group.{nearest(group, [one for one in groups if one])}")
        shards = [shard for shard in shards if shard.group == group]
    rows = ((shard, row) for shard in shards for row in _rows(shard))
    for shard, row in islice(rows, most):
        yield _facts(corpus, model, shard, row, tokens)


def document(corpus: Corpus, model: Tokenizer, text: str) -> list[dict[str, Any]]:
    """The copies of the documents whose id begins with these hex digits, as `head` gives them, whole.

    Raises RecipeError where there is none, or several.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", text):
        raise RecipeError(f"--document {text}: an id is 32 hex digits, or the first few of them")
    low, high = (bytes.fromhex(text.ljust(32, digit)) for digit in "0f")
    found = []
    for split in corpus.splits:
        for shard in corpus.shards(split):
            inside = [("id", ">=", low), ("id", "<=", high)]
            rows = pq.read_table(shard.path(".docs.parquet"), filters=inside).to_pylist()
            found += [(shard, row) for row in rows]
    ids = sorted({row["id"].hex() for _, row in found})
    if not ids:
        raise RecipeError(f"--document {text}: no document in the shards has that id")
    if len(ids) > 1:
        some = ", ".join(ids[:5])
        raise RecipeError(f"--document {text}: {len(ids)} ids begin so: {some}{' ...' if len(ids) > 5 else ''}")
    return [_facts(corpus, model, shard, row, 0) for shard, row in found]


def place(corpus: Corpus, model: Tokenizer, text: str) -> dict[str, Any]:
    """The tokens `SHARD:POSITION` or `SHARD:FROM..TO` (TO is not among them): ids, and their text by document.

    Raises RecipeError where there is no such place.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise RecipeError(f"{text}: write SHARD:POSITION or SHARD:FROM..TO, such as train-00000-of-00001:1000..1100")
    shard = corpus.shard(match["shard"])
    start = int(match["start"])
    end = int(match["end"]) if match["end"] else start + 1
    if not start < end <= shard.tokens:
        has = f"the tokens 0 to {shard.tokens - 1}, and FROM is below TO" if shard.tokens else "no tokens"
        raise RecipeError(f"{text}: {shard.name} has {has}")
    if end - start > MOST:
        raise RecipeError(f"{text}: {end - start:,} tokens; {MOST:,} at most are shown at once")
    ids = np.asarray(corpus.tokens(shard)[start:end])
    return {"shard": shard.name, "start": start, "end": end, **given(corpus, model, ids)}


def given(corpus: Corpus, model: Tokenizer, ids: Sequence[int] | npt.NDArray[Any]) -> dict[str, Any]:
    """Ids of tokens, and their text in pieces that boundary tokens part."""
    tokens = np.asarray(ids, np.int64)
    edge = boundary_token(corpus)
    cuts = np.flatnonzero(tokens == edge)
    pieces = np.split(tokens, cuts)
    texts = [_decoded(model, pieces[0]), *(_decoded(model, piece[1:]) for piece in pieces[1:])]
    return {"tokens": tokens.tolist(), "texts": texts}


def numbers(text: str) -> list[int]:
    """The ids in a text of numbers, with commas, blanks or brackets between them. Raises RecipeError for others."""
    words = re.split(r"[\s,;\[\]()]+", text.strip(" \t\r\n,;[]()"))
    wrong = next((word for word in words if not re.fullmatch(r"\d{1,10}", word)), None)
    if wrong is not None:
        raise RecipeError(f"--tokens: {wrong[:40]!r} is no token id; write them as 17,4,2093")
    return [int(word) for word in words]


def boundary_token(corpus: Corpus) -> int:
    """The token that bounds documents."""
    return corpus.special["eot" if corpus.boundary == "eot-last" else "bos"]


def _split(corpus: Corpus, wanted: str | None) -> str:
    name = wanted or next((name for name in (TRAIN, *corpus.splits) if name in corpus.splits), TRAIN)
    if name not in corpus.splits:
        raise RecipeError(f"--split {name}: no such split.{nearest(name, corpus.splits)}")
    return name


def _rows(shard: Shard) -> Iterator[dict[str, Any]]:
    wanted = ("id", "copy", "source", "url", "language", "prefix_tokens", "token_start", "token_end")  # if they exist
    for batch in read_batches(shard.path(".docs.parquet"), wanted):
        for start in range(0, batch.num_rows, 64):
            yield from batch.slice(start, 64).to_pylist()


def _facts(corpus: Corpus, model: Tokenizer, shard: Shard, row: dict[str, Any], most: int) -> dict[str, Any]:
    first, end = row["token_start"], row["token_end"]
    if not 0 <= first < end <= shard.tokens:
        raise DamageError(f"{shard.path('.docs.parquet')} has a document at tokens {first} to {end}; run verify")
    tokens = np.asarray(corpus.tokens(shard)[first:end])
    bare = tokens[:-1] if corpus.boundary == "eot-last" else tokens[1:]
    shown = bare[:most] if most else bare
    text = _decoded(model, shown)
    return {
        "split": shard.split,
        "shard": shard.name,
        "group": shard.group,
        "token_start": first,
        "token_end": end,
        "id": row["id"].hex(),
        "copy": row["copy"],
        "source": row.get("source"),
        "url": row.get("url"),
        "language": row.get("language"),
        "tokens": end - first,
        "prefix_tokens": row.get("prefix_tokens") or 0,
        "text": text.rstrip("\ufffd") if len(shown) < len(bare) else text,
        "whole": len(shown) == len(bare),
    }


def _decoded(model: Tokenizer, tokens: npt.NDArray[Any]) -> str:
    try:
        return model.decode(tokens)
    except ValueError as error:
        raise RecipeError(str(error)) from error
