"""Plain files of numbers, mapped into memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def mapped(path: Path, kind: Any) -> npt.NDArray[Any]:
    """The numbers of a file, read where they are looked at; an array of none where it is empty. Not to be written.

    It holds no file descriptor, as numpy's own map does: thousands of parts may be mapped at once.
    """
    if not path.stat().st_size:
        return np.zeros(0, kind)
    with pa.memory_map(str(path)) as file:
        return np.frombuffer(file.read_buffer(), kind)


def made(path: Path, kind: Any, shape: int | tuple[int, ...]) -> npt.NDArray[Any]:
    """The zeros of a new file, mapped to be written; there must be some. Raises OSError where the disk has no room.

    The disk gives all the room first: a map of a file with holes on a disk that is full would end the process.
    """
    with path.open("xb") as file:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        try:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    return np.memmap(path, kind, "r+", shape=shape)
