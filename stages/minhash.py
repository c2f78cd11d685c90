"""MinHash signatures, as datasketch's `affine32` scheme defines them, for whole columns at once.

Broder, On the resemblance and containment of documents (1997): the share of equal values in two
signatures estimates the Jaccard similarity of the sets of shingles (`stages.shingles`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit
from stages.shingles import refolded, room, shingles_of
from stages.text.block_words import letters
from stages.text.column import texts

VERSION = 3
"""Raised whenever the same settings give other signatures; part of the resume key."""
PACKAGES = ("numpy", "regex", "xxhash")

Values = npt.NDArray[np.uint32]


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
    """The signature of each text: equal to `datasketch.MinHash(permutations, seed, hashfunc=int)` updated with
    the first 32 bits of each of the text's `shingle_hashes`."""
    a, b = _permutations(settings.permutations, settings.seed)
    values = np.full((len(column), settings.permutations), 0xFFFFFFFF, np.uint32)
    numbers = np.zeros(len(column), np.int64)
    view = texts(column)
    _sign(view.data, view.offsets, letters(), settings.ngram, a, b, values, numbers)
    unfit = np.flatnonzero(numbers < 0)
    if len(unfit):
        again = refolded(column.take(pa.array(unfit)))
        some, counts = values[unfit], numbers[unfit]
        _sign(again.data, again.offsets, letters(folded=True), settings.ngram, a, b, some, counts)
        values[unfit], numbers[unfit] = some, counts
    values[~view.valid], numbers[~view.valid] = 0xFFFFFFFF, 0
    return Signatures(values, numbers)


def estimate(left: Values, right: Values) -> npt.NDArray[np.float64]:
    """The estimated Jaccard similarity of signatures (..., permutations): the share of equal values (...)."""
    equal: npt.NDArray[np.float64] = np.count_nonzero(left == right, axis=-1) / left.shape[-1]
    return equal


@functools.cache
def _permutations(number: int, seed: int) -> tuple[Values, Values]:
    """Factors (odd, so that no two values meet) and summands of h -> a h + b mod 2^32, as datasketch draws them."""
    generator = np.random.RandomState(seed)  # whose numbers numpy has promised to keep
    a = generator.randint(0, 1 << 31, number, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, generator.randint(0, 1 << 32, number, dtype=np.uint32)


@njit
def _sign(data: Any, offsets: Any, table: Any, ngram: int, a: Any, b: Any, values: Any, numbers: Any) -> None:
    """Lowers `values` to the signatures of the texts; `numbers` gets their shingles, -1 for an unfit text."""
    longest = 0
    for row in range(len(numbers)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    words = np.empty(room(longest), np.uint64)
    found = np.empty(room(longest), np.uint64)
    mixed = np.empty(room(longest) + 3, np.uint32)
    for row in range(len(numbers)):
        count = shingles_of(data, offsets[row], offsets[row + 1], table, ngram, words, found)
        numbers[row] = count
        for place in range(count):
            mixed[place] = _fmix32(np.uint32(found[place] >> np.uint64(32)))
        for place in range(max(count, 1), count + 3):
            mixed[place] = mixed[count - 1]
        _lower(values[row], mixed, count, a, b)


@inline
def _lower(signature: Any, mixed: Any, count: int, a: Any, b: Any) -> None:
    """Lowers a signature to so many hashes. They come by fours, the last one again if need be: a signature is read and
    written once for all four, which doubles the speed."""
    for place in range(0, count, 4):
        first, second, third, fourth = mixed[place], mixed[place + 1], mixed[place + 2], mixed[place + 3]
        for turn in range(len(signature)):
            factor, summand = a[turn], b[turn]
            left = min(np.uint32(factor * first + summand), np.uint32(factor * second + summand))
            right = min(np.uint32(factor * third + summand), np.uint32(factor * fourth + summand))
            signature[turn] = min(signature[turn], min(left, right))


@inline
def _fmix32(value: Any) -> Any:
    """MurmurHash3's finaliser, with which datasketch mixes hashes before it permutes them."""
    value = np.uint32(value ^ value >> np.uint32(16))
    value = np.uint32(value * np.uint32(0x85EBCA6B))
    value = np.uint32(value ^ value >> np.uint32(13))
    value = np.uint32(value * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ value >> np.uint32(16))
