"""Phrases of a list, found in the bytes of a text column by the hashes of their words."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import njit
from stages.lookup import find, step_1, step_2
from stages.text.hashed_words import word_at

ENDINGS = 1 << 14
ENDING = np.uint64(50)

_BASE_1 = np.uint64(0x8F14E45FCEEA167B)
_BASE_2 = np.uint64(0xE7037ED1A0B428DB)


@njit
def phrases(
    data: Any, offsets: Any, languages: Any, letters: Any, classes: Any, most: int, places: Any, keys_1: Any,
    keys_2: Any, shift: int, gate: Any, endings: Any, unfit: Any, lengths: Any, whole: Any, lasts: Any, hits: Any,
) -> int:  # fmt: skip
    """Writes the phrases of the list that texts hold, as many as there is room for; gives how many there are.

    The longest phrase at a place counts, and none that overlaps an earlier one. `languages`: number of the list for
    each text; below 0 it is passed over. `endings`: by the first bits of a word's hash, a bit for each number of
    words that a phrase has which ends with it. By text: whether it is `unfit`, its words, the hashes of it `whole` as
    one phrase, and of its last word. `hits`: (row, number in the table, word at which it begins, first and last byte
    within the text).
    """
    ring = 1
    while ring <= most:
        ring *= 2
    sum_1, sum_2 = np.zeros(ring, np.uint64), np.zeros(ring, np.uint64)
    starts = np.zeros(ring, np.int64)
    powers_1, powers_2 = np.ones(most + 1, np.uint64), np.ones(most + 1, np.uint64)
    for power in range(most):
        powers_1[power + 1] = powers_1[power] * _BASE_1
        powers_2[power + 1] = powers_2[power] * _BASE_2
    ends = np.zeros(ring, np.int64)  # at which word the last hits end, and where each begins
    begins = np.zeros(ring, np.int64)
    found = 0
    for row in range(len(offsets) - 1):
        unfit[row] = False
        lengths[row] = 0
        whole[row, 0] = whole[row, 1] = 0
        if languages[row] < 0:
            continue
        begin, end = offsets[row], offsets[row + 1]
        before = found
        at = begin
        count = 0
        sum_1[0] = sum_2[0] = 0
        mark = np.uint64(languages[row]) << np.uint64(8)
        while True:
            start, at, _, one, two = word_at(data, at, end, letters, classes)
            if start < 0:
                unfit[row] = True
                found = before
                break
            if start == end:
                whole[row, 0] = step_1(sum_1[count & (ring - 1)], mark + np.uint64(min(count, 255)))
                whole[row, 1] = step_2(sum_2[count & (ring - 1)], mark + np.uint64(min(count, 255)))
                lengths[row] = count
                break
            old, new = count & (ring - 1), (count + 1) & (ring - 1)
            starts[old] = start
            sum_1[new] = sum_1[old] * _BASE_1 + one
            sum_2[new] = sum_2[old] * _BASE_2 + two
            count += 1
            lasts[row] = one
            sizes = endings[one >> ENDING]
            if sizes == 0:
                continue
            for size in range(min(most, count), 0, -1):
                if not sizes >> np.uint64(size) & np.uint64(1):
                    continue
                left = (count - size) & (ring - 1)
                hash_1 = step_1(sum_1[new] - sum_1[left] * powers_1[size], mark + np.uint64(size))
                hash_2 = step_2(sum_2[new] - sum_2[left] * powers_2[size], mark + np.uint64(size))
                number = find(places, keys_1, keys_2, shift, gate, hash_1, hash_2)
                if number < 0:
                    continue
                first = count - size
                # Hits that lie within this one give way; one that only overlaps it stands.
                while found > before and begins[(found - 1) & (ring - 1)] >= first:
                    found -= 1
                if found > before and ends[(found - 1) & (ring - 1)] > first:
                    break
                begins[found & (ring - 1)], ends[found & (ring - 1)] = first, count
                if found < len(hits):
                    hits[found, 0], hits[found, 1], hits[found, 2] = row, number, first
                    hits[found, 3], hits[found, 4] = starts[left] - begin, at - begin
                found += 1
                break
    return found
