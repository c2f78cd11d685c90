"""Where the emoji of a column are: the longest entries of the table, over the bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.emoji_names.table import EMOTICON, LEFT, Bools, Numbers, Trie
from stages.kernels import inline, njit
from stages.text.characters import BLANK, LETTER, NUMBER, PUNCTUATION, SPACELESS, classes
from stages.text.column import Ints, Texts
from stages.text.search import first_at_least
from stages.text.utf8 import Bytes, before, code_at, width

_ZWJ = 0x200D
_AS_TEXT = 0xFE0E
_AS_EMOJI = 0xFE0F


class Found(NamedTuple):
    """Emoji in the order of the text."""

    rows: Ints
    starts: Ints
    """Bytes from the start of the row's own text."""
    ends: Ints
    """Behind the selectors, tags and joiners that belong to it."""
    entries: Ints
    """Number of the table's entry."""
    befores: Ints
    """The code point before, 0 for none."""
    afters: Ints
    joined: Ints
    """1 where a joiner binds it to the emoji before, in a sequence that the table does not have."""


def find(view: Texts, trie: Trie, emoticons: bool) -> Found:
    """All emoji of the texts, and emoticons if asked for."""
    pairs = trie.pairs
    if emoticons:
        pairs = pairs.copy()
        pairs[list(b"()`\n")] = True
    first = pairs.any(axis=1)
    room = 256
    while True:
        found = np.empty((7, room), np.int64)
        count = _find(view.data, view.offsets, first, pairs, *trie[1:], classes(), found)
        if count <= room:
            return Found(*found[:, :count])
        room = count


@inline
def _longest(
    data: Bytes, at: int, end: int, roots: Numbers, edges: Numbers, codes: Numbers, targets: Numbers, entries: Numbers
) -> tuple[np.int64, int]:
    """The longest entry that begins at `at` (-1: none) and where it ends."""
    entry, close = np.int64(-1), at
    code = code_at(data, at)
    node = np.int64(roots[code]) if code < len(roots) else np.int64(0)
    while node:
        at += width(data[at])
        if entries[node] >= 0:
            entry, close = np.int64(entries[node]), at
        if at >= end:
            break
        code = code_at(data, at)
        last = np.int64(edges[node + 1])
        edge = first_at_least(codes, code, np.int64(edges[node]), last)
        node = np.int64(targets[edge]) if edge < last and codes[edge] == code else np.int64(0)
    return entry, close


@inline
def _open(code: int, kind: int) -> bool:
    """Whether an emoticon may stand beside this: text's end, a blank, a script or a mark without spaces."""
    return code == 0 or kind & (BLANK | SPACELESS) != 0 or (code >= 0x3000 and kind & PUNCTUATION != 0)


@inline
def _ended(data: Bytes, at: int, close: int, end: int, depth: int) -> int:
    """Where an emoticon from `at` ends, the repeats of its mouth taken in (`:)))`); -1 if it closes a bracket."""
    mouth = data[close - 1]
    if mouth == 40 or mouth == 41 or mouth == 68:
        while close < end and data[close] == mouth:
            close += 1
    if mouth == 41 and depth:
        close = close - 1 if close > at + 1 and data[close - 2] == 41 else -1
    return close


@njit
def _find(
    data: Bytes, offsets: Ints, first: Bools, pairs: Bools, roots: Numbers, edges: Numbers, codes: Numbers,
    targets: Numbers, entries: Numbers, what: Numbers, keycaps: Numbers, classes: npt.NDArray[np.uint32], found: Ints,
) -> int:  # fmt: skip
    count = 0
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        at = start
        depth = 0  # brackets open in this line
        quoted = joined = False  # between backticks; bound to the emoji before
        ended = np.int64(-1)  # where the last emoji ended
        while at < end:
            byte = data[at]
            if not first[byte]:  # one step whatever the byte: the processor need not wait for a width
                at += 1
                continue
            following = at + width(byte)
            if byte >= 0x80 and not pairs[byte, data[at + 1]]:
                at = following
                continue
            code = code_at(data, at)
            if code == 0x20E3:
                key = at - 1
                if key - 2 > start and data[key] == 0x8F and data[key - 1] == 0xB8 and data[key - 2] == 0xEF:
                    key -= 3
                if key < start or keycaps[data[key]] < 0 or key < ended:
                    at = following
                    continue
                entry, close = np.int64(keycaps[data[key]]), following
                at = key
            else:
                entry, close = _longest(data, at, end, roots, edges, codes, targets, entries)
            if entry < 0 or what[entry] == LEFT:
                joined = False
                if code == 10:
                    depth = 0
                    quoted = False
                elif code == 40:
                    depth += 1
                elif code == 41 and depth:
                    depth -= 1
                elif code == 96:
                    quoted = not quoted
                at = max(close, following)
                if 0x1F1E6 <= code <= 0x1F1FF and entry < 0 and at < end and 0x1F1E6 <= code_at(data, at) <= 0x1F1FF:
                    at += 4  # no flag: its second half begins none
                continue
            left = code_at(data, before(data, at, start)) if at > start else np.int64(0)
            right = code_at(data, close) if close < end else np.int64(0)
            if what[entry] == EMOTICON:
                close = _ended(data, at, close, end, depth)
                right = code_at(data, close) if 0 < close < end else np.int64(0)
                beside = _open(left, classes[left]) or left in (33, 63, 0x2026) or ended == at
                beyond = _open(right, classes[right]) or 0x1F000 <= right < 0x20000 or (right == 41 and depth > 0)
                if right in (33, 44, 46, 63):  # no decimal point, and none of a name
                    after = code_at(data, close + 1) if close + 1 < end else np.int64(0)
                    beyond = not classes[after] & (LETTER | NUMBER) or classes[after] & SPACELESS != 0
                if close < 0 or quoted or not beside or not beyond:
                    if code == 41 and depth:
                        depth -= 1
                    at = following
                    continue
            else:
                if right == _AS_TEXT:
                    joined = False
                    at = close + 3
                    continue
                while right in (_AS_EMOJI, _AS_TEXT) or 0xE0020 <= right <= 0xE007F:
                    close += width(data[close])
                    right = code_at(data, close) if close < end else np.int64(0)
            bound = joined and ended == at
            joined = right == _ZWJ and what[entry] != EMOTICON
            if joined:  # one that joins nothing goes with its emoji as well
                close += 3
                right = code_at(data, close) if close < end else np.int64(0)
            if count < found.shape[1]:
                found[0, count] = row
                found[1, count] = at - start
                found[2, count] = close - start
                found[3, count] = entry
                found[4, count] = left
                found[5, count] = right
                found[6, count] = bound
            count += 1
            at = ended = close
    return count
