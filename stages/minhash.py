"""MinHash signatures, as datasketch's `affine32` scheme defines them, for whole columns at once.

Broder, On the resemblance and containment of documents (1997): the share of equal values in two
signatures estimates the Jaccard similarity of the shingle sets.

A shingle is a word n-gram (a character counts as a word in scripts without spaces). Its hash is made of its words'
hashes, which are made of their folded code points, so a text is read once, in the Arrow buffer, and no string is made.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit
from stages.lookup import SEED_1, step_1
from stages.text.characters import classes
from stages.text.column import Texts, texts
from stages.text.hashed_words import fitting, folded, word_at
from stages.words import fold

VERSION = 2
"""Raised whenever the same settings give other signatures; part of the resume key."""
PACKAGES = ("numpy", "regex", "xxhash")

Values = npt.NDArray[np.uint32]

_BASE = np.uint64(0x9FB21C651E98DF25)
"""Of the sum that rolls over words (Karp and Rabin 1987): odd, so that no word's bits are lost."""


@dataclass(frozen=True, kw_only=True)
class MinHashSettings:
    """What a signature depends on."""

    permutations: int = 128
    """Values in a signature; the standard error of an estimate s is sqrt(s (1 - s) / permutations)."""
    ngram: int = 5
    """Words in a shingle (characters in scripts without spaces)."""
    seed: int = 1
    """Of datasketch's permutations."""

    def __post_init__(self) -> None:
        if self.permutations < 1 or self.ngram < 1:
            raise ValueError("permutations and ngram are at least 1")


@dataclass(frozen=True)
class Signatures:
    """`values` (rows, permutations) uint32; `shingles` (rows,) int64, the number of shingles, equal ones counted each
    time (0, and the greatest value everywhere, where the text is null)."""

    values: Values
    shingles: npt.NDArray[np.int64]


def signatures(column: pa.Array, settings: MinHashSettings) -> Signatures:
    """The signature of each text: equal to `datasketch.MinHash(permutations, seed, hashfunc=int)` updated with each of
    the text's `shingle_hashes`."""
    a, b = _permutations(settings.permutations, settings.seed)
    values = np.full((len(column), settings.permutations), 0xFFFFFFFF, np.uint32)
    numbers = np.zeros(len(column), np.int64)
    view = texts(column)
    _sign(view.data, view.offsets, fitting(), classes(), settings.ngram, a, b, values, numbers)
    unfit = np.flatnonzero(numbers < 0)
    if len(unfit):
        again = _refolded(column.take(pa.array(unfit)))
        some, counts = values[unfit], numbers[unfit]
        _sign(again.data, again.offsets, folded(), classes(), settings.ngram, a, b, some, counts)
        values[unfit], numbers[unfit] = some, counts
    values[~view.valid], numbers[~view.valid] = 0xFFFFFFFF, 0
    return Signatures(values, numbers)


def shingle_hashes(text: str, ngram: int) -> Values:
    """The 32-bit hashes of a text's word n-grams in their order, NFKC and case folded, without punctuation.

    A text of fewer words is one shingle, and one without words its raw self: every document has a shingle, so that
    none is immune to deduplication.
    """
    for view, letters in ((texts(pa.array([text])), fitting()), (_refolded(pa.array([text])), folded())):
        found = np.empty(len(view.data) + 1, np.uint32)
        count = _hashes(view.data, 0, int(view.offsets[-1]), letters, classes(), np.zeros(ngram, np.uint64), found)
        if count >= 0:
            break
    return found[:count]


def estimate(left: Values, right: Values) -> npt.NDArray[np.float64]:
    """The estimated Jaccard similarity of signatures (..., permutations): the share of equal values (...)."""
    equal: npt.NDArray[np.float64] = np.count_nonzero(left == right, axis=-1) / left.shape[-1]
    return equal


def _refolded(column: pa.Array) -> Texts:
    return texts(pa.array([fold(text) for text in column.to_pylist()], pa.string()))


@functools.cache
def _permutations(number: int, seed: int) -> tuple[Values, Values]:
    """Factors (odd, so that no two values meet) and summands of h -> a h + b mod 2^32, as datasketch draws them."""
    generator = np.random.RandomState(seed)  # whose numbers numpy has promised to keep
    a = generator.randint(0, 1 << 31, number, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, generator.randint(0, 1 << 32, number, dtype=np.uint32)


@inline
def _shingle(total: Any, words: int) -> Any:
    """The hash of so many words with this rolled sum."""
    mixed = step_1(step_1(SEED_1, total), words)
    return np.uint32(mixed >> np.uint64(32))


@inline
def _row(data: Any, begin: int, end: int, letters: Any, classes: Any, ring: Any, power: Any, found: Any) -> int:
    """Writes the shingle hashes of one text, fewer than it has bytes or one; -1 where the text is unfit.

    `ring` has room for the words of a shingle, `power` is the rolled sum's base to their number.
    """
    ngram = len(ring)
    total = np.uint64(0)
    words = written = 0
    at = begin
    while True:
        start, at, _, word, _ = word_at(data, at, end, letters, classes)
        if start < 0:
            return -1
        if start == end:
            break
        place = words % ngram
        total = total * _BASE + word
        if words >= ngram:
            total -= ring[place] * power
        ring[place] = word
        words += 1
        if words >= ngram:
            found[written] = _shingle(total, ngram)
            written += 1
    if words == 0:
        for place in range(begin, end):
            total = step_1(total, data[place])
    if words < ngram:
        found[0] = _shingle(total, words)
        written = 1
    return written


@inline
def _power(ngram: int) -> Any:
    power = np.uint64(1)
    for _ in range(ngram):
        power *= _BASE
    return power


@njit
def _hashes(data: Any, begin: int, end: int, letters: Any, classes: Any, ring: Any, found: Any) -> int:
    count: int = _row(data, begin, end, letters, classes, ring, _power(len(ring)), found)
    return count


@njit
def _sign(
    data: Any, offsets: Any, letters: Any, classes: Any, ngram: int, a: Any, b: Any, values: Any, numbers: Any
) -> None:
    """Lowers `values` to the signatures of the texts; `numbers` gets their shingles, -1 for an unfit text."""
    longest = 0
    for row in range(len(numbers)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    found = np.empty(longest + 1, np.uint32)
    ring = np.zeros(ngram, np.uint64)
    power = _power(ngram)
    for row in range(len(numbers)):
        count = _row(data, offsets[row], offsets[row + 1], letters, classes, ring, power, found)
        numbers[row] = count
        signature = values[row]
        for place in range(count):
            mixed = _fmix32(found[place])
            for turn in range(len(signature)):
                signature[turn] = min(signature[turn], np.uint32(a[turn] * mixed + b[turn]))


@inline
def _fmix32(value: Any) -> Any:
    """MurmurHash3's finaliser, with which datasketch mixes hashes before it permutes them."""
    value = np.uint32(value ^ value >> np.uint32(16))
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value = np.uint32(value ^ value >> np.uint32(13))
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ value >> np.uint32(16))
