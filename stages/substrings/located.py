"""The words of texts with their places: what deduplication takes for words, as hashes, and the bytes that they fill."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import njit
from stages.text.characters import classes, folds_alone
from stages.text.column import Ints, Texts, texts
from stages.text.hashed_words import UNFIT, fitting, folded, word_at
from stages.text.utf8 import code_at, put, width
from stages.words import fold

Hashes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32]

PIECE_BYTES = 1 << 20
"""Bytes of text that are taken apart at once."""
_SHORT = 8
"""Characters that are folded together and taken apart to the last."""


class Words(NamedTuple):
    """The words of n texts, those of text i from `begins[i]` on, `counts[i]` of them."""

    first: Hashes
    second: Hashes
    """Two hashes of the folded word."""
    starts: Places
    """Byte of the text where the word begins. Of words that one character stands for (½), all begin with it."""
    ends: Places
    begins: Ints
    counts: Ints


def pieces(column: pa.Array, size: int = PIECE_BYTES) -> Iterator[tuple[int, pa.Array]]:
    """The column in slices of about `size` bytes of text, one row at least, each with the number of its first row."""
    offsets = texts(column).offsets
    start = 0
    while start < len(column):
        stop = max(int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1, start + 1)
        yield start, column.slice(start, stop - start)
        start = stop


def located(column: pa.Array) -> Words:
    """The words of each text as `stages.words.words` finds them in the folded text, and where they stand in the raw
    one. A null has none. Uses 24 bytes for every two bytes of text at most, a sixth of that on usual texts."""
    view = texts(column)
    found = _room(int(view.offsets[-1] - view.offsets[0]), len(column))
    total = _locate(view.data, view.offsets, fitting(), classes(), *found)
    words = _cut(found, total)
    unfit = np.flatnonzero(found.counts < 0)
    if not len(unfit):
        return words
    more = _refolded(column.take(pa.array(unfit)))
    words.begins[unfit], words.counts[unfit] = more.begins + total, more.counts
    return Words(
        np.concatenate([words.first, more.first]),
        np.concatenate([words.second, more.second]),
        np.concatenate([words.starts, more.starts]),
        np.concatenate([words.ends, more.ends]),
        words.begins,
        words.counts,
    )


def _room(size: int, rows: int) -> Words:
    """Room for the words of so many bytes: a word takes two bytes at least, but for the last of a text."""
    most = size // 2 + rows
    hashes, places = np.empty((2, most), np.uint64), np.empty((2, most), np.int32)
    return Words(hashes[0], hashes[1], places[0], places[1], np.zeros(rows, np.int64), np.zeros(rows, np.int64))


def _cut(words: Words, total: int) -> Words:
    return Words(
        words.first[:total].copy(),
        words.second[:total].copy(),
        words.starts[:total].copy(),
        words.ends[:total].copy(),
        words.begins,
        words.counts,
    )


@njit
def _locate(
    data: Any, offsets: Any, letters: Any, classes: Any,
    first: Any, second: Any, starts: Any, ends: Any, begins: Any, counts: Any,
) -> int:  # fmt: skip
    """Writes the words of all texts and gives their number; `counts` is -1 for an unfit text, which has none here."""
    total = 0
    for row in range(len(counts)):
        begin, end = offsets[row], offsets[row + 1]
        begins[row] = total
        at = begin
        written = total
        while True:
            start, at, _, one, two = word_at(data, at, end, letters, classes)
            if start < 0 or start == end:
                break
            first[written], second[written] = one, two
            starts[written], ends[written] = start - begin, at - begin
            written += 1
        counts[row] = -1 if start < 0 else written - total
        if start >= 0:
            total = written
    return total


def _refolded(column: pa.Array) -> Words:
    """The words of texts that are not folded code point by code point.

    Runs of characters that are folded together are looked up, each different one once, and put in the place of what
    they stand for; every folded character knows the bytes that it stands for.
    """
    view = texts(column)
    runs = _runs(view)
    size = int(view.offsets[-1] - view.offsets[0])
    # A character that is folded alone grows from two bytes to three at most.
    room = size + size // 2 + 4 * int(np.diff(runs.tables)[runs.which].sum())
    data, firsts, lasts = np.empty(room, np.uint8), np.empty(room, np.int32), np.empty(room, np.int32)
    offsets = np.empty(len(column) + 1, np.int64)
    _unfold(view.data, view.offsets, folds_alone(), *runs, data, firsts, lasts, offsets)
    found = _room(int(offsets[-1]), len(column))
    words = _cut(found, _locate(data, offsets, folded(), classes(), *found))
    base = np.repeat(offsets[:-1], words.counts)
    return words._replace(starts=firsts[base + words.starts], ends=lasts[base + words.ends - 1])


class _Runs(NamedTuple):
    """Runs of characters that are folded together, with the one before them, and what they are folded to."""

    begins: Ints
    """Byte in the column's data."""
    stops: Ints
    which: Ints
    """Number of the run among the different ones."""
    tables: Ints
    """Where the folded characters of each different one begin; one more than there are."""
    codes: npt.NDArray[np.uint32]
    firsts: Places
    lasts: Places
    """Bytes of the run, from `firsts` to before `lasts`, that each folded character stands for."""


