"""In which order documents stand in the shards, and where shards end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.ids import AnyIds, halves, matrix
from stages.hashing import keyed_all

Counts = npt.NDArray[np.int64]
_HASHED = 1 << 16  # pairs at a time: as Python's bytes they take five times their room


def shuffle_hashes(
    ids: AnyIds, seed: int, copies: int | Sequence[int] | npt.NDArray[np.integer] = 0
) -> npt.NDArray[np.uint64]:
    """(n,) the shuffle key of (id, copy): keyed hash of the id and the copy's number as 4 bytes, little-endian."""
    table = matrix(ids)
    numbers = np.broadcast_to(np.asarray(copies, "<u4"), len(table))
    data = np.empty((len(table), 20), np.uint8)
    data[:, :16], data[:, 16:] = table, np.ascontiguousarray(numbers)[:, None].view(np.uint8)
    whole = data.tobytes()
    return keyed_all("shuffle", seed, (whole[place : place + 20] for place in range(0, len(whole), 20)))


def shuffle_order(
    ids: AnyIds, copies: npt.NDArray[np.integer], seed: int, groups: npt.NDArray[np.integer] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """All copies of all documents in shuffled order: (row of the document, number of the copy), each (Σ copies,).

    Sorted by (shuffle hash, id, copy), so the order of the rows does not matter; with `groups`, (documents,), one group
    behind another. Memory: about 40 bytes a copy while it works, 12 in the result.
    """
    table = matrix(ids)
    times = np.asarray(copies, np.int64)
    document = np.repeat(np.arange(len(table)), times)
    number = (np.arange(len(document)) - np.repeat(np.cumsum(times) - times, times)).astype(np.int32)
    hashes = np.empty(len(document), np.uint64)
    for start in range(0, len(document), _HASHED):
        here = slice(start, start + _HASHED)
        hashes[here] = shuffle_hashes(table[document[here]], seed, number[here])
    order = np.argsort(hashes)
    if (hashes[order[1:]] == hashes[order[:-1]]).any():  # one in a billion corpora, and tests
        high, low = halves(table[document])
        order = np.lexsort((number, low, high, hashes))
    if groups is not None:
        order = order[np.argsort(groups[document[order]], kind="stable")]
    return document[order], number[order]


def assign_shards(lengths: npt.NDArray[np.integer], tokens_per_shard: int) -> Counts:
    """Where shards begin: (shards + 1,) positions in the order, from 0 to the number of documents.

    A shard holds at most `tokens_per_shard` tokens, unless a single document is longer: it is a shard alone.
    There are as few shards as that allows, of nearly equal size: cut at the document nearest to an even
    share where that fits, else so that the largest is as small as can be. No documents make no shard: [0].
    """
    reached = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    fewest = _filled(reached, tokens_per_shard)
    shards = len(fewest) - 1
    if shards < 1:
        return fewest
    total = int(reached[-1])
    even = [total * part // shards for part in range(shards + 1)]
    cuts = np.searchsorted(reached, even)
    before = np.maximum(cuts - 1, 0)
    cuts = np.where(np.asarray(even) - reached[before] < reached[cuts] - even, before, cuts)
    cuts[0], cuts[-1] = 0, len(lengths)
    sizes, documents = np.diff(reached[cuts]), np.diff(cuts)
    if (documents > 0).all() and ((sizes <= tokens_per_shard) | (documents == 1)).all():
        return cuts
    low, high = -(-total // shards), tokens_per_shard
    while low < high:
        middle = (low + high) // 2
        if len(_filled(reached, middle)) - 1 <= shards:
            high = middle
        else:
            low = middle + 1
    return _filled(reached, high)


def _filled(reached: Counts, limit: int) -> Counts:
    """The cuts of shards that are each filled up to `limit` in turn."""
    cuts = [0]
    while cuts[-1] < len(reached) - 1:
        end = int(np.searchsorted(reached, reached[cuts[-1]] + limit, side="right")) - 1
        cuts.append(max(end, cuts[-1] + 1))
    return np.array(cuts, np.int64)
