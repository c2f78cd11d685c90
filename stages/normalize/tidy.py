"""Documents written anew: line ends, control characters, blanks, joiners, hyphens at line ends."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit
from stages.normalize.form import disturbs
from stages.normalize.kinds import (
    BLANK,
    BREAK,
    CASED,
    END,
    HYPHEN,
    JOINER,
    JOINING,
    LOWER,
    NON_JOINER,
    ORDER,
    PICTURE,
    PICTURE_END,
    REMOVED,
    RETURN,
    STEM,
    UNSPACED,
    ZERO_SPACE,
    Kinds,
    combining,
    pairs,
)
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, code_at, put, width

_ENDS = END | RETURN | BREAK
_HIDDEN = REMOVED | NON_JOINER | JOINER | ZERO_SPACE
"""Beside a hyphen or a line end these are always removed."""
_SPECIAL = _ENDS | _HIDDEN | HYPHEN | BLANK | ORDER


class Tidied(NamedTuple):
    """A column written anew."""

    column: pa.Array
    cut: int
    """Characters cut, all rows together."""
    unformed: Ints
    """Rows that may have left the Unicode form, since marks met their letters."""


def tidied(view: Texts, touched: npt.NDArray[np.bool_], kinds: Kinds, most: int, collapse: bool, join: bool) -> Tidied:
    """The column with the documents `touched` written anew: see the settings of `Normalize`."""
    count = len(view.valid)
    out = np.empty(int(view.offsets[-1] - view.offsets[0]), np.uint8)
    offsets = np.zeros(count + 1, np.int32)
    unformed = np.zeros(count, np.bool_)
    cut = _tidy(
        view.data, view.offsets, touched, kinds.kinds, kinds.bits, combining(), pairs(), most, collapse, join, out,
        offsets, unformed,
    )  # fmt: skip
    nulls = None if view.valid.all() else pa.py_buffer(np.packbits(view.valid, bitorder="little"))
    buffers = [nulls, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]])]
    column = pa.Array.from_buffers(pa.string(), count, buffers, int((~view.valid).sum()))
    return Tidied(column, int(cut), np.flatnonzero(unformed))


@inline
def _kept(bit: int, left: int, right: int) -> bool:
    """Whether a zero-width character has a meaning between neighbours with these bits."""
    if bit & NON_JOINER:
        return left & STEM != 0 and right & JOINING != 0
    if bit & JOINER:
        return (left | right) & JOINING != 0 or (left & PICTURE_END != 0 and right & PICTURE != 0)
    return left & UNSPACED != 0 and right & UNSPACED != 0


@inline
def _next_word(
    data: Bytes, at: int, end: int, kinds: npt.NDArray[np.uint16], bits: npt.NDArray[np.uint32]
) -> tuple[int, int]:
    """Where the lower-case letter is that begins the line behind a hyphen at `at` (-1: none), and what is between."""
    passed = 0
    while at < end and bits[kinds[code_at(data, at)]] & (BLANK | _HIDDEN):
        at += width(data[at])
        passed += 1
    if at + 2 < end and data[at] == 13 and data[at + 1] == 13 and data[at + 2] == 10:
        at += 1
    if at + 1 < end and data[at] == 13 and data[at + 1] == 10:
        at += 1
    if at >= end or not bits[kinds[code_at(data, at)]] & _ENDS:
        return -1, 0
    at += width(data[at])
    passed += 1
    while at < end and bits[kinds[code_at(data, at)]] & _HIDDEN:
        at += width(data[at])
        passed += 1
    if at < end and bits[kinds[code_at(data, at)]] & LOWER:
        return at, passed
    return -1, 0


@njit
def _tidy(
    data: Bytes, offsets: Ints, touched: npt.NDArray[np.bool_], kinds: npt.NDArray[np.uint16],
    bits: npt.NDArray[np.uint32], combining: Bytes, pairs: Ints, most: int, collapse: bool, join: bool, out: Bytes,
    out_offsets: npt.NDArray[np.int32], unformed: npt.NDArray[np.bool_],
) -> int:  # fmt: skip
    to = cut = 0
    for row in range(len(offsets) - 1):
        out_offsets[row] = to
        at, end = offsets[row], offsets[row + 1]
        if not touched[row]:
            out[to : to + end - at] = data[at:end]
            to += end - at
            continue
        begin = line = solid = to  # `solid`: behind the last character of the line that is no blank
        blanks = breaks = 0  # blanks behind `solid`; line ends that the output ends with
        code = previous = starter = last = np.int64(0)
        while at < end:
            code = code_at(data, at)
            following = at + width(data[at])
            bit = np.int64(bits[kinds[code]])
            if not bit & _SPECIAL:
                to = put(code, out, to)
                solid = to
                blanks = breaks = 0
                previous = starter = code
                last = np.int64(0)
                at = following
                continue
            if bit & RETURN and following < end:
                if data[following] == 10:
                    at = following
                    continue
                if data[following] == 13 and following + 1 < end and data[following + 1] == 10:
                    at = following  # `\r\r\n` is one line end, translated twice
                    continue
            if bit & _ENDS:
                cut += blanks
                to = solid
                if to == begin or breaks > most:
                    cut += 1
                else:
                    out[to] = 10
                    to += 1
                    breaks += 1
                line = solid = to
                blanks = 0
                previous, starter, last = np.int64(10), np.int64(10), np.int64(0)
                at = following
                continue
            if join and bit & HYPHEN and bits[kinds[previous]] & CASED:
                word, passed = _next_word(data, following, end, kinds, bits)
                if word >= 0:
                    cut += 1 + passed
                    at = word
                    continue
            remove = bit & REMOVED != 0
            if bit & (NON_JOINER | JOINER | ZERO_SPACE):
                right = np.int64(bits[kinds[code_at(data, following)]]) if following < end else np.int64(0)
                remove = previous == 0x200C or previous == 0x200D
                remove |= not _kept(bit, np.int64(bits[kinds[previous]]), right)
            if collapse and bit & BLANK and blanks and solid > line:
                remove = True
                if code != previous:
                    to = put(32, out, solid)
                    previous = starter = np.int64(32)
            if remove:
                cut += 1
                at = following
                continue
            order = np.int64(combining[code])
            unformed[row] |= disturbs(code, bit, order, starter, np.int64(bits[kinds[starter]]), last, pairs)
            if order == 0:
                starter = code
            last = order
            previous = code
            to = put(code, out, to)
            at = following
            if bit & BLANK:
                blanks += 1
            else:
                solid = to
                blanks = breaks = 0
        cut += blanks
        to = solid
        if solid == line:
            to -= breaks
            cut += breaks
    out_offsets[len(offsets) - 1] = to
    return cut
