"""One compressed member at a time: gzip members, zstd and lz4 frames, xz streams, bz2 streams."""

from __future__ import annotations

import bz2
import lzma
import struct
from collections.abc import Iterator
from typing import NamedTuple

import lz4.frame
import zstandard
from isal import isal_zlib  # ISA-L inflates more than twice as fast as zlib

from pipeline.readers.sources import CHUNK, File

InflateError: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub calls the class an instance
_FAULTS: tuple[type[Exception], ...] = (
    InflateError, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, MemoryError, RuntimeError,
)  # fmt: skip
_OUT = 1 << 20
_ZSTD_FEED = 2 << 10  # a block of 4 bytes can stand for 128 KiB, and the decoder has no limit on its output


class Codec(NamedTuple):
    """A compression: its name, and the bytes with which a member begins."""

    name: str
    magic: bytes


GZIP = Codec("gzip", b"\x1f\x8b\x08")
ZSTD = Codec("zstd", b"\x28\xb5\x2f\xfd")
XZ = Codec("xz", b"\xfd7zXZ\x00")
BZ2 = Codec("bz2", b"BZh")
LZ4 = Codec("lz4", b"\x04\x22\x4d\x18")
CODECS = (GZIP, ZSTD, XZ, BZ2, LZ4)
PADDED = (ZSTD, LZ4)
"""Codecs whose files may hold skippable frames (the same in both formats)."""


def skippable(file: File, offset: int) -> int:
    """The length of the skippable frame (of zstd or lz4) at `offset`, or 0 where there is none."""
    head = file.read(offset, 8)
    if len(head) == 8 and head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return min(8 + int(struct.unpack_from("<I", head, 4)[0]), file.size - offset)
    return 0


def dictionary(file: File) -> zstandard.ZstdCompressionDict | None:
    """The dictionary that a .warc.zst file carries in a skippable frame at its start (IIPC's proposal), or None."""
    length = skippable(file, 0)
    if not length or file.read(0, 1) != b"\x5d":
        return None
    data = file.read(8, length - 8)
    if data.startswith(ZSTD.magic):
        try:
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=16 << 20)
        except zstandard.ZstdError:
            return None
    return zstandard.ZstdCompressionDict(data)


class Member:
    """One member being decoded.

    `end` is where it ends, once that was reached. `error` says why it cannot be decoded to its end:
    `not_a_member`, `corrupt_member`, `crc_mismatch` or `truncated`; `fault` is then the position up to
    which its bytes were decoded without complaint, a multiple of CHUNK from its start.
    """

    def __init__(
        self, file: File, offset: int, codec: Codec, shared: zstandard.ZstdCompressionDict | None = None
    ) -> None:
        self._file = file
        self._codec = codec
        self._shared = shared
        self.offset = offset
        self.end: int | None = None
        self.error: str | None = None
        self.fault = offset

    def chunks(self) -> Iterator[bytes]:
        """The decoded bytes in pieces of a few MiB at most."""
        if self._file.read(self.offset, len(self._codec.magic)) != self._codec.magic:
            self.error = "not_a_member"
            return
        try:
            if self._codec is GZIP:
                yield from self._gzip()
            elif self._codec is ZSTD:
                yield from self._zstd()
            else:
                yield from self._seven()
        except _FAULTS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the file could not be read; bz2 raises OSError without a number for bad data
            if isinstance(error, RuntimeError) and self._codec is not LZ4:
                raise  # only lz4 says so of bad data
            self.error = "crc_mismatch" if "checksum" in str(error).lower() else "corrupt_member"

    def _feed(self) -> Iterator[bytes]:
        position = self.offset
        while chunk := self._file.read(position, CHUNK):
            self.fault = position
            yield chunk
            position += len(chunk)
        self.fault = self._file.size
        self.error = "truncated"

    def _ended(self, chunk: bytes, unused: bytes) -> None:
        self.end = self.fault = self.fault + len(chunk) - len(unused)

    def _gzip(self) -> Iterator[bytes]:
        decoder = isal_zlib.decompressobj(31)
        for chunk in self._feed():
            data = chunk
            while data:
                out = decoder.decompress(data, _OUT)
                if out:
                    yield out
                data = decoder.unconsumed_tail
                if decoder.eof:
                    self._ended(chunk, decoder.unused_data or b"")
                    return
            while len(out := decoder.decompress(b"", _OUT)) > 0:
                yield out
            if decoder.eof:
                self._ended(chunk, decoder.unused_data or b"")
                return

    def _zstd(self) -> Iterator[bytes]:
        decoder = zstandard.ZstdDecompressor(dict_data=self._shared).decompressobj()
        declared = zstandard.frame_content_size(self._file.read(self.offset, 18))
        feed = CHUNK if 0 <= declared <= _OUT else _ZSTD_FEED
        for chunk in self._feed():
            for start in range(0, len(chunk), feed):
                out = decoder.decompress(chunk[start : start + feed])
                # In pieces: a flow keeps so many bytes behind the last one that it was given.
                for piece in range(0, len(out), _OUT):
                    yield out[piece : piece + _OUT]
                if decoder.eof:
                    self._ended(chunk, decoder.unused_data + chunk[start + feed :])
                    return

    def _seven(self) -> Iterator[bytes]:
        decoder: lzma.LZMADecompressor | bz2.BZ2Decompressor | lz4.frame.LZ4FrameDecompressor
        if self._codec is XZ:
            decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, 256 << 20)
        else:
            decoder = bz2.BZ2Decompressor() if self._codec is BZ2 else lz4.frame.LZ4FrameDecompressor()
        for chunk in self._feed():
            data = chunk
            while not decoder.eof:
                out = decoder.decompress(data, _OUT)
                data = b""
                if out:
                    yield out
                if decoder.needs_input:
                    break
            if decoder.eof:
                self._ended(chunk, decoder.unused_data or b"")
                return
