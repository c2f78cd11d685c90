"""N-grams of words hashed over the bytes of a text column, all of them or those that a table has.

A word's hash is made of its folded code points, an n-gram's of its words' hashes by the sum that Karp and Rabin
(1987) roll, twice with different numbers. Words weigh more than single characters of scripts without spaces, and an
n-gram ends where its weight is reached: so one rule holds for both, and for texts that mix them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import inline, njit
from stages.lookup import find, step_1, step_2
from stages.text.hashed_words import word_at

_WAITING = 1024

_BASE_1 = np.uint64(0x9FB21C651E98DF25)
_BASE_2 = np.uint64(0xD1B54A32D192ED03)


@inline
def _flush(
    waiting: int, wait_1: Any, wait_2: Any, wait_spans: Any, picked: Any, looking: bool, places: Any, keys_1: Any,
    keys_2: Any, shift: int, gate: Any, row: int, found: int, rows: Any, hashes: Any, spans: Any, numbers: Any,
) -> int:  # fmt: skip
    """Writes those n-grams that wait and are in the table; gives how many there are now.

    All are held against the gate first, in a loop so small that the processor fetches several places of memory at once.
    """
    kept = 0
    for place in range(waiting):
        picked[kept] = place
        fine = wait_1[place] >> np.uint64(shift - 4)
        passes: Any = np.int64(gate[fine >> np.uint64(3)] >> (fine & np.uint64(7)) & 1)
        kept += passes if looking else 1
    for turn in range(kept):
        place = picked[turn]
        number = find(places, keys_1, keys_2, shift, gate, wait_1[place], wait_2[place]) if looking else 0
        if number < 0:
            continue
        if found < len(rows):
            rows[found], numbers[found] = row, number
            hashes[found, 0], hashes[found, 1] = wait_1[place], wait_2[place]
            spans[found] = wait_spans[place]
        found += 1
    return found


@njit
def grams(
    data: Any, offsets: Any, letters: Any, classes: Any, heavy: int, light: int, long: int, short: int, places: Any,
    keys_1: Any, keys_2: Any, shift: int, gate: Any, looking: bool, unfit: Any, weight: Any, rows: Any, hashes: Any,
    spans: Any, numbers: Any,
) -> int:  # fmt: skip
    """Writes the n-grams of all texts, as many as there is room for; gives how many there are.

    A word weighs `heavy`, a character of a script without spaces `light`, an n-gram at least `long`. `looking`: only
    n-grams that the table has, those of weight `short` too (0: none); else all, of weight `short` for a text that has
    less than `long`. By text: whether it is `unfit`, its `weight`. By n-gram: its row, two `hashes`, `spans` (first and
    last byte within the text, weights before it and at its end), and number in the table.
    """
    longest = long // min(light, heavy) + 2
    ring = 1
    while ring <= longest:
        ring *= 2
    # Of the last words: sums of hashes, and of weights, up to each; where each begins and ends.
    sum_1, sum_2 = np.zeros(ring, np.uint64), np.zeros(ring, np.uint64)
    weights, starts, ends = np.zeros(ring, np.int64), np.zeros(ring, np.int64), np.zeros(ring, np.int64)
    powers_1, powers_2 = np.ones(longest + 1, np.uint64), np.ones(longest + 1, np.uint64)
    for power in range(longest):
        powers_1[power + 1] = powers_1[power] * _BASE_1
        powers_2[power + 1] = powers_2[power] * _BASE_2
    first_words = np.zeros(2, np.int64)
    sizes = np.array([long, short], np.int64)
    wait_1, wait_2 = np.zeros(_WAITING, np.uint64), np.zeros(_WAITING, np.uint64)
    wait_spans, picked = np.zeros((_WAITING, 4), np.int64), np.zeros(_WAITING, np.int64)
    found = 0
    for row in range(len(offsets) - 1):
        begin, end = offsets[row], offsets[row + 1]
        unfit[row] = False
        before = found
        waiting = 0
        at = begin
        count = total = 0
        sum_1[0] = sum_2[0] = 0
        weights[0] = 0
        first_words[:] = 0
        done = False
        while not done:
            start, at, single, one, two = word_at(data, at, end, letters, classes)
            if start < 0:
                unfit[row] = True
                found = before
                waiting = total = 0
                break
            done = start == end
            if not done:
                old, new = count & (ring - 1), (count + 1) & (ring - 1)
                starts[old], ends[new] = start, at
                sum_1[new] = sum_1[old] * _BASE_1 + one
                sum_2[new] = sum_2[old] * _BASE_2 + two
                total += light if single else heavy
                weights[new] = total
                count += 1
            for turn in range(2):
                size = sizes[turn]
                # Without a table a text has short n-grams only where it has no long one, as is known at its end.
                if size == 0 or (turn == 0 and done) or (turn == 1 and not looking and (not done or total >= long)):
                    continue
                last = first_words[turn] if done else count - 1
                while last < count:
                    last += 1
                    right = last & (ring - 1)
                    while last > first_words[turn]:
                        left = first_words[turn] & (ring - 1)
                        if weights[right] - weights[left] < size:
                            break
                        words = last - first_words[turn]
                        first_words[turn] += 1
                        wait_1[waiting] = step_1(sum_1[right] - sum_1[left] * powers_1[words], size)
                        wait_2[waiting] = step_2(sum_2[right] - sum_2[left] * powers_2[words], size)
                        wait_spans[waiting, 0], wait_spans[waiting, 1] = starts[left] - begin, ends[right] - begin
                        wait_spans[waiting, 2], wait_spans[waiting, 3] = weights[left], weights[right]
                        waiting += 1
                        if waiting == _WAITING:
                            found = _flush(
                                waiting, wait_1, wait_2, wait_spans, picked, looking, places, keys_1, keys_2, shift,
                                gate, row, found, rows, hashes, spans, numbers,
                            )  # fmt: skip
                            waiting = 0
        found = _flush(
            waiting, wait_1, wait_2, wait_spans, picked, looking, places, keys_1, keys_2, shift, gate, row, found, rows,
            hashes, spans, numbers,
        )  # fmt: skip
        weight[row] = total
    return found
