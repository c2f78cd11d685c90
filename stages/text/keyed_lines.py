"""The lines of texts by 128-bit keys, so that equal lines of one group (such as a host) meet without their bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.lookup import SEED_1, SEED_2, step_1, step_2
from stages.text import characters
from stages.text.characters import BLANK, LETTER, NUMBER, SPACELESS
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, code_at, width

VERSION = 1
"""Raised whenever a line gets another key, or another one counts as too short or too long."""

Keys = npt.NDArray[np.uint64]


class Lines(NamedTuple):
    """Some lines, in the order of the texts."""

    first: Keys
    second: Keys
    """The key: two hashes of the group and of the line's bytes without the blanks around them."""
    rows: Ints
    starts: Ints
    ends: Ints
    """Where the line lies in its text, with its line break: byte offsets."""
    letters: Ints
    """Letters and digits; one of a script without spaces counts twice."""
    above: Ints
    below: Ints
    """How many lines of its text with more than blanks stand before and behind it."""

    def only(self, which: npt.NDArray[np.bool_]) -> Lines:
        """Those of the lines that are marked."""
        rest = (column[which] for column in self[2:])
        return Lines(self.first[which], self.second[which], *rest)


def keyed_lines(view: Texts, groups: Keys, wanted: npt.NDArray[np.bool_], least: int, most: int) -> Lines:
    """The lines of the wanted texts that have at least `least` letters and digits, and at most `most` characters
    between the blanks around them. `groups`: (texts, 2) two hashes each.

    Lines end with `\\n`; a `\\r` before it is a blank. Lines that a tab or two spaces indent, as in code and in lists
    inside of lists, are left out.
    """
    rows = len(view.valid)
    used = view.data[view.offsets[0] : view.offsets[-1]]
    room = int(np.count_nonzero(used == 10)) + rows
    first, second = np.empty(room, np.uint64), np.empty(room, np.uint64)
    places = np.empty((6, room), np.int64)
    number = _scan(
        view.data, view.offsets, characters.classes(), groups, wanted & view.valid, least, most, first, second, places
    )
    return Lines(first[:number], second[:number], *places[:, :number])


@inline
def _word(data: Bytes, at: int, end: int) -> Any:
    """Eight bytes, or what is left, as one number."""
    value = np.uint64(0)
    for place in range(at, min(at + 8, end)):
        value = value << np.uint64(8) | np.uint64(data[place])
    return value


@njit
def _scan(
    data: Bytes, offsets: Ints, classes: Any, groups: Keys, wanted: Any, least: int, most: int, first: Keys,
    second: Keys, places: Ints,
) -> int:  # fmt: skip
    count = 0
    for row in range(len(wanted)):
        if not wanted[row]:
            continue
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        before = count
        above = 0
        while at < end:
            line = at
            start = stop = -1  # without the blanks around it
            size = length = letters = 0  # characters up to here, and up to `stop`
            while at < end and data[at] != 10:
                kind = classes[code_at(data, at)]
                step = width(data[at])
                if kind & BLANK:
                    size += start >= 0
                else:
                    if start < 0:
                        start = at
                    size += 1
                    length = size
                    stop = at + step
                    if kind & (LETTER | NUMBER):
                        letters += 2 if kind & SPACELESS else 1
                at += step
            at = min(at + 1, end)
            if start < 0:
                continue
            above += 1
            indented = data[line] == 9 or (data[line] == 32 and data[line + 1] == 32)
            if letters < least or length > most or indented:
                continue
            one = step_1(SEED_1 ^ groups[row, 0], np.uint64(stop - start))
            two = step_2(SEED_2 ^ groups[row, 1], np.uint64(stop - start))
            for place in range(start, stop, 8):
                word = _word(data, place, stop)
                one, two = step_1(one, word), step_2(two, word)
            first[count], second[count] = one, two
            places[0, count], places[1, count], places[2, count] = row, line - begin, at - begin
            places[3, count], places[4, count] = letters, above - 1
            count += 1
        for place in range(before, count):
            places[5, place] = above - 1 - places[4, place]
    return count
