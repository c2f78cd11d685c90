"""What the second model sees in addition: what the first one thinks of a block's surroundings.

Neighbours, siblings of one make, the elements around the block, its section and its page, each by the first model's
mean over their tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.extract.blocks import Blocks
from stages.extract.scan import TAG_NUMBER, Bytes
from stages.extract.siblings import groups, ratio, signature
from stages.extract.tokens import TOKENS
from stages.kernels import njit

Matrix = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int32]

LEVELS = 5
"""How many elements around a block are looked at, of those that hold more than the one inside them."""
HEADING = np.zeros(256, np.int64)
"""The level of a heading by tag number, 0 for other elements."""
for _level in range(1, 7):
    HEADING[TAG_NUMBER[f"h{_level}"]] = _level
_LIKELY, _GOOD = 32768, 45000  # in 1/65,536
_GOOD_TOKENS, _LONG_TOKENS = 10, 20

CONTEXT_NAMES: tuple[str, ...] = (
    *"own prev1 prev2 prev3 next1 next2 next3 around wide before after alike alike_best level1 level2 level3".split(),
    *"level4 level5 page best kept_share heading section since_good until_good path_good parent_rest".split(),
    *"long_prev long_next".split(),
)
"""What each column of `context` is."""


def context(blocks: Blocks, score: npt.NDArray[np.int32]) -> Matrix:
    """B rows of CONTEXT_NAMES, float32, from the first model's probabilities in 1/65,536."""
    made: Matrix = _context(
        blocks.counts, blocks.element, blocks.tag, blocks.parent, blocks.first, blocks.last, blocks.word,
        blocks.word_start, score, len(CONTEXT_NAMES), HEADING,
    )  # fmt: skip
    return made


@njit
def _context(
    counts: Numbers, element: Numbers, tag: Bytes, parent: Numbers, first: Numbers, last: Numbers,
    word: npt.NDArray[np.uint32], word_start: Numbers, score: Numbers, columns: int, heading: npt.NDArray[np.int64],
) -> Any:  # fmt: skip
    blocks = len(counts)
    x = np.zeros((blocks, columns), np.float32)
    if blocks == 0:
        return x
    sums = np.zeros((blocks + 1, 2), np.int64)  # tokens, and tokens times score
    keys = np.empty(blocks, np.int64)
    best = 0
    kept = np.int64(0)
    for b in range(blocks):
        tokens = np.int64(counts[b, TOKENS]) + 1
        sums[b + 1, 0] = sums[b, 0] + tokens
        sums[b + 1, 1] = sums[b, 1] + tokens * score[b]
        keys[b] = signature(element[b], tag, parent, word, word_start)
        best = max(best, score[b])
        kept += tokens if score[b] > _LIKELY else 0
    group, many = groups(keys)
    alike = np.zeros((many, 3), np.int64)
    for b in range(blocks):
        tokens = np.int64(counts[b, TOKENS]) + 1
        alike[group[b], 0] += tokens
        alike[group[b], 1] += tokens * score[b]
        alike[group[b], 2] = max(alike[group[b], 2], score[b])
    until = np.full(blocks, -1, np.int64)  # tokens up to the next good block, and that block's score
    long_next = np.zeros(blocks, np.int32)
    section_end = np.full(blocks, blocks, np.int64)
    after = long_score = -1
    stop = blocks
    for b in range(blocks - 1, -1, -1):
        until[b] = sums[after, 0] - sums[b + 1, 0] if after >= 0 else -1
        long_next[b] = long_score
        section_end[b] = stop
        if score[b] > _GOOD and counts[b, TOKENS] >= _GOOD_TOKENS:
            after = b
        if counts[b, TOKENS] >= _LONG_TOKENS:
            long_score = score[b]
        if heading[tag[element[b]]]:
            stop = b
    before = last_heading = -1
    long_score = -1
    for b in range(blocks):
        e = element[b]
        f = 0
        x[b, f] = score[b]
        f += 1
        for step in (-1, -2, -3, 1, 2, 3):
            n = b + step
            x[b, f] = score[n] if 0 <= n < blocks else -1
            f += 1
        for reach in (2, 8):
            a, z = max(b - reach, 0), min(b + reach + 1, blocks)
            x[b, f] = ratio(sums[z, 1] - sums[a, 1], sums[z, 0] - sums[a, 0])
            f += 1
        a, z = max(b - 20, 0), min(b + 21, blocks)
        x[b, f] = ratio(sums[b, 1] - sums[a, 1], sums[b, 0] - sums[a, 0])
        x[b, f + 1] = ratio(sums[z, 1] - sums[b + 1, 1], sums[z, 0] - sums[b + 1, 0])
        x[b, f + 2] = ratio(alike[group[b], 1], alike[group[b], 0])
        x[b, f + 3] = alike[group[b], 2]
        f += 4
        up = e
        for _ in range(LEVELS):
            below = up
            while up >= 0 and first[up] == first[below] and last[up] == last[below] and parent[up] >= 0:
                up = parent[up]
            x[b, f] = ratio(sums[last[up], 1] - sums[first[up], 1], sums[last[up], 0] - sums[first[up], 0])
            f += 1
        x[b, f] = ratio(sums[blocks, 1], sums[blocks, 0])
        x[b, f + 1] = best
        x[b, f + 2] = ratio(kept, sums[blocks, 0])
        f += 3
        if heading[tag[e]]:
            last_heading = b
        x[b, f] = score[last_heading] if last_heading >= 0 else -1
        x[b, f + 1] = ratio(sums[section_end[b], 1] - sums[b + 1, 1], sums[section_end[b], 0] - sums[b + 1, 0])
        f += 2
        x[b, f] = sums[b, 0] - sums[before + 1, 0] if before >= 0 else -1
        x[b, f + 1] = until[b]
        f += 2
        if score[b] > _GOOD and counts[b, TOKENS] >= _GOOD_TOKENS:
            before = b
        up = e
        good = 0
        while up >= 0:
            good += 2 * (sums[last[up], 1] - sums[first[up], 1]) > 65536 * (sums[last[up], 0] - sums[first[up], 0])
            up = parent[up]
        x[b, f] = good
        rest = sums[last[e], 0] - sums[first[e], 0] - counts[b, TOKENS] - 1
        x[b, f + 1] = ratio(
            sums[last[e], 1] - sums[first[e], 1] - (np.int64(counts[b, TOKENS]) + 1) * score[b], rest
        )  # fmt: skip
        x[b, f + 2] = long_score
        x[b, f + 3] = long_next[b]
        if counts[b, TOKENS] >= _LONG_TOKENS:
            long_score = score[b]
    return x
