"""Members of a compressed file one behind the other, also behind damage.

A member is decoded whole and checked before anything in it is believed, up to MEMBER_BYTES; a larger
one flows. What cannot be decoded is a gap up to the next place where a member begins that starts a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.readers.base import Gap, Tally
from pipeline.readers.codecs import CODECS, GZIP, LZ4, PADDED, ZSTD, Codec, Member, dictionary, skippable
from pipeline.readers.sources import CHUNK, MEMBER_BYTES, File, Flow, Held, find

Starts = Callable[[bytes], bool]
"""Whether decoded bytes begin as a member does that starts a record; used only to find the way behind damage."""


class Frame:
    """A member with its decoded bytes in `source`. `flows` where it was too large to be checked first."""

    def __init__(self, reading: Frames, member: Member, source: Held | Flow) -> None:
        self._reading = reading
        self._member = member
        self.source = source
        self.flows = isinstance(source, Flow)
        self._next: int | None = None

    @property
    def offset(self) -> int:
        """Where the member begins in the file."""
        return self._member.offset

    @property
    def length(self) -> int | None:
        """Its bytes in the file; None while that is unknown."""
        return None if self._member.end is None or self.flows else self._member.end - self.offset

    @property
    def error(self) -> str | None:
        """Why it could not be decoded to its end; known once its source was read to the end."""
        return self._member.error

    def finish(self) -> int:
        """Where reading goes on; decodes what was left."""
        if self._next is None:
            if isinstance(self.source, Flow):
                self.source.drain()
            good = self._member.fault
            self._next = good if self.error is None else self._reading.resume(max(good, self.offset + 1))
        return self._next

    def book(self, records: int, tally: Tally) -> None:
        """Puts the member's bytes on the tally, given how many records it gave."""
        end = self.finish()
        good = self._member.fault
        if records:
            tally.spans += good - self.offset
            if self.error:
                tally.gaps.append(Gap(good, end - good, self.error))
        elif self.error or self.source.read(self.source.kept, 1):
            tally.gaps.append(Gap(self.offset, end - self.offset, self.error or "no_record"))
        else:
            tally.structure += end - self.offset


class Frames:
    """The members of a file from `start` on: iterates over Frame, Gap, and (offset, length) of padding."""

    def __init__(self, file: File, codec: Codec, starts: Starts) -> None:
        self._file = file
        self._codec = codec
        self._starts = starts
        self._shared = dictionary(file) if codec is ZSTD else None

    def walk(self, start: int, end: int) -> Iterator[Frame | Gap | tuple[int, int]]:
        """All that begins before `end`. The caller reads each frame's source before it goes on."""
        position = start
        while position < min(end, self._file.size):
            padding = skippable(self._file, position) if self._codec in PADDED else 0
            if padding:
                yield position, padding
                position += padding
                continue
            frame = self._open(position)
            if isinstance(frame, Gap):
                yield frame
                position += frame.length
            else:
                yield frame
                position = frame.finish()

    def _open(self, offset: int) -> Frame | Gap:
        member = Member(self._file, offset, self._codec, self._shared)
        chunks = member.chunks()
        held: list[bytes] = []
        size = 0
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size > MEMBER_BYTES:
                return Frame(self, member, Flow(_released(held, chunks), member))
        if member.error is None:
            return Frame(self, member, Held(b"".join(held), True))
        following = self.resume(offset + 1)
        # Cut off by the end of the file, a member is sound as far as it goes: its whole records stand.
        if member.error == "truncated" and following == self._file.size and size:
            return Frame(self, member, Held(b"".join(held), False))
        reason = member.error
        if reason == "truncated" and following < self._file.size:
            reason = "corrupt_member"
        if reason == "not_a_member" and not find_other(self._file, offset, following):
            reason = "zeroed"
        return Gap(offset, following - offset, reason)

    def resume(self, position: int) -> int:
        """The next place at or behind `position` where a member begins that starts a record, or the file's end."""
        while (position := find(self._file, self._codec.magic, position)) >= 0:
            if begins(self._file, position, self._codec, self._starts, self._shared):
                return position
            position += 1
        return self._file.size

    def head(self) -> bytes:
        """The first decoded bytes of the first member that starts a record; empty where there is none."""
        position = 0
        while position < self._file.size:
            padding = skippable(self._file, position) if self._codec in PADDED else 0
            if not padding:
                head = _head(self._file, position, self._codec, self._shared)
                return head if self._starts(head) else self._behind(position + 1)
            position += padding
        return b""

    def _behind(self, position: int) -> bytes:
        position = self.resume(position)
        return _head(self._file, position, self._codec, self._shared) if position < self._file.size else b""


def _released(held: list[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    """All chunks in order; those held are let go one by one."""
    held.reverse()
    while held:
        yield held.pop()
    yield from chunks


def begins(file: File, position: int, codec: Codec, starts: Starts, shared: object = None) -> bool:
    """Whether a member begins at `position` whose first decoded bytes start a record."""
    return starts(_head(file, position, codec, shared))


def _head(file: File, position: int, codec: Codec, shared: object) -> bytes:
    """About the first CHUNK decoded bytes of a member; empty where there is none or it fails at once."""
    member = Member(file, position, codec, shared)  # type: ignore[arg-type]
    head = b""
    for chunk in member.chunks():
        head += chunk
        if len(head) >= CHUNK:
            break
    return head if member.error is None or len(head) >= 64 else b""


def find_other(file: File, start: int, end: int) -> bool:
    """Whether a byte other than zero lies between the two positions."""
    while start < end:
        block = file.read(start, min(1 << 20, end - start))
        if block.strip(b"\x00"):
            return True
        start += len(block) or end
    return False


def detect(file: File, plain: Starts, starts: Starts) -> Codec | None:
    """The compression of a file by its content; None for a plain one.

    Where the file begins with neither a member nor what `plain` accepts, its start is damaged, and the
    first sound member further on decides.
    """
    head = file.read(0, 4096)
    for codec in CODECS:
        if head.startswith(codec.magic):
            return codec
    if padding := skippable(file, 0):
        return LZ4 if file.read(padding, 4) == LZ4.magic else ZSTD
    if plain(head):
        return None
    found = {codec: Frames(file, codec, starts).resume(0) for codec in (GZIP, ZSTD, LZ4)}
    first = min(found, key=lambda codec: found[codec])
    return first if found[first] < file.size else None
