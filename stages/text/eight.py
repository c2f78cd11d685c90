"""Eight bytes at once in a register, for kernels (Lamport, Multiple byte processing with full-word instructions, 1975).

Masks have the top bit of each byte that is meant, the text's first byte lowest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import inline

ONES = np.uint64(0x0101010101010101)
TOPS = np.uint64(0x8080808080808080)
_PLACES = np.uint64(0x0001020304050607)
_FACTOR = np.uint64(0x9FB21C651E98DF25)


@inline
def eight_at(data: Any, at: int) -> Any:
    """The eight bytes from `at` on: one instruction, as the compiler sees it. All must lie inside of `data`."""
    place = np.uint64(at)
    return (
        np.uint64(data[place])
        | np.uint64(data[place + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[place + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[place + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[place + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[place + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[place + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[place + np.uint64(7)]) << np.uint64(56)
    )


@inline
def within(eight: Any, first: int, last: int) -> Any:
    """Bytes that lie between two values. All bytes, and both values, are below 0x80."""
    return (eight + ONES * np.uint64(0x80 - first)) & ~(eight + ONES * np.uint64(0x7F - last)) & TOPS


@inline
def letters_in(eight: Any) -> Any:
    """ASCII letters."""
    return within(eight & ~TOPS | ONES * np.uint64(0x20), 97, 122) & ~eight


@inline
def digits_in(eight: Any) -> Any:
    """ASCII digits."""
    return within(eight & ~TOPS, 48, 57) & ~eight


@inline
def equal_to(eight: Any, value: int) -> Any:
    """Bytes equal to a value below 0x80."""
    return (TOPS - (eight & ~TOPS ^ ONES * np.uint64(value))) & TOPS & ~eight


@inline
def before_first(mask: Any) -> Any:
    """How many bytes stand before the first that is not in the mask, 0 to 8."""
    other = mask ^ TOPS
    if other == np.uint64(0):
        return 8
    lowest = (other & (~other + np.uint64(1))) >> np.uint64(7)
    return np.int64(lowest * _PLACES >> np.uint64(56))


@inline
def leading(eight: Any, size: int) -> Any:
    """The first `size` bytes, 0 to 7, zeros behind."""
    return eight & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))


@inline
def up_to_eight(data: Any, at: int, end: int) -> Any:
    """The bytes from `at` to `end`, at most eight, zeros behind."""
    if at + 8 <= end:
        return eight_at(data, at)
    eight = np.uint64(0)
    for place in range(end - 1, at - 1, -1):
        eight = eight << np.uint64(8) | np.uint64(data[place])
    return eight


@inline
def stirred(eight: Any) -> Any:
    """A bijection after which each bit hangs on many, to be hashed by `stages.lookup.step_1`: whose product alone would
    carry nothing down from the last bytes."""
    eight = (eight ^ eight >> np.uint64(32)) * _FACTOR
    return eight ^ eight >> np.uint64(29)
