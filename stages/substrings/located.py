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

PIECE_BYTES = 4 << 20
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

    They are folded piece by piece, at boundaries across which folding does not reach; a folded character stands where
    its piece stands.
    """
    texts_bytes = np.diff(texts(column).offsets)
    joined = "\n".join(column.to_pylist())  # which parts words and is folded with nothing
    raw = np.frombuffer(joined.encode("utf-32-le"), "<u4")
    plain = folds_alone()[raw].astype("<u4").tobytes().decode("utf-32-le")
    unfit = np.flatnonzero(fitting()[raw] == UNFIT)
    breaks = np.flatnonzero(np.diff(unfit) > 1)
    begins = np.maximum(unfit[np.append(0, breaks + 1)] - 1, 0)  # with the character before them
    stops = unfit[np.append(breaks, len(unfit) - 1)] + 1
    sizes: list[int] = []  # of pieces, in characters of the raw text
    pieces: list[str] = []
    whole: list[bool] = []  # whether the piece is folded as one
    at = 0
    for begin, stop in zip(begins.tolist(), stops.tolist(), strict=True):
        begin = max(begin, at)
        run = joined[begin:stop]
        apart = _apart(run) if len(run) <= _SHORT else _first_apart(run)
        sizes += [begin - at, *(size for size, _ in apart)]
        pieces += [plain[at:begin], *(piece for _, piece in apart)]
        whole += [False, *(True for _ in apart)]
        at = stop
    sizes.append(len(raw) - at)
    pieces.append(plain[at:])
    whole.append(False)
    letters = "".join(pieces)
    data = pa.array([letters], pa.string())
    view = texts(data)
    found = _room(int(view.offsets[-1]), 1)
    words = _cut(found, _locate(view.data, view.offsets, folded(), classes(), *found))

    lengths = np.array([len(piece) for piece in pieces])
    of = np.repeat(np.arange(len(pieces)), lengths)  # the piece of each folded character
    inside = np.arange(len(letters)) - (np.cumsum(lengths) - lengths)[of]
    raw_ends = np.cumsum(sizes)
    one_piece = np.array(whole)[of]
    first = (raw_ends - sizes)[of] + np.where(one_piece, 0, inside)
    last = np.where(one_piece, raw_ends[of], first + 1)
    byte = np.append(0, np.cumsum(_widths(raw)))  # of each raw character
    code = np.repeat(np.arange(len(letters)), _widths(np.frombuffer(letters.encode("utf-32-le"), "<u4")))
    starts, ends = byte[first[code[words.starts]]], byte[last[code[words.ends - 1]]]
    text_starts = np.cumsum(texts_bytes + 1) - texts_bytes - 1
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


def _widths(codes: npt.NDArray[np.uint32]) -> Ints:
    """The bytes that code points have in UTF-8."""
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)


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
