"""Merging the bytes of a word as tiktoken does it: of all neighbours that together are a token, always those of the
lowest rank, and of equal ones the leftmost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit
from stages.text.utf8 import Bytes

LONGEST = 1 << 14
"""Most bytes of a word."""
_SCANNED = 256
"""Bytes of a word up to which a look at all neighbours before each merge, many at once, costs less than a heap."""
_LANES = 16
"""In a word of as many, neighbours are looked at by so many, so that none are left over for a slower loop."""
_NONE = 0x7FFFFFFF << 16
"""Above the keys of all neighbours that can be merged."""

Numbers = npt.NDArray[np.int64]


class Merges(NamedTuple):
    """What can be merged."""

    single: npt.NDArray[np.int32]
    """(256,) the rank of each byte."""
    marks: npt.NDArray[np.uint64]
    """A bit set for the hash of each pair: most neighbours are no token, which is seen here, in the nearest cache."""
    pairs: npt.NDArray[np.uint64]
    """A hash table of the ranks of two neighbours, as one number; 0 is a free slot."""
    made: npt.NDArray[np.int32]
    """The rank of the token that they are together, by slot."""


class Room(NamedTuple):
    """Where a word is merged, byte by byte."""

    symbols: npt.NDArray[np.int32]
    """The rank of the token that begins here."""
    keys: Numbers
    """Of a token and the next one the rank of their merge, and the place, which decides between equal ones."""
    before: Numbers
    """The place of the token before, or -1."""
    after: Numbers
    """The place of the next token, or behind the word."""
    heap: Numbers
    """Keys, of which some may be out of date."""


def merges(ranks: Mapping[bytes, int]) -> Merges:
    """The merges of tokens by rank, among them all single bytes: any two tokens that joined are a third."""
    pairs = {
        (left, right): rank
        for piece, rank in ranks.items()
        for place in range(1, len(piece))
        if (left := ranks.get(piece[:place])) is not None and (right := ranks.get(piece[place:])) is not None
    }
    single = np.array([ranks[bytes([byte])] for byte in range(256)], np.int32)
    size = 1 << (2 * len(pairs) + 2).bit_length()
    table = Merges(single, np.zeros(size // 8, np.uint64), np.zeros(size, np.uint64), np.zeros(size, np.int32))
    _fill(np.array([(*both, rank) for both, rank in pairs.items()], np.int64).reshape(-1, 3), table)
    return table


def room() -> Room:
    """Room for a word of LONGEST bytes."""
    return Room(
        np.empty(LONGEST, np.int32), np.empty(LONGEST + _LANES, np.int64), np.empty(LONGEST, np.int64),
        np.empty(LONGEST, np.int64), np.empty(3 * LONGEST, np.int64),
    )  # fmt: skip


@inline
def mix(left: np.uint64, right: np.uint64) -> Any:
    """A hash of two numbers."""
    mixed = (left ^ (right * np.uint64(0x9E3779B97F4A7C15))) * np.uint64(0xD6E8FEB86659FD93)
    return mixed ^ (mixed >> np.uint64(32))


@inline
def _mark(table: Merges, key: np.uint64) -> Any:
    """(the place of a hash among the marks, its bit there)."""
    bit = (key >> np.uint64(32)) & np.uint64(64 * len(table.marks) - 1)
    return bit >> np.uint64(6), np.uint64(1) << (bit & np.uint64(63))


@inline
def _slot(table: Merges, both: np.uint64, key: np.uint64) -> Any:
    """The slot where two neighbours are or would be."""
    mask = np.uint64(len(table.pairs) - 1)
    slot = key & mask
    while table.pairs[slot] != 0 and table.pairs[slot] != both:
        slot = (slot + np.uint64(1)) & mask
    return slot


@inline
def _both(left: int, right: int) -> Any:
    """(the number of two neighbours, its hash)."""
    both = ((np.uint64(left) << np.uint64(32)) | np.uint64(right)) + np.uint64(1)
    return both, mix(np.uint64(left), np.uint64(right))


@njit
def _fill(rows: Numbers, table: Merges) -> None:
    for row in range(len(rows)):
        both, key = _both(rows[row, 0], rows[row, 1])
        slot = _slot(table, both, key)
        table.pairs[slot], table.made[slot] = both, rows[row, 2]
        word, bit = _mark(table, key)
        table.marks[word] |= bit


@inline
def _key(table: Merges, room: Room, place: int, behind: int) -> Any:
    """The key of the tokens at two places."""
    both, key = _both(room.symbols[place], room.symbols[behind])
    word, bit = _mark(table, key)
    if table.marks[word] & bit:
        slot = _slot(table, both, key)
        if table.pairs[slot] == both:
            return (np.int64(table.made[slot]) << 16) | place
    return np.int64(_NONE)


@inline
def merge(data: Bytes, start: int, stop: int, table: Merges, room: Room) -> Any:
    """How many tokens the word from `start` to `stop` becomes; their ranks then stand first in `room.symbols`."""
    count = stop - start
    for index in range(count):
        room.symbols[index] = table.single[data[start + index]]
        room.before[index], room.after[index] = index - 1, index + 1
    for index in range(count - 1):
        room.keys[index] = _key(table, room, index, index + 1)
    room.keys[count - 1] = _NONE
    if count <= _SCANNED:
        _by_scanning(count, table, room)
    else:
        _by_heap(count, table, room)
    place = left = 0
    while place < count:
        room.symbols[left] = room.symbols[place]
        place = room.after[place]
        left += 1
    return left


@inline
def _join(place: int, count: int, table: Merges, room: Room) -> None:
    """Merges the token at a place with the next one."""
    gone = room.after[place]
    behind, ahead = room.after[gone], room.before[place]
    room.symbols[place] = room.keys[place] >> 16
    room.after[place] = behind
    room.keys[place] = room.keys[gone] = _NONE
    if behind < count:
        room.before[behind] = place
        room.keys[place] = _key(table, room, place, behind)
    if ahead >= 0:
        room.keys[ahead] = _key(table, room, ahead, place)


@inline
def _by_scanning(count: int, table: Merges, room: Room) -> None:
    whole = count if count < _LANES else (count + _LANES - 1) // _LANES * _LANES
    for index in range(count, whole):
        room.keys[index] = _NONE
    while True:
        least = np.int64(_NONE)
        for index in range(whole):
            least = min(least, room.keys[index])
        if least == _NONE:
            break
        _join(least & 0xFFFF, count, table, room)


@inline
def _by_heap(count: int, table: Merges, room: Room) -> None:
    size = 0
    for index in range(count - 1):
        size = _push(room.heap, size, room.keys[index])
    while size > 0:
        key = room.heap[0]
        size = _pop(room.heap, size)
        place = key & 0xFFFF
        if room.keys[place] != key:  # out of date
            continue
        _join(place, count, table, room)
        size = _push(room.heap, size, room.keys[place])
        if room.before[place] >= 0:
            size = _push(room.heap, size, room.keys[room.before[place]])


@inline
def _push(heap: Numbers, size: int, key: int) -> Any:
    """Puts a key on the heap, if it is one; the new size."""
    if key == _NONE:
        return size
    place = size
    while place > 0 and heap[(place - 1) // 2] > key:
        heap[place] = heap[(place - 1) // 2]
        place = (place - 1) // 2
    heap[place] = key
    return size + 1


@inline
def _pop(heap: Numbers, size: int) -> Any:
    """Takes the least key off the heap; the new size."""
    size -= 1
    key, place = heap[size], 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key
    return size
