"""The one pass over a text that all rules of quality rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.quality.fields import (
    BLANKS,
    BREAKS,
    BULLET_LINES,
    BULLETS,
    CAPITALS,
    CHARACTERS,
    DIGITS,
    ELLIPSES,
    ELLIPSIS_LINES,
    FIELDS,
    HASHES,
    LETTER_TERMS,
    LETTER_WORDS,
    LETTERS,
    LINE_LENGTH,
    LINES,
    LONGEST_LINE,
    LONGEST_WORD,
    MARKS,
    PARAGRAPHS,
    REPEATED_5,
    REPEATED_LINE_LENGTH,
    REPEATED_LINES,
    REPEATED_PARAGRAPH_LENGTH,
    REPEATED_PARAGRAPHS,
    SENTENCES,
    SPACED_LENGTH,
    SPACED_WORDS,
    TERM_LENGTH,
    TERMINAL_LINES,
    TERMS,
    TOP_2,
    WORDS,
)
from stages.segmenters import Cuts, goes_on, none
from stages.slots import Hashes, slot_of
from stages.text import characters
from stages.text.characters import (
    ALPHABETIC,
    BLANK,
    CLOSING,
    CONNECTOR,
    DIGIT,
    JOINER,
    LETTER,
    LOWER,
    MARK,
    NUMBER,
    PUNCTUATION,
    SPACELESS,
    SYMBOL,
    TERMINAL,
    UPPER,
)
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, before, code_at, width

_BULLETS = np.array(sorted(map(ord, BULLETS)), np.int64)
START = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_ELLIPSIS = 0x2026
_WIDE = 0x3000  # from here on a mark ends a sentence without a blank behind it
_NO_WORD, _SPACED, _SINGLE, _ODD = 0, 1, 2, 3
_NO_TERM, _RUN, _ONE = 0, 1, 2


def count(view: Texts, cuts: Cuts | None = None) -> Ints:
    """The table of counts: a row for each of n texts, a column for each of `FIELDS`; zeros for nulls.

    `cuts` says where words end in scripts without spaces; without it each character is one.
    """
    table = np.zeros((len(view.valid), len(FIELDS)), np.int64)
    _count(view.data, view.offsets, characters.classes(), *(cuts or none(len(view.valid))), table)
    return table


@inline
def mixed(value: Any, code: Any) -> Any:
    """A 64-bit hash with one more value taken in."""
    value = (value ^ np.uint64(code)) * _PRIME
    return value ^ value >> _SHIFT


@inline
def _room(number: int) -> int:
    room = 16
    while room < 2 * number:
        room *= 2
    return room


@inline
def _repeated(hashes: Hashes, lengths: Ints, number: int, keys: Hashes, counts: npt.NDArray[np.int32]) -> Any:
    """How many of some pieces stood before, and their length."""
    room = _room(number)
    counts[:room] = 0
    pieces = length = 0
    for index in range(number):
        slot = slot_of(keys, counts, 0, room, hashes[index])
        if counts[slot]:
            pieces += 1
            length += lengths[index]
        else:
            keys[slot] = hashes[index]
            counts[slot] = 1
    return pieces, length


@inline
def _ngrams(
    hashes: Hashes, starts: Ints, ends: Ints, number: int, grams: Hashes, firsts: Ints, keys: Hashes,
    counts: npt.NDArray[np.int32], row: Ints,
) -> None:  # fmt: skip
    """The shares of n-grams: for 2 to 4 terms the most frequent one, for 5 to 10 all that stood before."""
    room = _room(number)
    for index in range(number):
        grams[index] = mixed(START, hashes[index])
    for size in range(2, 11):
        places = number - size + 1
        if places < 2:
            return
        for index in range(places):
            grams[index] = mixed(grams[index], hashes[index + size - 1])
        counts[:room] = 0
        if size <= 4:
            best = 1
            found = -1
            for index in range(places):
                slot = slot_of(keys, counts, 0, room, grams[index])
                if not counts[slot]:
                    keys[slot] = grams[index]
                    firsts[slot] = index
                counts[slot] += 1
                if counts[slot] > best or (counts[slot] == best and best > 1 and firsts[slot] < found):
                    best = counts[slot]
                    found = firsts[slot]
            if found >= 0:
                row[TOP_2 + size - 2] = best * (ends[found + size - 1] - starts[found])
            continue
        index = total = 0
        while index < places:
            slot = slot_of(keys, counts, 0, room, grams[index])
            if counts[slot]:
                for inner in range(index, index + size):
                    total += ends[inner] - starts[inner]
                index += size
            else:
                keys[slot] = grams[index]
                counts[slot] = 1
                index += 1
        row[REPEATED_5 + size - 5] = total


@inline
def _line_end(data: Bytes, start: int, end: int, classes: Any, row: Ints) -> None:
    """Counts how a line ends; the line is not empty, and without blanks around it."""
    at = end
    while at > start:
        place = before(data, at, start)
        if not classes[code_at(data, place)] & (CLOSING | BLANK):
            break
        at = place
    if at == start:
        return
    place = before(data, at, start)
    code = code_at(data, place)
    if classes[code] & TERMINAL:
        row[TERMINAL_LINES] += 1
    dots = at - start >= 3 and data[at - 1] == 46 and data[at - 2] == 46 and data[at - 3] == 46
    spread = at - start >= 5 and data[at - 1] == 46 and data[at - 3] == 46 and data[at - 5] == 46
    if code == _ELLIPSIS or dots or (spread and data[at - 2] == 32 and data[at - 4] == 32):
        row[ELLIPSIS_LINES] += 1


@inline
def _scan(
    data: Bytes, at: int, end: int, classes: Any, row: Ints, hashes: Hashes, starts: Ints, ends: Ints, lines: Hashes,
    line_lengths: Ints, paragraphs: Hashes, paragraph_lengths: Ints, cuts: Ints, cut: int, last_cut: int,
) -> None:  # fmt: skip
    """Counts what needs no memory, and lists terms, lines and paragraphs by hash and length.

    No array is assigned in this loop: numba would count references in each turn.
    """
    position = 0  # in code points
    dots = 0
    ellipsis = False
    word, word_length, alphabetic = _NO_WORD, 0, False
    term, term_start, term_hash, lettered = _NO_TERM, 0, START, False
    terms = 0
    line_count = paragraph_count = 0
    line_first, line_last, line_start, line_stop = -1, -1, at, at
    line_hash = line_kept = START
    paragraph_hash = START
    paragraph_length, paragraph_lines = 0, 0
    said, pending, blank_behind, single = False, 0, False, False
    begin = at
    while at <= end:
        over = at == end
        code = 10 if over else code_at(data, at)
        kind = classes[code]
        step = 0 if over else width(data[at])
        blank = kind & BLANK
        onward = False
        if cut < last_cut and kind & SPACELESS and kind & (LETTER | NUMBER):
            cut, onward = goes_on(cuts, cut, last_cut, at - begin)
        # words
        if word == _SPACED and (blank or kind & SPACELESS):
            word = -_SPACED
        elif word == _SINGLE and (blank or (kind & (LETTER | NUMBER) and not onward)):
            word = -_SINGLE
        elif word == _ODD:
            word = -_ODD
        if word < 0:
            row[WORDS] += 1
            row[LETTER_WORDS] += alphabetic
            if word != -_SINGLE:
                row[SPACED_WORDS] += 1
                row[SPACED_LENGTH] += word_length
                row[LONGEST_WORD] = max(row[LONGEST_WORD], word_length)
            word = _NO_WORD
        if not blank:
            if word == _NO_WORD:
                word_length, alphabetic = 0, False
                spaceless = _SINGLE if kind & (LETTER | NUMBER) else _ODD
                word = spaceless if kind & SPACELESS else _SPACED
            word_length += 1
            alphabetic |= (kind & ALPHABETIC) != 0
        # terms
        if term == _RUN:
            inside = kind & (LETTER | NUMBER | CONNECTOR | MARK | JOINER) and not (kind & SPACELESS and kind & LETTER)
        else:
            inside = term == _ONE and (kind & MARK or onward)
        if term != _NO_TERM and (over or not inside):
            hashes[terms] = term_hash
            starts[terms], ends[terms] = term_start, position
            row[TERM_LENGTH] += position - term_start
            row[LETTER_TERMS] += lettered
            single = term == _RUN and position - term_start == 1
            terms += 1
            term = _NO_TERM
        if term != _NO_TERM:
            term_hash = mixed(term_hash, code)
            lettered |= (kind & ALPHABETIC) != 0
        elif not over:
            if kind & SPACELESS:
                term = _ONE if kind & (LETTER | NUMBER) else _NO_TERM
            elif kind & (LETTER | NUMBER | CONNECTOR):
                term = _RUN
            if term != _NO_TERM:
                term_start, term_hash, lettered = position, mixed(START, code), (kind & ALPHABETIC) != 0
        # ellipses
        if code == 46 and not over:
            dots += 1
            row[ELLIPSES] += dots % 3 == 0
        else:
            dots = 0
        row[ELLIPSES] += code == _ELLIPSIS and not ellipsis
        ellipsis = code == _ELLIPSIS
        # sentences
        if kind & TERMINAL:
            if said:
                initial = code == 46 and single and ends[terms - 1] == position and pending == 0
                pending = max(pending, 0 if initial else 2 if code >= _WIDE else 1)
            blank_behind = False
        elif pending and not kind & CLOSING:
            if blank:
                blank_behind = True
            else:
                if pending == 2 or (blank_behind and not kind & LOWER):
                    row[SENTENCES] += 1
                    said = False
                pending = 0
        said |= (kind & (LETTER | NUMBER)) != 0
        # lines
        if code == 10:
            if said:
                row[SENTENCES] += 1
            said, pending, blank_behind = False, 0, False
            if line_first >= 0:
                length = line_last + 1 - line_first
                lines[line_count], line_lengths[line_count] = line_kept, length
                line_count += 1
                row[LINE_LENGTH] += length
                row[LONGEST_LINE] = max(row[LONGEST_LINE], length)
                _line_end(data, line_start, line_stop, classes, row)
                paragraph_hash = mixed(paragraph_hash, line_kept)
                paragraph_length += length + (paragraph_lines > 0)
                paragraph_lines += 1
            if paragraph_lines and (line_first < 0 or over):
                paragraphs[paragraph_count] = paragraph_hash
                paragraph_lengths[paragraph_count] = paragraph_length
                paragraph_count += 1
                paragraph_hash, paragraph_length, paragraph_lines = START, 0, 0
            line_first = -1
            line_hash = START
        elif blank:
            if line_first >= 0:
                line_hash = mixed(line_hash, code)
        else:
            if line_first < 0:
                line_first, line_start = position, at
                if np.searchsorted(_BULLETS, code) < len(_BULLETS) and (
                    _BULLETS[np.searchsorted(_BULLETS, code)] == code
                ):
                    follows = data[at + step] if at + step < end else 0
                    row[BULLET_LINES] += follows != 42 and follows != 43 and follows != 45
            line_last, line_stop = position, at + step
            line_hash = line_kept = mixed(line_hash, code)
        if over:
            break
        # characters
        row[LETTERS] += (kind & LETTER) != 0
        row[DIGITS] += (kind & DIGIT) != 0
        row[CAPITALS] += (kind & UPPER) != 0
        row[MARKS] += (kind & (PUNCTUATION | SYMBOL)) != 0
        row[BLANKS] += blank != 0
        row[HASHES] += code == 35
        row[BREAKS] += code == 10
        position += 1
        at += step
    row[CHARACTERS] = position
    row[TERMS] = terms
    row[LINES], row[PARAGRAPHS] = line_count, paragraph_count


@njit
def _count(data: Bytes, offsets: Ints, classes: Any, cuts: Ints, cut_starts: Ints, table: Ints) -> None:
    most = 1
    for number in range(len(offsets) - 1):
        most = max(most, offsets[number + 1] - offsets[number] + 1)
    # As many as there are bytes: memory that is not used is not touched either.
    hashes, starts, ends = np.empty(most, np.uint64), np.empty(most, np.int64), np.empty(most, np.int64)
    lines, line_lengths = np.empty(most, np.uint64), np.empty(most, np.int64)
    paragraphs, paragraph_lengths = np.empty(most, np.uint64), np.empty(most, np.int64)
    grams = np.empty(most, np.uint64)
    room = _room(most)
    keys, counts, firsts = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int64)
    for number in range(len(offsets) - 1):
        row = table[number]
        _scan(
            data, offsets[number], offsets[number + 1], classes, row, hashes, starts, ends, lines, line_lengths,
            paragraphs, paragraph_lengths, cuts, cut_starts[number], cut_starts[number + 1],
        )  # fmt: skip
        row[REPEATED_LINES], row[REPEATED_LINE_LENGTH] = _repeated(lines, line_lengths, row[LINES], keys, counts)
        row[REPEATED_PARAGRAPHS], row[REPEATED_PARAGRAPH_LENGTH] = _repeated(
            paragraphs, paragraph_lengths, row[PARAGRAPHS], keys, counts
        )
        _ngrams(hashes, starts, ends, row[TERMS], grams, firsts, keys, counts, row)
