"""A compiled table of 128-bit hashes: millions of keys in little memory, looked up inside of kernels.

Keys are two 64-bit hashes of the same bytes, both compared. Among 5 million keys a strange one is taken for
one of them with a probability below 2e-32, so a match needs no look at the bytes. Keys lie sorted; a directory over
their first bits says where to look, so that a look-up touches two places in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit

Hashes = npt.NDArray[np.uint64]

SEED_1 = np.uint64(0x9E3779B97F4A7C15)
SEED_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P1 = np.uint64(0xD6E8FEB86659FD93)
_P2 = np.uint64(0xA0761D6478BD642F)
_S1 = np.uint64(32)
_S2 = np.uint64(29)


@inline
def step_1(state: Any, value: Any) -> Any:
    """The first hash, one byte (or other number) on. For one value a bijection of states, so that nothing is lost."""
    state = (state ^ np.uint64(value)) * _P1
    return state ^ state >> _S1


@inline
def step_2(state: Any, value: Any) -> Any:
    """The second hash, one byte (or other number) on."""
    state = (state + np.uint64(value) + np.uint64(1)) * _P2
    return state ^ state >> _S2


class Keys(NamedTuple):
    """n keys in order. Kernels take the parts as arguments."""

    places: npt.NDArray[np.uint32]
    """Where the keys of each bucket begin; one more than there are buckets."""
    first: Hashes
    second: Hashes
    shift: int
    """A key's bucket: its first hash, shifted right by so many bits."""
    gate: npt.NDArray[np.uint8]
    """A bit for each sixteenth of a bucket: whether it holds a key. Small enough for a processor's cache, it answers
    most look-ups of what is not there."""


class Sorted(NamedTuple):
    """How the hashes given to `keys` became keys."""

    order: npt.NDArray[np.uint32]
    """Number of each hash as it was given, in the order of the keys."""
    starts: npt.NDArray[np.uint32]
    """(keys,) where the hashes of each key begin in `order`."""


def keys(first: Hashes, second: Hashes) -> tuple[Keys, Sorted]:
    """The keys without repetitions. Takes the two arrays over: they are sorted in place, which saves memory."""
    order = np.arange(len(first), dtype=np.uint32)
    sort(first, second, order)
    new = np.ones(len(first), np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    starts = np.flatnonzero(new).astype(np.uint32)
    if len(starts) < len(first):
        for values in (first, second):
            values[: len(starts)] = values[starts]
        first, second = first[: len(starts)], second[: len(starts)]
    return directory(first, second), Sorted(order, starts)


def directory(first: Hashes, second: Hashes) -> Keys:
    """The keys of hashes that are in order, each once."""
    bits = max(min(len(first).bit_length() - 1, 28), 1)
    places = np.full((1 << bits) + 1, len(first), np.uint32)
    for begin in range(0, 1 << bits, 1 << 16):  # by pieces, which saves memory
        marks = np.arange(begin, min(begin + (1 << 16), 1 << bits), dtype=np.uint64) << np.uint64(64 - bits)
        places[begin : begin + len(marks)] = np.searchsorted(first, marks)
    gate = np.zeros(2 << bits, np.uint8)
    for begin in range(0, len(first), 1 << 16):
        fine = first[begin : begin + (1 << 16)] >> np.uint64(60 - bits)
        np.bitwise_or.at(gate, fine >> np.uint64(3), np.uint8(1) << (fine & np.uint64(7)).astype(np.uint8))
    return Keys(places, first, second, 64 - bits, gate)


def sort(first: Hashes, second: Hashes, values: npt.NDArray[np.uint32]) -> None:
    """Puts three arrays in the order of (first, second, value), in place: lists of millions need the memory."""
    _sort(first, second, values, max(min(len(first).bit_length() - 4, 20), 1))


@inline
def _below(first: Any, second: Any, values: Any, at: int, one: Any, two: Any, value: Any) -> bool:
    if first[at] != one:
        return bool(first[at] < one)
    return bool(second[at] < two or (second[at] == two and values[at] < value))


@inline
def _sift(first: Any, second: Any, values: Any, start: int, place: int, size: int) -> None:
    """One step of a heap's repair: what stands at `place` goes down to where it belongs."""
    one, two, value = first[start + place], second[start + place], values[start + place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        at = start + child
        if child + 1 < size and _below(first, second, values, at, first[at + 1], second[at + 1], values[at + 1]):
            at += 1
        if _below(first, second, values, at, one, two, value):
            break
        first[start + place], second[start + place], values[start + place] = first[at], second[at], values[at]
        place = at - start
    first[start + place], second[start + place], values[start + place] = one, two, value


@njit
def _sort(first: Any, second: Any, values: Any, bits: int) -> None:
    """By the first `bits` bits into buckets, each in its place (American flag sort), and then bucket by bucket."""
    shift = np.uint64(64 - bits)
    heads = np.zeros((1 << bits) + 1, np.uint32)
    for one in first:
        heads[np.int64(one >> shift) + 1] += np.uint32(1)
    for bucket in range(1 << bits):
        heads[bucket + 1] += heads[bucket]
    ends = heads[1:].copy()
    start = np.int64(0)
    for bucket in range(1 << bits):
        end = np.int64(ends[bucket])
        for at in range(np.int64(heads[bucket]), end):
            one, two, value = first[at], second[at], values[at]
            to = np.int64(one >> shift)
            while to != bucket:
                place = heads[to]
                heads[to] += np.uint32(1)
                first[place], one = one, first[place]
                second[place], two = two, second[place]
                values[place], value = value, values[place]
                to = np.int64(one >> shift)
            first[at], second[at], values[at] = one, two, value
            heads[bucket] = at + 1
        size = end - start
        if size > 64:  # one host with a million URLs
            for place in range(size // 2 - 1, -1, -1):
                _sift(first, second, values, start, place, size)
            for last in range(size - 1, 0, -1):
                for array in (first, second):
                    array[start], array[start + last] = array[start + last], array[start]
                values[start], values[start + last] = values[start + last], values[start]
                _sift(first, second, values, start, 0, last)
        else:
            for at in range(start + 1, end):
                one, two, value = first[at], second[at], values[at]
                place = at
                while place > start and not _below(first, second, values, place - 1, one, two, value):
                    first[place], second[place] = first[place - 1], second[place - 1]
                    values[place] = values[place - 1]
                    place -= 1
                first[place], second[place], values[place] = one, two, value
        start = end


@inline
def find(places: Any, first: Any, second: Any, shift: int, gate: Any, one: Any, two: Any) -> int:
    """The number of a key, or -1."""
    fine = one >> np.uint64(shift - 4)
    if not gate[fine >> np.uint64(3)] >> (fine & np.uint64(7)) & 1:
        return -1
    bucket = one >> np.uint64(shift)
    for at in range(np.int64(places[bucket]), np.int64(places[bucket + np.uint64(1)])):
        if first[at] == one and second[at] == two:
            return at
    return -1
