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
from stages.text.column import Ints, texts
from stages.text.hashed_words import UNFIT, fitting, folded, word_at
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
    they stand for; every folded character knows the raw ones that it stands for.
    """
    text_bytes = np.diff(texts(column).offsets)
    joined = "\n".join(column.to_pylist())  # which parts words and is folded with nothing
    raw = np.frombuffer(joined.encode("utf-32-le"), "<u4")
    unfit = np.flatnonzero(fitting()[raw] == UNFIT)
    breaks = np.flatnonzero(np.diff(unfit) > 1)
    begins = np.maximum(unfit[np.append(0, breaks + 1)] - 1, 0)  # with the character before them
    stops = unfit[np.append(breaks, len(unfit) - 1)] + 1
    runs = _runs(joined, raw, begins, stops)

    sizes = np.ones(len(raw), np.int32)  # folded characters that stand at the first of a run
    inside = np.zeros(len(raw) + 1, np.int8)
    inside[begins] += 1
    inside[stops] -= 1
    plain = np.flatnonzero(np.cumsum(inside[:-1], dtype=np.int8) == 0).astype(np.int32)
    sizes[unfit] = 0
    sizes[begins] = runs.lengths
    places = np.cumsum(sizes, dtype=np.int32) - sizes
    total = int(sizes.sum())
    codes, firsts, lasts = np.empty(total, "<u4"), np.empty(total, np.int32), np.empty(total, np.int32)
    at = places[plain]
    codes[at], firsts[at], lasts[at] = folds_alone()[raw[plain]], plain, plain + 1
    behind = np.cumsum(runs.lengths) - runs.lengths
    at = np.repeat(places[begins] - behind, runs.lengths) + np.arange(len(runs.codes))
    start = np.repeat(begins, runs.lengths)
    codes[at], firsts[at], lasts[at] = runs.codes, start + runs.firsts, start + runs.lasts

    data = pa.array([codes.tobytes().decode("utf-32-le")], pa.string())
    view = texts(data)
    found = _room(int(view.offsets[-1]), 1)
    words = _cut(found, _locate(view.data, view.offsets, folded(), classes(), *found))
    byte = np.append(0, np.cumsum(_widths(raw), dtype=np.int32))  # of each raw character
    code = np.repeat(np.arange(total, dtype=np.int32), _widths(codes))  # of each byte
    starts, ends = byte[firsts[code[words.starts]]], byte[lasts[code[words.ends - 1]]]
    text_starts = np.cumsum(text_bytes + 1) - text_bytes - 1
    row = np.searchsorted(text_starts, starts, "right") - 1
    counts = np.bincount(row, minlength=len(column))
    return Words(
        words.first,
        words.second,
        (starts - text_starts[row]).astype(np.int32),
        (ends - text_starts[row]).astype(np.int32),
        np.cumsum(counts) - counts,
        counts,
    )


class _Runs(NamedTuple):
    """What runs of characters are folded to, one behind the other."""

    lengths: Ints
    """Folded characters of each run."""
    codes: npt.NDArray[np.uint32]
    firsts: Ints
    lasts: Ints
    """The characters of the run, from `firsts` to before `lasts`, that each folded one stands for."""


def _runs(text: str, raw: npt.NDArray[np.uint32], begins: Ints, stops: Ints) -> _Runs:
    """The runs of a text (`raw`: its code points), those of up to three characters looked up by their code points."""
    length = stops - begins
    keys = np.zeros(len(begins), np.int64)
    for place in range(3):
        here = raw[np.minimum(begins + place, len(raw) - 1)].astype(np.int64)
        keys = keys << 21 | np.where(place < length, here, 0)
    keys[length > 3] = -1 - np.flatnonzero(length > 3)  # each by itself
    _, examples, which = np.unique(keys, return_index=True, return_inverse=True)
    lengths, codes, firsts, lasts = [], [], [], []
    for begin, stop in zip(begins[examples].tolist(), stops[examples].tolist(), strict=True):
        run = text[begin:stop]
        at = size = 0
        for characters, piece in _apart(run) if len(run) <= _SHORT else _first_apart(run):
            codes.append(piece)
            firsts += [at] * len(piece)
            at += characters
            lasts += [at] * len(piece)
            size += len(piece)
        lengths.append(size)
    table = np.frombuffer("".join(codes).encode("utf-32-le"), "<u4")
    sizes = np.array(lengths, np.int64)
    mine = sizes[which]
    rows = np.repeat((np.cumsum(sizes) - sizes)[which] - np.cumsum(mine) + mine, mine) + np.arange(int(mine.sum()))
    return _Runs(mine, table[rows], np.array(firsts, np.int64)[rows], np.array(lasts, np.int64)[rows])


def _widths(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.int8]:
    """The bytes that code points have in UTF-8."""
    return 1 + (codes >= 0x80).astype(np.int8) + (codes >= 0x800) + (codes >= 0x10000)


@functools.lru_cache(maxsize=1 << 16)
def _apart(run: str) -> tuple[tuple[int, str], ...]:
    """A short run in the smallest pieces that, folded by themselves, give what the run gives: (characters, folded)."""
    whole = fold(run)
    for cut in range(1, len(run)):
        head, tail = fold(run[:cut]), fold(run[cut:])
        if head + tail == whole:
            return ((cut, head), *_apart(run[cut:]))
    return ((len(run), whole),)


def _first_apart(run: str) -> tuple[tuple[int, str], ...]:
    """The same for a long one, of which only the first character is taken off."""
    whole = fold(run)
    head, tail = fold(run[:1]), fold(run[1:])
    return ((1, head), (len(run) - 1, tail)) if head + tail == whole else ((len(run), whole),)
