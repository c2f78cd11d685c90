"""The words of texts with their places: what deduplication takes for words, as hashes, and the bytes that they fill."""

from __future__ import annotations

import functools
import re
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
    unfit = np.flatnonzero(found.counts < 0)
    words = Words(*(part[:total] for part in found[:4]), found.begins, found.counts)
    if not len(unfit):
        return words
    more = [words]
    for row in unfit.tolist():
        one = _refolded(column[row].as_py())
        found.begins[row], found.counts[row] = total, len(one.first)
        total += len(one.first)
        more.append(one)
    return Words(*(np.concatenate([words[part] for words in more]) for part in range(4)), found.begins, found.counts)


def _room(size: int, rows: int) -> Words:
    """Room for the words of so many bytes: a word takes two bytes at least, but for the last of a text."""
    most = size // 2 + rows
    hashes = np.empty((2, most), np.uint64)
    places = np.empty((2, most), np.int32)
    return Words(*hashes, *places, np.zeros(rows, np.int64), np.zeros(rows, np.int64))


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


def _refolded(text: str) -> Words:
    """The words of a text that is not folded code point by code point.

    It is folded piece by piece, at boundaries across which folding does not reach; a folded character stands where
    its piece stands.
    """
    raw = np.frombuffer(text.encode("utf-32-le"), "<u4")
    bytes_before = np.zeros(len(raw) + 1, np.int64)  # of each code point, in the raw text
    np.cumsum(_widths(raw), out=bytes_before[1:])
    plain = folds_alone()[raw]
    codes, starts, ends = [], [], []
    places = np.arange(len(raw) + 1)
    at = 0
    for match in _unfit_runs().finditer(text):
        begin = match.start()
        codes.append(plain[at:begin])
        starts.append(places[at:begin])
        ends.append(places[at + 1 : begin + 1])
        run = match[0]
        for size, folded_piece in _apart(run) if len(run) <= _SHORT else _first_apart(run):
            letters = np.frombuffer(folded_piece.encode("utf-32-le"), "<u4")
            codes.append(letters)
            starts.append(np.full(len(letters), begin))
            ends.append(np.full(len(letters), begin + size))
            begin += size
        at = match.end()
    codes.append(plain[at:])
    starts.append(places[at:-1])
    ends.append(places[at + 1 :])
    letters = np.concatenate(codes)
    column = pa.array([letters.astype("<u4").tobytes().decode("utf-32-le")], pa.string())
    view = texts(column)
    found = _room(int(view.offsets[-1]), 1)
    count = _locate(view.data, view.offsets, folded(), classes(), *found)
    code_of_byte = np.repeat(np.arange(len(letters)), _widths(letters))
    first_byte, last_byte = found.starts[:count], found.ends[:count] - 1
    begin_codes = np.concatenate(starts)[code_of_byte[first_byte]]
    end_codes = np.concatenate(ends)[code_of_byte[last_byte]]
    return Words(
        found.first[:count],
        found.second[:count],
        bytes_before[begin_codes].astype(np.int32),
        bytes_before[end_codes].astype(np.int32),
        found.begins,
        found.counts,
    )


def _widths(codes: npt.NDArray[np.uint32]) -> Ints:
    return 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)


@functools.cache
def _unfit_runs() -> re.Pattern[str]:
    """Runs of characters that are folded together, with the one before them."""
    codes = np.flatnonzero(fitting() == UNFIT)
    codes = codes[(codes < 0xD800) | (codes >= 0xE000)]
    breaks = np.flatnonzero(np.diff(codes) > 1)
    firsts, lasts = codes[np.append(0, breaks + 1)], codes[np.append(breaks, len(codes) - 1)]
    ranges = "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True))
    return re.compile(f"[^{ranges}]?[{ranges}]+", re.S)


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
