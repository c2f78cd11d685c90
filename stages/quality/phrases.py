"""Phrases that a kernel looks for at each character, without regard to case and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.text import characters
from stages.text.column import Ints
from stages.text.utf8 import Bytes, code_at, width


class Phrases(NamedTuple):
    """Phrases behind each other."""

    codes: npt.NDArray[np.uint32]
    """The folded code points of all."""
    starts: Ints
    """n + 1 places in `codes`."""
    firsts: npt.NDArray[np.bool_]
    """By the last eight bits of a folded code point: whether a phrase may begin with it."""


def folded_codes(text: str) -> list[int]:
    """The code points of a text, each folded by itself (`stages.text.characters.folds_alone`)."""
    table = characters.folds_alone()
    return [int(table[ord(character)]) for character in text]


def phrases(texts: Sequence[str]) -> Phrases:
    """The phrases as kernels take them."""
    codes = [folded_codes(text) for text in texts]
    firsts = np.zeros(256, np.bool_)
    for phrase in codes:
        firsts[phrase[0] & 255] = True
    joined = np.array([code for phrase in codes for code in phrase], np.uint32)
    return Phrases(joined, np.cumsum([0, *map(len, codes)]).astype(np.int64), firsts)


@inline
def found_at(
    data: Bytes, at: int, end: int, folds: Any, codes: Any, starts: Ints, firsts: Any, start: int, stop: int
) -> int:
    """The number of the first of the phrases `start` to `stop` that begins here and ends before `end`, or -1.

    `folds` is `characters.folds_alone()`.
    """
    if not firsts[folds[code_at(data, at)] & np.uint32(255)]:
        return -1
    for phrase in range(start, stop):
        place = at
        index = starts[phrase]
        while index < starts[phrase + 1] and place < end:
            if folds[code_at(data, place)] != codes[index]:
                break
            place += width(data[place])
            index += 1
        if index == starts[phrase + 1]:
            return phrase
    return -1


@inline
def phrase_end(data: Bytes, at: int, starts: Ints, phrase: int) -> int:
    """Where a phrase ends that was found at `at`."""
    for _ in range(starts[phrase], starts[phrase + 1]):
        at += width(data[at])
    return at
