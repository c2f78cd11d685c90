"""Code points inside of kernels. Arrow's strings are valid UTF-8, which is not checked again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import inline

Bytes = npt.NDArray[np.uint8]


@inline
def width(byte: Any) -> int:
    """How many bytes a code point has, by its first byte (1 to 4)."""
    if byte < 0x80:
        return 1
    if byte < 0xE0:
        return 2
    return 3 if byte < 0xF0 else 4


@inline
def code_at(data: Bytes, at: int) -> Any:
    """The code point that begins at `at`."""
    byte = np.int64(data[at])
    if byte < 0x80:
        return byte
    if byte < 0xE0:
        return (byte & 31) << 6 | (np.int64(data[at + 1]) & 63)
    if byte < 0xF0:
        return (byte & 15) << 12 | (np.int64(data[at + 1]) & 63) << 6 | (np.int64(data[at + 2]) & 63)
    return (
        (byte & 7) << 18
        | (np.int64(data[at + 1]) & 63) << 12
        | (np.int64(data[at + 2]) & 63) << 6
        | (np.int64(data[at + 3]) & 63)
    )


@inline
def before(data: Bytes, at: int, start: int) -> int:
    """Where the code point that ends before `at` begins; `start` where there is none behind `start`."""
    at -= 1
    while at > start and data[at] & 0xC0 == 0x80:
        at -= 1
    return max(at, start)


@inline
def put(code: int, out: Bytes, at: int) -> int:
    """Writes a code point at `at`; gives where the next one goes."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
        out[at + 1] = 0x80 | code & 63
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | code >> 12
        out[at + 1] = 0x80 | code >> 6 & 63
        out[at + 2] = 0x80 | code & 63
        return at + 3
    out[at] = 0xF0 | code >> 18
    out[at + 1] = 0x80 | code >> 12 & 63
    out[at + 2] = 0x80 | code >> 6 & 63
    out[at + 3] = 0x80 | code & 63
    return at + 4
