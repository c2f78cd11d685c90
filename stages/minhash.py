"""MinHash signatures, as datasketch's `affine32` scheme defines them, for whole columns at once.

Broder, On the resemblance and containment of documents (1997): the share of equal values in two
signatures estimates the Jaccard similarity of the shingle sets.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from stages.shingles import shingles

VERSION = 1
"""Raised whenever the same settings give other signatures; part of the resume key."""
PACKAGES = ("numpy", "regex", "xxhash")

_ROWS = 4096  # shingles multiplied at once: 2 MB at 128 permutations stay in the cache


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
    """`values` (rows, permutations) uint32; `shingles` (rows,) int64, the number of different shingles
    (0 and the greatest value everywhere where the text is null)."""

    values: npt.NDArray[np.uint32]
    shingles: npt.NDArray[np.int64]


def signatures(texts: pa.Array, settings: MinHashSettings) -> Signatures:
    """The signature of each text: equal to `datasketch.MinHash(permutations, seed, hashfunc=hash32)` updated
    with the text's `shingles`."""
    a, b = _permutations(settings.permutations, settings.seed)
    values = np.full((len(texts), settings.permutations), 0xFFFFFFFF, np.uint32)
    numbers = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts.to_pylist()):
        if text is None:
            continue
        hashes = np.unique(np.fromiter(map(hash32, shingles(text, settings.ngram)), np.uint32))
        numbers[row] = len(hashes)
        mixed = _fmix32(hashes)[:, None]
        for start in range(0, len(mixed), _ROWS):
            np.minimum(values[row], (mixed[start : start + _ROWS] * a + b).min(axis=0), out=values[row])
    return Signatures(values, numbers)


def estimate(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """The estimated Jaccard similarity of signatures (..., permutations): the share of equal values (...)."""
    equal: npt.NDArray[np.float64] = np.count_nonzero(left == right, axis=-1) / left.shape[-1]
    return equal


def hash32(shingle: bytes) -> int:
    """The lower 32 bits of xxHash3-64."""
    return xxhash.xxh3_64_intdigest(shingle) & 0xFFFFFFFF


@functools.cache
def _permutations(number: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Factors (odd, so that no two values meet) and summands of h -> a h + b mod 2^32, as datasketch draws them."""
    generator = np.random.RandomState(seed)  # whose numbers numpy has promised to keep
    a = generator.randint(0, 1 << 31, number, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, generator.randint(0, 1 << 32, number, dtype=np.uint32)


def _fmix32(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """MurmurHash3's finaliser, with which datasketch mixes hashes before it permutes them."""
    values = values ^ (values >> np.uint32(16))
    values = values * np.uint32(0x85EBCA6B)
    values = values ^ (values >> np.uint32(13))
    values = values * np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))
