"""What a model must beat first: the entropy of single tokens, which knows their frequencies and no context."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.shards import Corpus
from trainer.batch import IGNORED
from trainer.data import Source

_CHUNK = 1 << 19  # tokens counted at a time: of two bytes each, as many as a block of a corpus at an address
_MOST = 64 * _CHUNK
_SEQUENCES = 64


def counts(corpus: Corpus, split: str) -> npt.NDArray[np.int64]:
    """(vocabulary,): how often each token is in a split, or in 34 M of its tokens, evenly spread, where it has more.

    Each process counts for itself: so many take a fraction of a second from a disk, and 67 MB from an address where a
    token has two bytes.
    """
    shards = corpus.shards(split)
    chunks = [(shard, begin) for shard in shards for begin in range(0, shard.tokens, _CHUNK)]
    total = np.zeros(corpus.vocabulary, np.int64)
    share = min(1.0, _MOST / max(1, sum(shard.tokens for shard in shards)))
    number = math.ceil(share * len(chunks))
    for chosen in np.arange(number) * len(chunks) // max(1, number):
        shard, begin = chunks[chosen]
        tokens: npt.NDArray[Any] = corpus.tokens(shard)
        total += np.bincount(tokens[begin : begin + _CHUNK], minlength=corpus.vocabulary)
    return total


def targets(source: Source) -> npt.NDArray[np.int64]:
    """(vocabulary,): how often each token is a target in a split: not as the first of a document, nor in a prefix that
    is left out of the loss; nor tokens that an objective adds to the vocabulary."""
    total = np.zeros(source.corpus.vocabulary, np.int64)
    for first in range(0, source.plan.sequences, _SEQUENCES):
        found = source.batch(np.arange(first, min(first + _SEQUENCES, source.plan.sequences))).targets_BT
        inside = (found != IGNORED) & (found < source.corpus.vocabulary)
        total += np.bincount(found[inside], minlength=source.corpus.vocabulary)
    return total


def entropy(frequencies: npt.NDArray[np.int64]) -> float:
    """Entropy of the distribution of these counts, in nats per token."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(shares * np.log(shares)).sum())


def cross_entropy(frequencies: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> float:
    """Nats per token that text with counts `of` costs under the distribution of `frequencies`, each count plus one."""
    log_shares = np.log((frequencies + 1) / (frequencies.sum() + len(frequencies)))
    return float(-(of * log_shares).sum() / max(1, of.sum()))
