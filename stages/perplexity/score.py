"""What an n-gram model says of texts: one pass over the bytes of all tokens of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.perplexity.ngrams import MIX_1, MIX_2, Ints, Ngrams, Words, find, number_of
from stages.text.column import Texts
from stages.text.utf8 import Bytes


def score(model: Ngrams, view: Texts) -> tuple[npt.NDArray[np.float64], Ints]:
    """For each text the sum of its tokens' logarithms (base 10), and how many tokens it has.

    Tokens stand between blanks, sentences between line feeds. A sentence's begin is given; its end is foretold, and a
    token too. An n-gram that is not in the model costs the back-off of what stands before its last word (Katz 1987).
    """
    sums, tokens = np.zeros(len(view.valid)), np.zeros(len(view.valid), np.int64)
    _score(view.data, view.offsets, *model, sums, tokens)
    return sums, tokens


@njit
def _score(
    data: Bytes, offsets: Ints, words: Words, floats: Any, places: Ints, slots: Ints, begin: int, end: int, sums: Any,
    tokens: Ints,
) -> None:  # fmt: skip
    order = len(places) - 1
    said = np.zeros(order + 1, np.int64)  # the last words, the newest first
    backs = np.zeros(order + 1, np.float64)  # back-offs of the n-grams that end at the word before, by length
    lengths = np.zeros(order + 1, np.float64)
    for text in range(len(sums)):
        at, stop = offsets[text], offsets[text + 1]
        if at == stop:
            continue
        known = 0  # longest n-gram that ends at the word before
        fresh = True
        while at <= stop:
            if fresh:
                said[0] = begin
                backs[1] = floats[places[1] + 2 * begin + 1]
                known = 1
                fresh = False
            if at < stop and data[at] == 32:
                at += 1
                continue
            if at == stop or data[at] == 10:
                word = end
                fresh = True
                at += 1
            else:
                first = at
                while at < stop and data[at] != 32 and data[at] != 10:
                    at += 1
                word = number_of(words, places[0], slots[0], data, first, at)
            for index in range(order - 1, 0, -1):
                said[index] = said[index - 1]
            said[0] = word
            chance = -abs(np.float64(floats[places[1] + 2 * word]))  # the sign is KenLM's mark
            lengths[1] = floats[places[1] + 2 * word + 1]
            matched = 1
            key = np.uint64(word)
            while matched < order and matched <= known:
                key = key * MIX_1 ^ (np.uint64(said[matched]) + np.uint64(1)) * MIX_2
                longest = matched + 1 == order
                found = find(words, places[matched + 1], slots[matched + 1], 3 if longest else 4, key)
                if found < 0:
                    break
                matched += 1
                chance = -abs(np.float64(floats[found + 2]))
                if not longest:
                    lengths[matched] = floats[found + 3]
            for length in range(matched, known + 1):
                chance += backs[length]
            sums[text] += chance
            tokens[text] += 1
            known = min(matched, order - 1)
            for length in range(1, known + 1):
                backs[length] = lengths[length]
