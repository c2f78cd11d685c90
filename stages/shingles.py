"""Shingles: the word n-grams of a text as hashes, and exact sets of them.

Broder, On the resemblance and containment of documents (1997), section 2: the resemblance of two documents is the
Jaccard similarity of their sets of shingles.

A shingle is a word n-gram (a character counts as a word in scripts without spaces). Its hash is made of its words'
hashes, which are made of their folded bytes, so a text is read once, in the Arrow buffer, and no string is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit
from stages.lookup import SEED_1, step_1
from stages.text.block_words import Letters, letters, words_of
from stages.text.column import Ints, Texts, texts
from stages.words import fold

Hashes = npt.NDArray[np.uint64]

_BASE = np.uint64(0x9FB21C651E98DF25)
"""Of the sum over words (Karp and Rabin 1987): odd, so that no word's bits are lost."""
_SMALL = 64
"""Values of one bucket that are sorted by insertion."""


def shingle_hashes(text: str, ngram: int) -> Hashes:
    """The 64-bit hashes of a text's word n-grams in their order, NFKC and case folded, without punctuation.

    A text of fewer words is one shingle, and one without words its raw self: every document has a shingle, so that
    none is immune to deduplication.
    """
    view = texts(pa.array([text], pa.string()))
    found = np.empty(len(view.data) + 1, np.uint64)
    count = _hashes(view.data, 0, int(view.offsets[-1]), letters(), ngram, found)
    if count < 0:
        view = refolded(pa.array([text], pa.string()))
        found = np.empty(len(view.data) + 1, np.uint64)
        count = _hashes(view.data, 0, int(view.offsets[-1]), letters(folded=True), ngram, found)
    return found[:count]


def shingle_sets(column: pa.Array, ngram: int) -> tuple[Ints, Hashes]:
    """The set of shingles of each text: (offsets (rows + 1,), values), where the set of row i is
    `values[offsets[i]:offsets[i + 1]]`, ascending, each `shingle_hashes` once; empty where the text is null.

    Two different shingles are one with probability 2^-64, so what sets have in common is exact for all purposes.
    """
    if ngram < 1:
        raise ValueError(f"ngram is at least 1, not {ngram}")
    view = texts(column)
    sizes = np.zeros(len(column), np.int64)
    values = _sets(view, letters(), ngram, sizes)
    unfit = np.flatnonzero(sizes < 0)
    if len(unfit):
        some = np.zeros(len(unfit), np.int64)
        again = _sets(refolded(column.take(pa.array(unfit))), letters(folded=True), ngram, some)
        fit = np.maximum(sizes, 0)
        before = np.cumsum(fit)[unfit]
        sizes[unfit] = some
        values = np.insert(values, np.repeat(before, some), again)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))), values


def common(offsets: Ints, values: Hashes, left: Ints, right: Ints) -> Ints:
    """(pairs,) how many shingles the sets of rows `left` (pairs,) and `right` of `shingle_sets` have in common."""
    found = np.zeros(len(left), np.int64)
    _common(offsets, values, np.asarray(left, np.int64), np.asarray(right, np.int64), found)
    return found


@inline
def intersection(left: Any, left_start: int, left_end: int, right: Any, right_start: int, right_end: int) -> int:
    """How many values two sets have in common: `left[left_start:left_end]` and a like part of `right`, which may be
    the same array. A share of c values makes the Jaccard similarity c / (size of left + size of right - c)."""
    common = 0
    one, other = left_start, right_start
    while one < left_end and other < right_end:
        a, b = left[one], right[other]
        common += a == b  # no branch that hangs on hashes: it would be foretold wrongly half of the time
        one += a <= b
        other += b <= a
    return common


def refolded(column: pa.Array) -> Texts:
    """The texts as `stages.words.fold` has them: for those that kernels cannot fold code point by code point."""
    return texts(pa.array([fold(text) for text in column.to_pylist()], pa.string()))


