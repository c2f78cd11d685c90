"""The n-grams of benchmark items, and those of them that a batch of texts holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.decontaminate import kernels
from stages.lookup import Keys, keys
from stages.text.characters import classes
from stages.text.column import texts
from stages.text.hashed_words import fitting, folded
from stages.words import fold

Ints = npt.NDArray[np.int64]

_CHUNK = 1000


class Size(NamedTuple):
    """How long n-grams are, in weights: see `kernels.grams`."""

    heavy: int
    light: int
    long: int
    short: int


def size(words: int, characters: int, short_words: int) -> Size:
    """N-grams of so many words or so many characters, or as much of both; and short ones in proportion."""
    return Size(characters, words, words * characters, short_words * characters)


class Grams(NamedTuple):
    """N-grams in a batch of texts, ascending by row."""

    rows: Ints
    hashes: npt.NDArray[np.uint64]
    spans: Ints
    """(n, 4) start and end in bytes, weight before and at the end. Bytes are those of the folded text where it is
    `refolded`."""
    numbers: Ints
    weight: Ints
    """(texts,) weight of each text."""
    refolded: npt.NDArray[np.bool_]
    """(texts,) texts that had to be folded as a whole."""


class Index(NamedTuple):
    """N-grams of all items."""

    keys: Keys
    bounds: Ints
    """n-gram g is in `items[bounds[g]:bounds[g + 1]]`."""
    items: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    """(items,) different n-grams of each item that are in the index."""
    short: npt.NDArray[np.bool_]
    """(items,) those that are indexed by short n-grams."""


def index(items: Sequence[str], size: Size, most_items: int) -> Index:
    """The n-grams of the items, less those that more than `most_items` items have."""
    first, second, owner, weight = [], [], [], []
    for begin in range(0, len(items), _CHUNK):
        found = grams(pa.array(items[begin : begin + _CHUNK], pa.string()), size, None)
        first.append(found.hashes[:, 0].copy())
        second.append(found.hashes[:, 1].copy())
        owner.append((found.rows + begin).astype(np.int32))
        weight.append(found.weight)
    one = np.concatenate(first) if first else np.zeros(0, np.uint64)
    two = np.concatenate(second) if second else np.zeros(0, np.uint64)
    owners = np.concatenate(owner) if owner else np.zeros(0, np.int32)
    table, (order, starts) = keys(one, two)
    gram = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
    pairs = np.unique(gram * max(len(items), 1) + owners[order])  # once each: an item may repeat itself
    gram, owners = np.divmod(pairs, max(len(items), 1))
    in_items = np.bincount(gram, minlength=len(starts))
    kept = in_items <= most_items
    owners = owners[kept[gram]].astype(np.int32)
    table, _ = keys(table.first[kept].copy(), table.second[kept].copy())
    bounds = np.zeros(len(table.first) + 1, np.int64)
    np.cumsum(in_items[kept], out=bounds[1:])
    sizes = np.bincount(owners, minlength=len(items)).astype(np.int32)
    weights = np.concatenate(weight) if weight else np.zeros(0, np.int64)
    return Index(table, bounds, owners, sizes, (weights < size.long) & (sizes > 0))


def grams(column: pa.Array, size: Size, index: Index | None) -> Grams:
    """The n-grams of the texts that the index has; without an index all of them."""
    view = texts(column)
    found = _grams(view.data, view.offsets, fitting(), size, index)
    unfit = np.flatnonzero(found.refolded)
    if not len(unfit):
        return found
    again = texts(pa.array([fold(text) for text in column.take(pa.array(unfit)).to_pylist()], pa.string()))
    more = _grams(again.data, again.offsets, folded(), size, index)
    rows = np.concatenate([found.rows, unfit[more.rows]])
    order = np.argsort(rows, kind="stable")
    found.weight[unfit] = more.weight
    return Grams(
        rows[order],
        np.concatenate([found.hashes, more.hashes])[order],
        np.concatenate([found.spans, more.spans])[order],
        np.concatenate([found.numbers, more.numbers])[order],
        found.weight,
        found.refolded,
    )


_NO_KEYS = Keys(np.zeros(3, np.uint32), np.zeros(0, np.uint64), np.zeros(0, np.uint64), 63, np.zeros(4, np.uint8))


def _grams(
    data: npt.NDArray[np.uint8], offsets: Ints, letters: npt.NDArray[np.uint32], size: Size, index: Index | None
) -> Grams:
    number = len(offsets) - 1
    unfit, weight = np.zeros(number, np.bool_), np.zeros(number, np.int64)
    short = size.short if index is None or index.short.any() else 0
    table = _NO_KEYS if index is None else index.keys
    room = 1024 if index is not None else int(offsets[-1] - offsets[0]) + 1
    while True:
        rows, numbers = np.empty(room, np.int64), np.empty(room, np.int64)
        hashes, spans = np.empty((room, 2), np.uint64), np.empty((room, 4), np.int64)
        found = kernels.grams(
            data, offsets, letters, classes(), size.heavy, size.light, size.long, short, *table, index is not None,
            unfit, weight, rows, hashes, spans, numbers,
        )  # fmt: skip
        if found <= room:
            return Grams(rows[:found], hashes[:found], spans[:found], numbers[:found], weight, unfit)
        room = found
