"""The words of a text as hashes of their folded bytes, eight at a time: what `stages.words.words` finds in it.

For kernels that want all words of a text and nothing of them but a hash: `hashed_words.word_at` gives one word at a
time, its place and two hashes. ASCII is judged and folded eight bytes at once; everything else goes by tables, code
point by code point.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline
from stages.lookup import SEED_1, step_1
from stages.text.characters import CODES, CONNECTOR, JOINER, LETTER, MARK, NUMBER, SPACELESS, classes
from stages.text.eight import before_first, digits_in, eight_at, equal_to, leading, letters_in, stirred
from stages.text.hashed_words import BETWEEN, fitting
from stages.text.hashed_words import UNFIT as _UNFIT
from stages.text.hashed_words import folded as as_they_are
from stages.text.utf8 import code_at, width
from stages.words import fold

START = 1
"""Begins a word that may go on."""
SINGLE = 2
"""Is a word by itself, with the marks behind it."""
ON = 4
"""Goes on with a word."""
MARKS = 8
SKIPPED = 16
"""May stand in a word, but is not hashed."""
UNFIT = 32
"""The text must be folded by `stages.words.fold` first."""


class Letters(NamedTuple):
    """What code points are to words. Kernels take the parts as arguments."""

    pieces: npt.NDArray[np.uint32]
    """UTF-8 of what a code point folds to, the first byte lowest."""
    kinds: npt.NDArray[np.uint8]
    """The bits above."""


@functools.cache
def letters(*, folded: bool = False) -> Letters:
    """For texts as they are, or for texts that are folded already."""
    table = as_they_are() if folded else fitting()
    unfit = table == _UNFIT
    into = np.where(unfit, np.uint32(BETWEEN), table)
    pieces, kinds = pieces_of(into), _kinds()[into]
    kinds[unfit] = UNFIT
    if not folded:
        for code in np.flatnonzero(unfit).tolist():
            several = "" if 0xD800 <= code < 0xE000 else fold(chr(code))
            data = several.encode()
            # Such as a sharp s, whose two letters no neighbour changes: what could is unfit itself.
            if len(several) > 1 and len(data) <= 4 and table[ord(several[0])] == ord(several[0]):
                parts = _kinds()[[ord(letter) for letter in several]]
                if parts[0] == START | ON and (parts & ON != 0).all():
                    kinds[code] = START | ON
                    pieces[code] = int.from_bytes(data, "little")
    pieces.setflags(write=False)
    kinds.setflags(write=False)
    return Letters(pieces, kinds)


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The bits of code points that are folded already."""
    table = classes()
    wordy = table & (LETTER | NUMBER) != 0
    spaceless = table & SPACELESS != 0
    kinds = np.zeros(CODES, np.uint8)
    kinds[(wordy | (table & CONNECTOR != 0)) & ~spaceless] |= START
    kinds[wordy & spaceless] |= SINGLE
    kinds[(table & (LETTER | NUMBER | CONNECTOR | MARK) != 0) & ~(spaceless & (table & LETTER != 0))] |= ON
    kinds[table & MARK != 0] |= MARKS
    kinds[table & JOINER != 0] = SKIPPED
    kinds[0] = 0  # `BETWEEN`
    return kinds


def pieces_of(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The UTF-8 of each code point, the first byte lowest."""
    low, second, third = (0x80 | codes >> shift & 63 for shift in (0, 6, 12))
    return np.select(
        [codes < 0x80, codes < 0x800, codes < 0x10000],
        [codes, 0xC0 | codes >> 6 | low << 8, 0xE0 | codes >> 12 | second << 8 | low << 16],
        0xF0 | codes >> 18 | third << 8 | second << 16 | low << 24,
    ).astype(np.uint32)


@inline
def bits_of(piece: Any) -> int:
    """How many bits a code point's UTF-8 has, the first byte lowest."""
    if piece < 0x100:
        return 8
    if piece < 0x10000:
        return 16
    return 24 if piece < 0x1000000 else 32


@inline
def _hashed(state: Any, block: Any, used: int) -> Any:
    return step_1(state, stirred(block)) if used else state


@inline
def words_of(data: Any, begin: int, end: int, pieces: Any, kinds: Any, found: Any) -> int:
    """Writes the hash of each word of a text to `found`, which has room for half as many as it has bytes, and one more.

    Returns how many there are, -1 where the text is unfit. A hash is `step_1` over the UTF-8 of the folded word, eight
    bytes (`stirred`) at a time, zeros behind the last: no two words of up to eight bytes have the same.
    """
    count = 0
    last = end - 8
    state, block = SEED_1, np.uint64(0)
    used = 0  # bits of `block`
    within = 0  # the word that `at` may go on with: none, `START`, `SINGLE`
    at = begin
    while at < end:
        byte = data[np.uint64(at)]
        if within == 0 and byte < 0x80:
            if not kinds[byte] & START:
                at += 1
                continue
            state, block = SEED_1, np.uint64(0)
            used = 0
            within = START
            while at <= last:
                eight = eight_at(data, at)
                letter = letters_in(eight)
                small = eight | letter >> np.uint64(2)
                size = before_first(letter | digits_in(eight) | equal_to(eight, 95))
                at += size
                if size < 8:
                    used = 8 * size
                    block = leading(small, size)
                    break
                state = step_1(state, stirred(small))
            if at < end and (at > last or data[np.uint64(at)] >= 0x80):
                continue
            found[np.uint64(count)] = _hashed(state, block, used)
            count += 1
            within = 0
            continue
        code = code_at(data, at)
        kind = kinds[code]
        piece = np.uint64(pieces[code])
        if within:
            if kind & (ON if within == START else MARKS):
                bits = bits_of(piece)
                block |= piece << np.uint64(used)
                used += bits
                if used >= 64:
                    state = step_1(state, stirred(block))
                    used -= 64
                    block = piece >> np.uint64(bits - used)
                at += width(byte)
                continue
            if within == START and kind & SKIPPED:
                at += width(byte)
                continue
            found[np.uint64(count)] = _hashed(state, block, used)
            count += 1
            within = 0
            if byte < 0x80:
                continue
        if kind & UNFIT:
            return -1
        if kind & (START | SINGLE):
            within = START if kind & START else SINGLE
            state, block = SEED_1, piece
            used = bits_of(piece)
        at += width(byte)
    if within:
        found[np.uint64(count)] = _hashed(state, block, used)
        count += 1
    return count
