"""Which blocks of a page are main content, learned from the text that people took out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import njit

_MOST_CELLS = 400_000_000


def shares(
    token: npt.NDArray[np.uint32], token_block: npt.NDArray[np.int32], blocks: int, gold: npt.NDArray[np.uint32]
) -> npt.NDArray[np.float32]:
    """The share of each block's tokens that the gold text holds, in order: B figures from 0 to 1.

    By a global alignment of both sequences of tokens that prefers long runs of equal tokens, so that a word of
    the menu is not taken for the same word in the text. A page too long for that is matched by trigrams.
    """
    hit = _by_trigrams(token, gold) if len(token) * len(gold) > _MOST_CELLS else _aligned(token, gold)
    found = np.bincount(token_block, hit, blocks)
    return (found / np.maximum(np.bincount(token_block, minlength=blocks), 1)).astype(np.float32)


def _by_trigrams(token: npt.NDArray[np.uint32], gold: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    def grams(tokens: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
        wide = tokens.astype(np.uint64)
        mixed: npt.NDArray[np.uint64] = (wide[:-2] << np.uint64(40)) ^ (wide[1:-1] << np.uint64(20)) ^ wide[2:]
        return mixed

    hit = np.zeros(len(token), np.bool_)
    if len(token) > 2 and len(gold) > 2:
        found = np.isin(grams(token), grams(gold))
        for shift in range(3):
            hit[shift : len(found) + shift] |= found
    return hit


@njit
def _aligned(token: npt.NDArray[np.uint32], gold: npt.NDArray[np.uint32]) -> Any:
    """Whether each token is matched. A match counts 1, and 3 more behind another match; gaps are free."""
    n, m = len(token), len(gold)
    # best[j]: of token[:i] and gold[:j]; run[j]: the same with token i-1 matched to gold j-1
    best = np.zeros(m + 1, np.int32)
    run = np.full(m + 1, -1, np.int32)
    came = np.zeros((n + 1, m + 1), np.uint8)  # bits: 1 best is run; 2 best from above; 4 run goes on from a run
    for i in range(1, n + 1):
        diagonal_best, diagonal_run = best[0], run[0]
        for j in range(1, m + 1):
            above_best, above_run = best[j], run[j]
            mark = 0
            here = -1
            if token[i - 1] == gold[j - 1]:
                here = diagonal_best + 1
                if diagonal_run >= 0 and diagonal_run + 4 >= here:
                    here = diagonal_run + 4
                    mark = 4
            value = best[j - 1]
            if above_best >= value:
                value = above_best
                mark |= 2
            if here >= 0 and here >= value:
                value = here
                mark |= 1
            best[j], run[j] = value, here
            came[i, j] = mark
            diagonal_best, diagonal_run = above_best, above_run
    hit = np.zeros(n, np.bool_)
    i, j = n, m
    in_run = False
    while i > 0 and j > 0:
        mark = came[i, j]
        if in_run or mark & 1:
            hit[i - 1] = True
            in_run = (mark & 4) != 0
            i -= 1
            j -= 1
        elif mark & 2:
            i -= 1
        else:
            j -= 1
    return hit
