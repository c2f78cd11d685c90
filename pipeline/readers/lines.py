"""Lines of a plain or compressed file, each with its place: what JSON lines and CSV are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.readers.base import Gap, Tally
from pipeline.readers.codecs import Codec
from pipeline.readers.frames import Frame, Frames, Starts
from pipeline.readers.sources import File, Source, find
from stages.schema import DOCUMENT_BYTES

_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line without its end. `data` is None where it is longer than DOCUMENT_BYTES; `size` counts its end."""

    offset: int
    length: int | None
    inner: int
    size: int
    data: bytes | None
    cut: bool = False
    """Whether damage ended it."""
    head: bytes = b""
    """Its first bytes, where `data` is None."""


class _Pending:
    """A line being put together from blocks and, in compressed files, from members."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.frame: tuple[int, int | None] = (0, None)
        self.inner = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = DOCUMENT_BYTES + 2 - len(self.data)
        if room > 0:
            self.data += data[:room]

    def take(self, crossed: bool, cut: bool = False) -> Line:
        """The line, complete or cut; clears the state."""
        data = bytes(self.data).removesuffix(b"\n").removesuffix(b"\r")
        held: bytes | None = data
        if len(data) > DOCUMENT_BYTES:
            held = None
        offset, length = self.frame
        line = Line(offset, None if crossed else length, self.inner, self.size, held, cut, data[:4096])
        self.data = bytearray()
        self.size = 0
        return line


def line_starts(file: File, target: int) -> Iterator[int]:
    """Where a plain file may be cut: behind every line end that is at least `target` bytes behind the last cut."""
    position = target
    while (end := find(file, b"\n", position - 1)) >= 0:
        yield end + 1
        position = end + 1 + target


def member_lines(file: File, codec: Codec, starts: Starts) -> Iterator[int]:
    """Where a compressed file may be cut: at every member that begins with a line's beginning."""
    whole = True
    for part in Frames(file, codec, starts).walk(0, file.size):
        if isinstance(part, Frame):
            if whole:
                yield part.offset
            last = b""
            for _, block in _blocks(part.source):
                last = block[-1:]
            whole = bool(part.error) or (last or (b"\n" if whole else b"")) == b"\n"
        elif isinstance(part, Gap):
            whole = True
            yield part.offset


def _blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    position = 0
    while block := source.read(position, _BLOCK):
        yield position, block
        position += len(block)


def lines(file: File, codec: Codec | None, start: int, end: int, tally: Tally, starts: Starts) -> Iterator[Line]:
    """The lines that begin from `start` and before `end`, blank ones included. Books spans and gaps of members;
    `starts` says whether decoded bytes begin a line (see `frames`)."""
    if codec is None:
        yield from _plain_lines(file, start, end)
        return
    pending = _Pending()
    crossed = False
    for part in Frames(file, codec, starts).walk(start, end):
        if isinstance(part, tuple):
            tally.structure += part[1]
            continue
        if isinstance(part, Gap):
            if pending.size:
                yield pending.take(crossed, cut=True)
            crossed = False
            tally.gaps.append(part)
            continue
        content = False
        for base_offset, block in _blocks(part.source):
            content = content or bool(block.strip())
            for inner, piece in _split(block, base_offset):
                if not pending.size:
                    pending.frame, pending.inner, crossed = (part.offset, part.length), inner, False
                elif pending.frame[0] != part.offset:
                    crossed = True
                pending.add(piece)
                if piece.endswith(b"\n"):
                    yield pending.take(crossed)
        part.finish()
        if part.error and pending.size:
            yield pending.take(crossed, cut=True)
        if content or part.error:
            part.book(int(content), tally)
        else:
            tally.structure += part.finish() - part.offset
    if pending.size:
        yield pending.take(crossed)


def _split(block: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(block):
        end = block.find(b"\n", start) + 1 or len(block)
        yield position + start, block[start:end]
        start = end


def _plain_lines(file: File, start: int, end: int) -> Iterator[Line]:
    pending = _Pending()
    position = start
    while position < end and (block := file.read(position, min(_BLOCK, end - position))):
        for offset, piece in _split(block, position):
            if not pending.size:
                if piece.endswith(b"\n") and len(piece) < DOCUMENT_BYTES:  # a whole line, as nearly all are
                    held = piece[:-2] if piece.endswith(b"\r\n") else piece[:-1]
                    yield Line(offset, len(piece), 0, len(piece), held)
                    continue
                pending.frame = (offset, None)
            pending.add(piece)
            if piece.endswith(b"\n"):
                line = pending.take(False)
                yield line._replace(length=line.size, inner=0)
        position += len(block)
    if pending.size:
        line = pending.take(False)
        yield line._replace(length=line.size, inner=0)
