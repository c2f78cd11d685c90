"""Marks that a text may hold and still be folded code point by code point.

`characters.folds` leaves them out, since a mark may be composed with what stands before it, or put in another order
(UAX #15). Mostly it is neither: vowels, tones and viramas of Arabic, Thai and Indic scripts are written in order and
never composed. What `joins` lets through stays as it is under `stages.words.fold`.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.text.characters import CODES, NOT_ALONE, folds
from stages.words import fold

COMPOSED = 255
"""In `orders`: begins a sequence, but may be taken apart, so that marks behind it are not looked at."""


class Joining(NamedTuple):
    """How code points take marks. Kernels take the parts as arguments."""

    orders: npt.NDArray[np.uint8]
    """Canonical combining class of the last code point of what a code point folds to, 0 where that begins a sequence
    and has no parts; or `COMPOSED`."""
    pairs: npt.NDArray[np.int64]
    """Code points and marks that are composed, as code point × `CODES` + mark, ascending."""


@functools.cache
def joining() -> Joining:
    """The tables (1 MB)."""
    orders = np.zeros(CODES, np.uint8)
    orders[0xAC00:0xD7A4] = COMPOSED  # Hangul syllables, by rule
    alone = folds()
    pairs = set()
    folding = defaultdict(list)
    for code in _few():
        character = chr(code)
        folded = fold(character)
        # On the way too: the iota below stands last before it becomes a letter.
        last = max(unicodedata.combining(form[-1]) for form in (folded, unicodedata.normalize("NFKC", character)))
        whole = unicodedata.normalize("NFD", character) == character and len(folded) == 1
        whole = whole and unicodedata.normalize("NFD", folded) == folded
        orders[code] = last if last or whole else COMPOSED
        if alone[code] != NOT_ALONE and alone[code] != code:
            folding[int(alone[code])].append(code)
    for first, second in _composed():
        pairs |= {(one, second) for one in (first, *folding[first])}
    found = Joining(orders, np.array(sorted(one * CODES + other for one, other in pairs), np.int64))
    for table in found:
        table.setflags(write=False)
    return found


@functools.cache
def marks() -> tuple[frozenset[int], frozenset[int]]:
    """The code points that are `characters.NOT_ALONE` and that `joins` may be asked for: those that are composed with
    nothing, and those that are composed with some."""
    second = {other for _, other in _composed()}
    stay = {code for code in _few() if folds()[code] == NOT_ALONE and fold(chr(code)) == chr(code)}
    stay = {code for code in stay if not (0x1161 <= code < 0x1176 or 0x11A8 <= code < 0x11C3)}  # Hangul, by rule
    return frozenset(stay - second), frozenset(stay & second)


@functools.cache
def _few() -> list[int]:
    """Code points that fold to something else, have parts, or are marks."""
    table = folds()
    found = set(np.flatnonzero(table != np.arange(CODES)).tolist()) - set(range(0xD800, 0xE000))
    found |= {code for code in range(CODES) if unicodedata.decomposition(chr(code))}
    return sorted(found)


@functools.cache
def _composed() -> list[tuple[int, int]]:
    """The pairs of Unicode that are composed."""
    found = []
    for code in _few():
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<":
            first, second = (int(part, 16) for part in parts)
            if unicodedata.normalize("NFC", chr(first) + chr(second)) == chr(code):
                found.append((first, second))
    return found


@inline
def joins(mark: Any, previous: Any, composing: bool, orders: Any, pairs: Any) -> bool:
    """Whether a mark behind the code point `previous` (0: none) is neither composed with anything nor moved.

    The quick check of UAX #15, section 9; what it leaves open (`composing`) is looked up in the simple case that the
    mark stands directly behind what begins a sequence.
    """
    order, before = orders[mark], orders[previous]
    if order != 0 and before != COMPOSED and before > order:
        return False
    if not composing:
        return True
    if before:
        return bool(order == 0 and before != COMPOSED)
    key = previous * CODES + mark
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) >> 1
        if pairs[middle] < key:
            low = middle + 1
        else:
            high = middle
    return bool(low == len(pairs) or pairs[low] != key)
