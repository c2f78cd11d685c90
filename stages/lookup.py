"""A compiled table of 128-bit hashes: millions of keys in little memory, looked up inside of kernels.

Keys are two 64-bit hashes of the same bytes, both compared. Among 5 million keys a strange one is taken for
one of them with a probability below 2e-32, so a match needs no look at the bytes. Keys lie sorted; a directory over
their first bits says where to look, so that a look-up touches two places in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline

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
    order = np.argsort(first).astype(np.uint32)
    first[:] = first[order]
    second[:] = second[order]
    same = first[1:] == first[:-1]
    if (same & (second[1:] != second[:-1])).any():  # one in millions of millions
        again = np.lexsort((second, first))
        first[:], second[:], order = first[again], second[again], order[again]
    new = np.ones(len(first), np.bool_)
    new[1:] = ~(same & (second[1:] == second[:-1]))
    starts = np.flatnonzero(new).astype(np.uint32)
    if len(starts) < len(first):
        for values in (first, second):
            values[: len(starts)] = values[starts]
        first, second = first[: len(starts)], second[: len(starts)]
    bits = max(min(len(first).bit_length() - 1, 28), 1)
    places = np.full((1 << bits) + 1, len(first), np.uint32)
    for begin in range(0, 1 << bits, 1 << 16):  # by pieces, which saves memory
        marks = np.arange(begin, min(begin + (1 << 16), 1 << bits), dtype=np.uint64) << np.uint64(64 - bits)
        places[begin : begin + len(marks)] = np.searchsorted(first, marks)
    gate = np.zeros(2 << bits, np.uint8)
    for begin in range(0, len(first), 1 << 16):
        fine = first[begin : begin + (1 << 16)] >> np.uint64(60 - bits)
        np.bitwise_or.at(gate, fine >> np.uint64(3), np.uint8(1) << (fine & np.uint64(7)).astype(np.uint8))
    return Keys(places, first, second, 64 - bits, gate), Sorted(order, starts)


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
