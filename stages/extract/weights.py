"""What the words of a page speak for: tables of weights for words of attributes and for tokens of short texts.

`pipeline.train_extractor` learns the tables; a weight is log odds of main content in sixteenths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit

Weights = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.int32]

WORD_SLOTS, TOKEN_SLOTS = 1 << 15, 1 << 16
"""Places of the tables of word weights: a word of an attribute, a token (or two in a row) of a text."""
EARLY_TOKENS = 24
"""How many tokens of a block are looked up: what a menu or a button says is short."""


@inline
def _slot_of_word(value: int) -> int:
    return np.int64((np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(49))


@inline
def _slot_of_token(before: int, value: int) -> int:
    """The place of a token by itself (`before` is 0) or behind another."""
    mixed = (np.uint64(before) * np.uint64(0xC2B2AE3D27D4EB4F)) ^ np.uint64(value)
    return np.int64((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48))


@njit
def word_slots(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """The places of words in the table of word weights."""
    slots = np.empty(len(word), np.int64)
    for i in range(len(word)):
        slots[i] = _slot_of_word(word[i])
    return slots


@njit
def token_slots(token: npt.NDArray[np.uint32], token_block: npt.NDArray[np.int32]) -> Any:
    """Places in the table of token weights, of single tokens and of pairs, and the blocks that they stand in."""
    slots = np.empty(2 * len(token), np.int64)
    block = np.empty(2 * len(token), np.int32)
    count = run = 0
    for i in range(len(token)):
        run = run + 1 if i and token_block[i] == token_block[i - 1] else 0
        if run >= EARLY_TOKENS:
            continue
        slots[count] = _slot_of_token(0, token[i])
        block[count] = token_block[i]
        count += 1
        if run:
            slots[count] = _slot_of_token(token[i - 1], token[i])
            block[count] = token_block[i]
            count += 1
    return slots[:count], block[:count]


@inline
def element_weights(
    parent: Numbers, word: npt.NDArray[np.uint32], word_start: Numbers, word_weights: Weights
) -> Any:  # fmt: skip
    """Of each element's words the sum, the least and the greatest weight; and what the path down to it has of them.

    The path's five figures: sum, least, greatest, elements that speak clearly against content, and for it.
    """
    elements = len(parent)
    own = np.zeros((elements, 3), np.int32)
    path = np.zeros((elements, 5), np.int32)
    for e in range(elements):
        total = lowest = highest = 0
        for k in range(word_start[e], word_start[e + 1]):
            weight = np.int32(word_weights[_slot_of_word(word[k])])
            total += weight
            lowest = min(lowest, weight)
            highest = max(highest, weight)
        own[e, 0], own[e, 1], own[e, 2] = total, lowest, highest
        path[e, 0], path[e, 1], path[e, 2] = total, lowest, highest
        path[e, 3] = lowest < -16
        path[e, 4] = highest > 16
        up = parent[e]
        if up >= 0:
            path[e, 0] += path[up, 0]
            path[e, 1] = min(path[e, 1], path[up, 1])
            path[e, 2] = max(path[e, 2], path[up, 2])
            path[e, 3] += path[up, 3]
            path[e, 4] += path[up, 4]
    return own, path


@inline
def text_weights(token: npt.NDArray[np.uint32], token_block: Numbers, token_weights: Weights, blocks: int) -> Any:
    """Of each block's first tokens: sum, least and greatest weight, the weight of the first one, and how many."""
    text = np.zeros((blocks, 5), np.int32)
    run = 0
    for i in range(len(token)):
        b = token_block[i]
        run = run + 1 if i and token_block[i - 1] == b else 0
        if run >= EARLY_TOKENS:
            continue
        weight = np.int32(token_weights[_slot_of_token(0, token[i])])
        if run:
            pair = np.int32(token_weights[_slot_of_token(token[i - 1], token[i])])
            weight = pair if abs(pair) > abs(weight) else weight
        else:
            text[b, 3] = weight
        text[b, 0] += weight
        text[b, 1] = min(text[b, 1], weight)
        text[b, 2] = max(text[b, 2], weight)
        text[b, 4] += 1
    return text
