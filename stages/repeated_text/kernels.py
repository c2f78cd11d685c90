"""Finds the lines and paragraphs of a text that stood in it before, in linear time."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import inline, njit
from stages.lookup import SEED_1, step_1
from stages.text.characters import BLANK, LETTER, NUMBER, SPACELESS
from stages.text.column import Ints
from stages.text.eight import TOPS, before_first, eight_at, equal_to, stirred, up_to_eight
from stages.text.utf8 import Bytes, before, code_at, width

_PROBES = 1 << 10
"""Places of a table that are looked at for one unit: without a limit, a text made for it would cost its length
squared."""
_CUT, _KEPT = 1, 2


@inline
def _place_of(data: Bytes, at: int, end: int, value: int) -> Any:
    """Where a byte below 0x80 stands first; `end` where there is none."""
    while at + 8 <= end:
        found = equal_to(eight_at(data, at), value)
        if found:
            return at + before_first(found ^ TOPS)
        at += 8
    while at < end and data[at] != value:
        at += 1
    return at


@inline
def _begin(data: Bytes, at: int, stop: int, classes: Any) -> int:
    """Where what is no blank begins; `stop` where there is nothing else."""
    while at < stop and classes[code_at(data, at)] & BLANK:
        at += width(data[at])
    return at


@inline
def _end(data: Bytes, at: int, stop: int, classes: Any) -> int:
    """Where it ends."""
    while stop > at:
        last = before(data, stop, at)
        if not classes[code_at(data, last)] & BLANK:
            break
        stop = last
    return stop


@inline
def _fence(data: Bytes, at: int, stop: int) -> tuple[Any, int]:
    """Byte and length of the fence that a line begins with; length 0 where it is none."""
    mark = data[at]
    if mark != 96 and mark != 126:
        return mark, 0
    size = 0
    while at + size < stop and data[at + size] == mark:
        size += 1
    return mark, size if size >= 3 else 0


@inline
def _lines(data: Bytes, begin: int, end: int, classes: Any, keep_code: bool, lines: Any, marks: Any) -> int:
    """Writes the lines of a text that are not empty and gives their number.

    `lines` gets where each begins and stops, where what is no blank begins and ends, and its paragraph; `marks` gets
    `_KEPT` for code. Places count from the text's begin.
    """
    count = paragraph = fence_size = 0
    fence_mark = data[begin]
    at = begin
    while at < end:
        stop = _place_of(data, at, end, 10)
        first = _begin(data, at, stop, classes)
        if first == stop:
            paragraph += 1
        else:
            last = _end(data, first, stop, classes)
            code = False
            if keep_code:
                mark, size = _fence(data, first, last)
                code = fence_size > 0 or size > 0 or data[at] == 9
                if not code and first >= at + 4:
                    code = data[at] == 32 and data[at + 1] == 32 and data[at + 2] == 32 and data[at + 3] == 32
                if fence_size == 0:
                    fence_mark, fence_size = mark, size
                elif mark == fence_mark and size >= fence_size and first + size == last:
                    fence_size = 0
            lines[0, count], lines[1, count] = at - begin, stop - begin
            lines[2, count], lines[3, count], lines[4, count] = first - begin, last - begin, paragraph
            marks[count] = _KEPT if code else 0
            count += 1
        at = stop + 1
    return count


@inline
def _left(code: Any, classes: Any, folds: Any) -> Any:
    """What a code point is compared by, above 0; 0 where it is left out."""
    folded = np.int64(folds[code])
    return 0 if classes[folded] & (BLANK | NUMBER) else folded + 1


@inline
def _hash(data: Bytes, at: int, end: int, folded: bool, classes: Any, folds: Any) -> Any:
    state = SEED_1
    if not folded:
        for place in range(at, end, 8):
            state = step_1(state, stirred(up_to_eight(data, place, end)))
        return state
    while at < end:
        left = _left(code_at(data, at), classes, folds)
        if left:
            state = step_1(state, left)
        at += width(data[at])
    return state


@inline
def _same(
    data: Bytes, one: int, one_end: int, other: int, other_end: int, folded: bool, classes: Any, folds: Any
) -> bool:
    if not folded:
        if one_end - one != other_end - other:
            return False
        while one < one_end:
            if up_to_eight(data, one, one_end) != up_to_eight(data, other, other_end):
                return False
            one += 8
            other += 8
        return True
    while True:
        left = right = np.int64(0)
        while one < one_end and not left:
            left = _left(code_at(data, one), classes, folds)
            one += width(data[one])
        while other < other_end and not right:
            right = _left(code_at(data, other), classes, folds)
            other += width(data[other])
        if left != right:
            return False
        if not left:
            return True


@inline
def _length(data: Bytes, at: int, end: int, folded: bool, classes: Any, folds: Any) -> int:
    """Characters that are compared; letters of scripts without spaces are two."""
    length = 0
    while at < end:
        code = code_at(data, at)
        if not folded or _left(code, classes, folds):
            kind = classes[code]
            length += 2 if kind & SPACELESS and kind & LETTER else 1
        at += width(data[at])
    return length


@inline
def _repeated(
    data: Bytes, begin: int, units: Any, number: int, marks: Any, runs: bool, least: int, table: bool, folded: bool,
    classes: Any, folds: Any, slots: Any, hashes: Any,
) -> int:  # fmt: skip
    """Marks the units (`units[0]` to `units[1]`) that repeat an earlier one as `_CUT`, and gives how many. Those that
    are marked already are no part of it."""
    size = 2
    while size < 2 * number:
        size *= 2
    slots[: 1 if runs else size] = 0
    count = 0
    for unit in range(number):
        first, last = begin + units[0, unit], begin + units[1, unit]
        if marks[unit] or last - first < least:
            slots[0] = 0 if runs else slots[0]
            continue
        key = _hash(data, first, last, folded, classes, folds)
        hashes[unit] = key
        slot: Any = 0 if runs else np.int64(key >> np.uint64(20)) & size - 1
        repeated = False
        for _ in range(1 if runs else _PROBES):
            if slots[slot] == 0:
                break
            other = slots[slot] - 1
            if hashes[other] == key and _same(
                data, begin + units[0, other], begin + units[1, other], first, last, folded, classes, folds
            ):
                repeated = True
                break
            slot = slot if runs else slot + 1 & size - 1
        if not repeated:
            if runs or slots[slot] == 0:
                slots[slot] = unit + 1
        elif _length(data, first, last, folded, classes, folds) >= least and not (
            table and _place_of(data, first, last, 124) < last
        ):
            marks[unit] = _CUT
            count += 1
    return count


@njit
def scan(data: Bytes, offsets: Ints, classes: Any, folds: Any, settings: Any, cut: Ints, spans: Ints) -> int:
    """Writes what to cut as far as there is room, and gives how many spans there are."""
    of_paragraphs, of_lines, least_paragraph, least_line, folded, keep_code, keep_tables = settings
    most = 0
    for row in range(len(cut)):
        at = offsets[row]
        lines_of = 0
        while at < offsets[row + 1]:
            at = _place_of(data, at, offsets[row + 1], 10) + 1
            lines_of += 1
        most = max(most, lines_of)
    lines, units = np.empty((5, most), np.int32), np.empty((2, most), np.int32)
    marks, kept = np.empty(most, np.uint8), np.empty(most, np.uint8)
    slots, hashes = np.empty(4 * most + 2, np.int32), np.empty(most, np.uint64)
    count = 0
    for row in range(len(cut)):
        begin, end = offsets[row], offsets[row + 1]
        number = _lines(data, begin, end, classes, keep_code, lines, marks) if begin < end else 0
        cut[row, 0] = cut[row, 1] = 0
        if number < 2:
            continue
        if of_paragraphs:
            paragraphs = 0
            for line in range(number):
                if line == 0 or lines[4, line] != lines[4, line - 1]:
                    units[0, paragraphs], kept[paragraphs] = lines[2, line], 0
                    paragraphs += 1
                units[1, paragraphs - 1] = lines[3, line]
                kept[paragraphs - 1] |= marks[line]
            cut[row, 0] = _repeated(
                data, begin, units, paragraphs, kept, of_paragraphs == 1, least_paragraph, keep_tables, folded,
                classes, folds, slots, hashes,
            )  # fmt: skip
            paragraph = -1
            for line in range(number):
                paragraph += line == 0 or lines[4, line] != lines[4, line - 1]
                if kept[paragraph] == _CUT:
                    marks[line] = _CUT
        if of_lines:
            cut[row, 1] = _repeated(
                data, begin, lines[2:4], number, marks, of_lines == 1, least_line, keep_tables, folded,
                classes, folds, slots, hashes,
            )  # fmt: skip
        if cut[row, 0] + cut[row, 1] == 0:
            continue
        tail = number  # the text ends with lines that are cut from here on
        while marks[tail - 1] == _CUT:
            tail -= 1
        line = 1  # the first is never cut
        while line < number:
            if marks[line] != _CUT:
                line += 1
                continue
            first = line
            if first == tail:  # what stands behind the last line stays
                line = number
                start, stop = lines[1, first - 1], lines[1, line - 1]
            else:
                begins = lines[4, first] != lines[4, first - 1]
                while marks[line] == _CUT and (begins or lines[4, line] == lines[4, first]):
                    line += 1
                # With the empty lines behind a paragraph, but not with those between two that stay in part.
                start = lines[0, first]
                stop = lines[0, line] if begins or lines[4, line] == lines[4, first] else lines[1, line - 1] + 1
            if count < spans.shape[1]:
                spans[0, count], spans[1, count], spans[2, count], spans[3, count] = row, start, stop, 0
            count += 1
    return count
