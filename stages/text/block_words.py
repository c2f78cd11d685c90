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
from stages.text.joining import joining, joins, marks
from stages.text.utf8 import before, code_at, width
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
MARKED = 64
"""So it must unless `joining.joins` lets it through."""
COMPOSING = 128
"""Is composed with some code points; for `joins`."""
SPLIT = 256
"""Folds to two code points, which `parts` holds."""


class Letters(NamedTuple):
    """What code points are to words: an argument of kernels."""

    pieces: npt.NDArray[np.uint32]
    """UTF-8 of what a code point folds to, the first byte lowest; where it is `SPLIT`, which row of `parts`."""
    kinds: npt.NDArray[np.uint16]
    """The bits above."""
    parts: npt.NDArray[np.int64]
    """(rows, 2) the two code points, folded."""
    orders: npt.NDArray[np.uint8]
    pairs: npt.NDArray[np.int64]
    """Of `joining.Joining`."""


@functools.cache
def letters(*, folded: bool = False) -> Letters:
    """For texts as they are, or for texts that are folded already."""
    into = as_they_are() if folded else fitting()
    unfit = into == _UNFIT
    into = np.where(unfit, np.uint32(BETWEEN), into)
    pieces, kinds = pieces_of(into), _kinds()[into]
    kinds[unfit] = UNFIT
    parts = [(0, 0)]
    if not folded:
        for found, bits in zip(marks(), (MARKED, MARKED | COMPOSING), strict=True):
            codes = list(found)
            kinds[codes] = _kinds()[codes] | bits
            pieces[codes] = pieces_of(np.array(codes, np.uint32))
        for code in np.flatnonzero(kinds == UNFIT).tolist():
            several = "" if 0xD800 <= code < 0xE000 else fold(chr(code))
            codes = [ord(letter) for letter in several]
            if len(codes) < 2 or unfit[codes[0]] or (kinds[codes[1:]] & UNFIT).any():
                continue
            data, of = several.encode(), _kinds()[codes]
            # Such as a sharp s, whose two letters no neighbour changes: what could is looked at when it comes.
            if len(data) <= 4 and of[0] == START | ON and (of & ON != 0).all():
                kinds[code] = START | ON
                pieces[code] = int.from_bytes(data, "little")
            elif len(codes) == 2:  # such as Thai's sara am
                kinds[code] = SPLIT
                pieces[code] = len(parts)
                parts.append((codes[0], codes[1]))
    table = Letters(pieces, kinds, np.array(parts, np.int64), *joining())
    for array in table:
        array.setflags(write=False)
    return table


@functools.cache
def _kinds() -> npt.NDArray[np.uint16]:
    """The bits of code points that are folded already."""
    table = classes()
    wordy = table & (LETTER | NUMBER) != 0
    spaceless = table & SPACELESS != 0
    kinds = np.zeros(CODES, np.uint16)
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
def words_of(data: Any, begin: int, end: int, table: Any, found: Any) -> int:
    """Writes the hash of each word of a text to `found`, which has room for half as many as it has bytes, and one more.

    Returns how many there are, -1 where the text is unfit. A hash is `step_1` over the UTF-8 of the folded word, eight
    bytes (`stirred`) at a time, zeros behind the last: no two words of up to eight bytes have the same. `table` is
    `letters()`.
    """
    pieces, kinds, parts, orders, pairs = table
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
        row: Any = 0
        if kind & (UNFIT | MARKED | SPLIT):
            if kind & UNFIT:
                return -1
            if kind & MARKED:
                previous = code_at(data, before(data, at, begin)) if at > begin else np.int64(0)
                if not joins(code, previous, kind & COMPOSING != 0, orders, pairs):
                    return -1
            if kind & SPLIT:
                row = np.int64(pieces[code])
                code = parts[row, 0]
                kind = kinds[code]
        while True:
            piece = np.uint64(pieces[code])
            if within and kind & (ON if within == START else MARKS):
                bits = bits_of(piece)
                block |= piece << np.uint64(used)
                used += bits
                if used >= 64:
                    state = step_1(state, stirred(block))
                    used -= 64
                    block = piece >> np.uint64(bits - used)
            elif not (within == START and kind & SKIPPED):
                if within:
                    found[np.uint64(count)] = _hashed(state, block, used)
                    count += 1
                # What begins with ASCII is read from there, eight bytes at a time.
                within = 0 if byte < 0x80 else START if kind & START else kind & SINGLE
                state, block = SEED_1, piece
                used = bits_of(piece)
            if row == 0:
                break
            code = parts[row, 1]
            kind = kinds[code]
            row = 0
        if within or byte >= 0x80:
            at += width(byte)
    if within:
        found[np.uint64(count)] = _hashed(state, block, used)
        count += 1
    return count
