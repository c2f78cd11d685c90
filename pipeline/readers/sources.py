"""Bytes by position: a plain file, a remote one, a decoded member held whole, and a member too large to hold.

The record parsers ask a source for bytes at a position and do not know which of these they read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from pipeline.storage.address import is_remote
from stages.schema import DOCUMENT_BYTES

CHUNK = 64 << 10
"""Bytes that a decoder is fed at a time, from its member's start on: an error is always found at the same place."""

MEMBER_BYTES = 64 << 20
"""Most decoded bytes of a member that are held to be checked whole before any record of it is believed."""

_BLOCK = 1 << 20
_BACK = DOCUMENT_BYTES + (1 << 20)


class Source(Protocol):
    """Decoded bytes by position."""

    @property
    def complete(self) -> bool:
        """Whether the bytes are known to end where they should; asked only once the end was met."""

    @property
    def kept(self) -> int:
        """The first position that can still be read."""

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`; fewer only at the end."""


class File:
    """An input file: for the address of a remote one, a RemoteFile. Raises OSError as `open` and `read` do."""

    complete = False
    kept = 0

    def __new__(cls, path: str | Path) -> File:
        """A local file is opened plainly, and nothing of what remote ones need is imported."""
        return super().__new__(RemoteFile if is_remote(str(path)) else cls)

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by __exit__)
        self.size = os.fstat(self._file.fileno()).st_size
        self._start = 0
        self._block = b""

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, position: int, size: int) -> bytes:
        """See `Source`. Small reads are served from a block that is read ahead."""
        inside = position - self._start
        if inside >= 0 and inside + size <= len(self._block):
            return self._block[inside : inside + size]
        if size >= _BLOCK:
            return self._fetch(position, size)
        self._start, self._block = position, self._fetch(position, _BLOCK)
        return self._block[:size]

    def _fetch(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        parts = []
        while size > 0 and (part := self._file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class RemoteFile(File):
    """A file of any store that fsspec knows, read by ranges. Raises `pipeline.storage.patience.Unavailable`."""

    def __init__(self, path: str | Path) -> None:
        from pipeline.storage.remote import Remote

        self._remote = Remote(str(path))
        self.size = self._remote.size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()

    def read(self, position: int, size: int) -> bytes:
        """See `Source`."""
        return self._remote.read(position, size)


class Held:
    """A member's decoded bytes, whole in memory."""

    kept = 0

    def __init__(self, data: bytes, complete: bool) -> None:
        self.data = data
        self.complete = complete

    def read(self, position: int, size: int) -> bytes:
        """See `Source`."""
        return self.data[position : position + size]


class Flow:
    """A member that is decoded while it is read: forward, with the last DOCUMENT_BYTES kept behind."""

    def __init__(self, chunks: Iterator[bytes], finished: Finished) -> None:
        self._chunks = chunks
        self._finished = finished
        self._data = bytearray()
        self.kept = 0
        self._ended = False

    @property
    def complete(self) -> bool:
        """See `Source`."""
        return self._finished.error is None

    def read(self, position: int, size: int) -> bytes:
        """See `Source`. Raises ValueError below `kept`."""
        if position < self.kept:
            raise ValueError(f"position {position} is gone; the flow starts at {self.kept}")
        while position + size > self.kept + len(self._data) and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
                break
            self._data += chunk
            surplus = min(len(self._data) - _BACK, position - self.kept)
            if surplus > _BLOCK:
                del self._data[:surplus]
                self.kept += surplus
        start = position - self.kept
        return bytes(self._data[start : start + size])

    def drain(self) -> None:
        """Decodes to the end and keeps nothing more."""
        for _ in self._chunks:
            pass
        self._ended = True


class Finished(Protocol):
    """What a flow must know of its decoder."""

    error: str | None


def find(source: Source, needle: bytes, start: int, end: int | None = None) -> int:
    """The first position of `needle` at or behind `start` that begins before `end`, or -1."""
    position = start
    overlap = len(needle) - 1
    while end is None or position < end:
        block = source.read(position, _BLOCK + overlap)
        found = block.find(needle)
        if found >= 0:
            return position + found if end is None or position + found < end else -1
        if len(block) < _BLOCK + overlap:
            return -1
        position += _BLOCK
    return -1
