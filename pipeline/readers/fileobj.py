"""An input file as Python's libraries want one: an object with read, seek and tell over `sources.File`."""

from __future__ import annotations

import io
from typing import Protocol


class Bytes(Protocol):
    """What lies beneath: `sources.File`, or anything else that gives bytes by position and knows its size."""

    size: int

    def read(self, position: int, size: int, /) -> bytes:
        """`size` bytes from `position`; fewer only at the end."""


class FileObject(io.RawIOBase):
    """A seekable, read-only file object. Closing it leaves the file beneath open, which belongs to who opened it."""

    def __init__(self, file: Bytes) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the start")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        rest = max(0, self._file.size - self._position)
        data = self._file.read(self._position, rest if size is None or size < 0 else min(size, rest))
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview | bytearray, /) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
