"""Which places of a text stand for its stretches, and digests of stretches.

Winnowing (Schleimer, Wilkerson, Aiken 2003, Winnowing: Local Algorithms for Document Fingerprinting): of the runs of
words inside a stretch, the one of least hash is chosen. Neighbouring stretches mostly share it, so that one place in
fourteen or so is chosen; and equal stretches choose equal runs, wherever they stand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.lookup import SEED_1, SEED_2, step_1, step_2
from stages.substrings.located import Hashes, Words
from stages.text.column import Ints

VERSION = 1
"""Raised whenever the same texts give other records; part of the resume key."""

_BASE = np.uint64(0x9FB21C651E98DF25)
"""Of the sum that rolls over words (Karp and Rabin 1987)."""


class Fingerprints(NamedTuple):
    """Chosen runs of words, by text and place."""

    keys: Hashes
    """Equal for equal runs, evenly spread; unequal runs may have equal ones, which costs time alone."""
    first: Hashes
    second: Hashes
    """128 bits of all that the stretches hold which chose the run, and where in it the run stands: where they are
    equal, the same stretches chose it."""
    rows: Ints
    """Number of the text."""
    places: Ints
    """Number of the run's first word in its text."""
    lows: Ints
    highs: Ints
    """First and last of the stretches that chose it, by their first words: one behind another."""


class Windows(NamedTuple):
    """Stretches, by text and place."""

    first: Hashes
    second: Hashes
    """128 bits of the words of the stretch."""
    rows: Ints
    places: Ints
    """Number of the first word."""


def run_length(tokens: int) -> int:
    """Words in a run: half a stretch, so that few runs recur which no stretch does, and few need to be chosen."""
    return max(1, tokens // 2)


def fingerprints(words: Words, tokens: int) -> Fingerprints:
    """The chosen runs of the texts' stretches of `tokens` words; none of a text with fewer words."""
    most = int(np.maximum(words.counts - tokens + 1, 0).sum())
    hashes = np.empty((3, most), np.uint64)
    numbers = np.empty((4, most), np.int64)
    grams = np.empty(int(words.counts.max(initial=0)), np.uint64)
    found = _winnow(
        words.first, words.second, words.begins, words.counts, tokens, run_length(tokens), grams, *hashes, *numbers
    )
    return Fingerprints(*(part[:found].copy() for part in (*hashes, *numbers)))


def windows(words: Words, tokens: int, rows: Ints, lows: Ints, highs: Ints) -> Windows:
    """Every stretch of text `rows[i]` from `lows[i]` to `highs[i]`."""
    many = highs - lows + 1
    total = int(many.sum())
    places = np.arange(total) - np.repeat(np.cumsum(many) - many, many) + np.repeat(lows, many)
    of = np.repeat(rows, many)
    found = np.empty((2, total), np.uint64)
    _digests(words.first, words.second, words.begins[of] + places, tokens, *found)
    return Windows(found[0], found[1], of, places)


@inline
def _digest(first: Any, second: Any, begin: int, end: int, salt: int) -> Any:
    """Two chained hashes of a stretch of words: no sum that rolls, whose collisions can be constructed."""
    one, two = step_1(SEED_1, salt), step_2(SEED_2, salt)
    for at in range(begin, end):
        one, two = step_1(one, first[at]), step_2(two, second[at])
    return one, two


@njit
def _digests(first: Any, second: Any, begins: Any, tokens: int, ones: Any, twos: Any) -> None:
    for number in range(len(begins)):
        ones[number], twos[number] = _digest(first, second, begins[number], begins[number] + tokens, 0)


@njit
def _winnow(
    first: Any, second: Any, begins: Any, counts: Any, tokens: int, length: int, grams: Any,
    keys: Any, ones: Any, twos: Any, rows: Any, places: Any, lows: Any, highs: Any,
) -> int:  # fmt: skip
    """Writes the fingerprints and gives their number; `grams` has room for the words of a text."""
    power = np.uint64(1)
    for _ in range(length):
        power *= _BASE
    width = tokens - length + 1  # runs in a stretch
    found = 0
    for row in range(len(begins)):
        begin, count = begins[row], counts[row]
        if count < tokens:
            continue
        total = np.uint64(0)
        for at in range(count):
            total = total * _BASE + first[begin + at]
            if at >= length:
                total -= first[begin + at - length] * power
            if at >= length - 1:
                grams[at - length + 1] = step_1(SEED_2, total)
        best = -1
        low = 0
        for window in range(count - tokens + 2):
            new = best
            if window > count - tokens:
                new = -1  # behind the last one
            elif best < window:
                new = window
                for at in range(window + 1, window + width):
                    if grams[at] <= grams[new]:
                        new = at
            elif grams[window + width - 1] <= grams[best]:
                new = window + width - 1
            if new != best and best >= 0:
                keys[found] = step_1(SEED_1, grams[best])  # the least of many: spread again
                ones[found], twos[found] = _digest(
                    first, second, begin + low, begin + window - 1 + tokens, best - low + 1
                )
                rows[found], places[found] = row, best
                lows[found], highs[found] = low, window - 1
                found += 1
            if new != best:
                low = window
            best = new
    return found


def matching(found: Fingerprints, wanted: npt.NDArray[np.uint64], numbers: Ints) -> npt.NDArray[np.bool_]:
    """Which fingerprints stand at the `wanted` places; `numbers` are those of the documents in the texts' rows."""
    return np.isin(place_of(numbers[found.rows], found.places), wanted, assume_unique=True)


def place_of(documents: Ints, words: Ints) -> npt.NDArray[np.uint64]:
    """A document and a word in it as one number, in the order of both."""
    return documents.astype(np.uint64) << np.uint64(32) | words.astype(np.uint64)
