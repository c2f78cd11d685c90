"""Words whose tokens are kept, so that each is merged once: a hash table that is filled while text is encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.bpe.merging import mix
from stages.kernels import inline, njit
from stages.text.utf8 import Bytes


class Kept(NamedTuple):
    """The words."""

    slots: npt.NDArray[np.uint64]
    """(slots, 2) of each word its hash, and one more than the place of its record; 0 where there is none."""
    book: npt.NDArray[np.int32]
    """Records, one behind the other: bytes of the word, how many tokens, these, and the word's bytes."""
    letters: Bytes
    """The book, byte by byte."""
    used: npt.NDArray[np.int64]
    """How many words there are, and how much of the book they take."""


def kept(tokens: Mapping[bytes, int], more: int) -> Kept:
    """A table of words that are one token each, with room for so many more of a few tokens."""
    slots = np.zeros((1 << (2 * (len(tokens) + more)).bit_length(), 2), np.uint64)
    book = np.zeros(sum(3 + (len(word) + 3) // 4 for word in tokens) + 8 * more, np.int32)
    table = Kept(slots, book, book.view(np.uint8), np.zeros(2, np.int64))
    ends = np.append(0, np.cumsum([len(word) for word in tokens]))
    _fill(np.frombuffer(b"".join(tokens), np.uint8), ends, np.fromiter(tokens.values(), np.int32, len(tokens)), table)
    return table


@njit
def _fill(data: Bytes, ends: npt.NDArray[np.int64], tokens: npt.NDArray[np.int32], table: Kept) -> None:
    for index in range(len(tokens)):
        start, stop = ends[index], ends[index + 1]
        _, key, slot = find(data, start, stop, table)
        keep(data, start, stop, tokens[index : index + 1], 1, key, slot, table)


@inline
def find(data: Bytes, start: int, stop: int, table: Kept) -> Any:
    """(where the record of a word begins or -1, the word's hash, its slot or the free one that it would have)."""
    state = np.uint64(0xCBF29CE484222325)  # FNV-1a
    for place in range(start, stop):
        state = (state ^ np.uint64(data[place])) * np.uint64(0x100000001B3)
    key = mix(state, np.uint64(stop - start))
    mask = np.uint64(len(table.slots) - 1)
    slot = key & mask
    while table.slots[slot, 1] != 0:
        if table.slots[slot, 0] == key:
            record = np.int64(table.slots[slot, 1]) - 1
            if table.book[record] == stop - start:
                first = 4 * (record + 2 + table.book[record + 1])
                equal = True
                for offset in range(stop - start):
                    if table.letters[first + offset] != data[start + offset]:
                        equal = False
                        break
                if equal:
                    return record, key, np.int64(slot)
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1), key, np.int64(slot)


@inline
def keep(
    data: Bytes, start: int, stop: int, tokens: npt.NDArray[np.int32], count: int, key: Any, slot: int, table: Kept
) -> None:
    """Keeps the first `count` tokens as those of a word that `find` did not find, if there is room."""
    record = table.used[1]
    first = record + 2 + count
    behind = first + (stop - start + 3) // 4
    if 2 * (table.used[0] + 1) > len(table.slots) or behind > len(table.book):
        return
    table.book[record], table.book[record + 1] = stop - start, count
    for index in range(count):
        table.book[record + 2 + index] = tokens[index]
    for offset in range(stop - start):
        table.letters[4 * first + offset] = data[start + offset]
    table.slots[slot, 0], table.slots[slot, 1] = key, record + 1
    table.used[0], table.used[1] = table.used[0] + 1, behind