def _sets(view: Texts, table: Letters, ngram: int, sizes: Ints) -> Hashes:
    """The sets one behind the other; `sizes` gets theirs, -1 for an unfit text and 0 for a null."""
    lengths = np.diff(view.offsets)
    values = np.empty(int(room(lengths).sum()), np.uint64)
    number = _fill(view.data, view.offsets, view.valid, table, ngram, sizes, values)
    return values[:number].copy()


@njit
def _common(offsets: Any, values: Any, left: Any, right: Any, found: Any) -> None:
    for pair in range(len(found)):
        one, other = left[pair], right[pair]
        found[pair] = intersection(values, offsets[one], offsets[one + 1], values, offsets[other], offsets[other + 1])


@inline
def room(size: Any) -> Any:
    """How many words, and so shingles, a text of so many bytes may have."""
    return size // 2 + 1


@inline
def shingle(total: Any, words: int) -> Any:
    """The hash of so many words with this sum."""
    return step_1(step_1(SEED_1, total), words)


@inline
def shingles_of(data: Any, begin: int, end: int, table: Any, ngram: int, words: Any, found: Any) -> Any:
    """Writes the shingle hashes of one text to `found` and gives how many they are; -1 where the text is unfit.

    `words` and `found` have room for half as many as the text has bytes, and one more.
    """
    number = words_of(data, begin, end, table, words)
    if number < 0:
        return -1
    if number < ngram:
        total = np.uint64(0)
        for place in range(number):
            total = total * _BASE + words[place]
        if number == 0:
            total = SEED_1  # so that nothing and a NUL are two
            for place in range(begin, end):
                total = step_1(total, data[place])
        found[0] = shingle(total, number)
        return 1
    count = number - ngram + 1
    # One word of all shingles after the other, not all words of one: so the compiler makes it eight at a time.
    for place in range(count):
        found[place] = words[place]
    for turn in range(1, ngram):
        for place in range(count):
            found[place] = found[place] * _BASE + words[place + turn]
    for place in range(count):
        found[place] = shingle(found[place], ngram)
    return count


@njit
def _hashes(data: Any, begin: int, end: int, table: Any, ngram: int, found: Any) -> int:
    words = np.empty(len(found), np.uint64)
    count: int = shingles_of(data, begin, end, table, ngram, words, found)
    return count


@inline
def _ordered(found: Any, count: int, heads: Any, values: Any, at: int) -> int:
    """Writes the distinct values of `found[:count]` in their order behind `values[at]`; gives how many they are.

    Hashes are even: as many buckets as values, by their first bits, hold about one each. Time is linear.
    """
    bits = 1
    while 1 << bits < count:
        bits += 1
    shift = np.uint64(64 - bits)
    for bucket in range((1 << bits) + 1):
        heads[bucket] = 0
    for place in range(count):
        heads[np.int64(found[place] >> shift) + 1] += 1
    for bucket in range(1 << bits):
        heads[bucket + 1] += heads[bucket]
    for place in range(count):
        head = np.int64(found[place] >> shift)
        values[at + heads[head]] = found[place]
        heads[head] += 1
    start = at
    written = at
    for bucket in range(1 << bits):
        end = at + heads[bucket]
        if end - start > _SMALL:  # a text that repeats itself
            values[start:end].sort()
        else:
            for place in range(start + 1, end):
                value = values[place]
                to = place
                while to > start and values[to - 1] > value:
                    values[to] = values[to - 1]
                    to -= 1
                values[to] = value
        for place in range(start, end):
            if written == at or values[place] != values[written - 1]:
                values[written] = values[place]
                written += 1
        start = end
    return written - at


@njit
def _fill(data: Any, offsets: Any, valid: Any, table: Any, ngram: int, sizes: Any, values: Any) -> int:
    longest = 0
    for row in range(len(sizes)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    found = np.empty(room(longest), np.uint64)
    words = np.empty(room(longest), np.uint64)
    heads = np.empty(2 * room(longest) + 3, np.int64)
    at = 0
    for row in range(len(sizes)):
        if not valid[row]:
            continue
        count = shingles_of(data, offsets[row], offsets[row + 1], table, ngram, words, found)
        sizes[row] = count if count < 0 else _ordered(found, count, heads, values, at)
        at += max(sizes[row], 0)
    return at
