"""Files that users bring, opened: a list or a benchmark may come compressed, or as an archive of many."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator

import zstandard

_PACKED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz")


def opened(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in one file, unpacked, as (path, contents): itself, or the members of a tar archive in their order.

    What it is, its first bytes say; suffixes such as `.gz` are taken off the name. Raises ValueError where it is
    damaged.
    """
    try:
        data = _unpacked(data)
        if data[257:262] != b"ustar":
            yield bare(name), data
            return
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is not None:
                    yield bare(member.name), _unpacked(stream.read())
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise ValueError(f"{name} cannot be unpacked: {error}") from None


def bare(name: str) -> str:
    """The name without the suffixes of packing."""
    while name.endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def _unpacked(data: bytes) -> bytes:
    kind = next((kind for magic, kind in _PACKED.items() if data.startswith(magic)), None)
    if kind == "gz":
        return gzip.decompress(data)
    if kind == "bz2":
        return bz2.decompress(data)
    if kind == "xz":
        return lzma.decompress(data)
    if kind == "zst":
        return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    return data