def _runs(view: Texts) -> _Runs:
    room = int(view.offsets[-1] - view.offsets[0]) // 2 + len(view.offsets)
    begins, stops, keys = (np.empty(room, np.int64) for _ in range(3))
    count = _find(view.data, view.offsets, fitting(), begins, stops, keys)
    _, examples, which = np.unique(keys[:count], return_index=True, return_inverse=True)
    pieces: list[str] = []
    firsts: list[int] = []
    lasts: list[int] = []
    tables = [0]
    for begin, stop in zip(begins[examples].tolist(), stops[examples].tolist(), strict=True):
        run = view.data[begin:stop].tobytes().decode()
        at = 0
        for raw, piece in _apart(run) if len(run) <= _SHORT else _first_apart(run):
            pieces.append(piece)
            firsts += [at] * len(piece)
            at += len(raw.encode())
            lasts += [at] * len(piece)
        tables.append(len(firsts))
    return _Runs(
        begins[:count],
        stops[:count],
        which,
        np.array(tables, np.int64),
        np.frombuffer("".join(pieces).encode("utf-32-le"), "<u4"),
        np.array(firsts, np.int32),
        np.array(lasts, np.int32),
    )


@njit
def _find(data: Any, offsets: Any, letters: Any, begins: Any, stops: Any, keys: Any) -> int:
    """Writes where the runs lie, and keys that are equal for equal runs; gives their number."""
    found = 0
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        before = np.int64(-1)
        code = np.int64(0)
        while at < end:
            here = np.int64(code_at(data, at))
            if letters[here] != UNFIT:
                before, code = at, here
                at += width(data[at])
                continue
            begins[found] = at if before < 0 else before
            length = 0 if before < 0 else 1
            key = np.int64(0) if before < 0 else code + 1
            while at < end:
                here = np.int64(code_at(data, at))
                if letters[here] != UNFIT:
                    break
                length += 1
                key = key << 21 | here + 1  # three fill it
                at += width(data[at])
            stops[found] = at
            keys[found] = key if length <= 3 else -1 - found  # each long one by itself
            found += 1
            before = np.int64(-1)
    return found


@njit
def _unfold(
    data: Any, offsets: Any, alone: Any, begins: Any, stops: Any, which: Any, tables: Any, codes: Any,
    firsts: Any, lasts: Any, out: Any, out_firsts: Any, out_lasts: Any, out_offsets: Any,
) -> None:  # fmt: skip
    """Writes the folded texts, and for each of their bytes which bytes of the raw text it stands for."""
    written = np.int64(0)
    run = 0
    for row in range(len(offsets) - 1):
        out_offsets[row] = written
        base = at = offsets[row]
        while at < offsets[row + 1]:
            if run < len(begins) and begins[run] == at:
                for place in range(tables[which[run]], tables[which[run] + 1]):
                    to = put(np.int64(codes[place]), out, written)
                    out_firsts[written:to] = at - base + firsts[place]
                    out_lasts[written:to] = at - base + lasts[place]
                    written = to
                at = stops[run]
                run += 1
            else:
                behind = at + width(data[at])
                to = put(np.int64(alone[code_at(data, at)]), out, written)
                for byte in range(written, to):
                    out_firsts[byte], out_lasts[byte] = at - base, behind - base
                written, at = to, behind
    out_offsets[len(offsets) - 1] = written


@functools.lru_cache(maxsize=1 << 16)
def _apart(run: str) -> tuple[tuple[str, str], ...]:
    """A short run in the smallest pieces that, folded by themselves, give what the run gives: (raw, folded)."""
    whole = fold(run)
    for cut in range(1, len(run)):
        head, tail = fold(run[:cut]), fold(run[cut:])
        if head + tail == whole:
            return ((run[:cut], head), *_apart(run[cut:]))
    return ((run, whole),)


def _first_apart(run: str) -> tuple[tuple[str, str], ...]:
    """The same for a long one, of which only the first character is taken off."""
    whole = fold(run)
    head, tail = fold(run[:1]), fold(run[1:])
    return ((run[:1], head), (run[1:], tail)) if head + tail == whole else ((run, whole),)
