"""Paragraphs of a text, and the windows in which they are judged.

A classifier that sums over a whole document drowns one insult in a book and finds one in any book that is long
enough. So text is judged in windows about as long as a post, and what a document gets is decided over windows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.classifier import symbols
from stages.kernels import njit
from stages.text.column import Ints
from stages.text.utf8 import Bytes, code_at, width

_BLANK, _SPACELESS = np.uint32(symbols.BLANK), np.uint32(symbols.SPACELESS)
_BREAK = np.uint32(symbols.BREAK)

WINDOW = 384
"""Most that a window holds, in code points that are no blanks; a letter of a script without spaces counts for `WEIGHT`.
About 75 English words, or 96 Chinese characters."""
PARAGRAPH = 96
"""Lines shorter than this are judged together with those behind them."""
WEIGHT = 4
_PATIENCE = 64  # so far beyond its end a window goes to find one between words


class Windows(NamedTuple):
    """The windows of the texts of a column, in their order."""

    rows: Ints
    paragraphs: Ints
    """Numbers of paragraphs, counted over the column. A paragraph is a line, or several short ones."""
    starts: Ints
    """Places in the column's buffer."""
    ends: Ints
    sizes: Ints
    """In the units of `WINDOW`; 0 where a text has only blanks."""


ROOM = WINDOW + PARAGRAPH
"""More code points that are no blanks than any window has."""


def windows(data: Bytes, offsets: Ints) -> Windows:
    """The windows of texts `data[offsets[i]:offsets[i + 1]]`. Every text that is not empty has one at least."""
    table = symbols.symbols()
    number = _windows(data, offsets, table, np.empty((0, 5), np.int64))
    out = np.empty((number, 5), np.int64)
    _windows(data, offsets, table, out)
    return Windows(*np.ascontiguousarray(out.T))


@njit
def _windows(data: Bytes, offsets: Ints, table: npt.NDArray[np.uint32], out: Ints) -> Any:
    """Gives their number; writes them where `out` has rows."""
    write = len(out) > 0
    number = 0
    paragraph = -1
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            begin, size = at, 0
            while at < end:  # lines, until they are long enough
                symbol = table[code_at(data, at)]
                at += width(data[at])
                if symbol & _BREAK:
                    if size >= PARAGRAPH:
                        break
                elif not symbol & _BLANK:
                    size += WEIGHT if symbol & _SPACELESS else 1
            rest, peek = 0, at  # too short a rest belongs to what is before it
            while peek < end and rest < PARAGRAPH:
                symbol = table[code_at(data, peek)]
                peek += width(data[peek])
                if not symbol & _BLANK:
                    rest += WEIGHT if symbol & _SPACELESS else 1
            if rest < PARAGRAPH:
                at = end
                size += rest
            paragraph += 1
            parts = max((size + WINDOW - 1) // WINDOW, 1)
            place, done = begin, 0
            for part in range(1, parts + 1):  # of nearly the same size, cut between words where that is possible
                target, held = size * part // parts, done
                while place < at:
                    symbol = table[code_at(data, place)]
                    fit = symbol & (_BLANK | _SPACELESS) or done >= target + _PATIENCE
                    if fit and part < parts and done >= target:
                        break
                    place += width(data[place])
                    if not symbol & _BLANK:
                        done += WEIGHT if symbol & _SPACELESS else 1
                if place > begin:
                    if write:
                        out[number, 0], out[number, 1], out[number, 4] = row, paragraph, done - held
                        out[number, 2], out[number, 3] = begin, place
                    number += 1
                begin = place
    return number
