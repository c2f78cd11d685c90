"""Files on their way out: put to any address, a local folder included, and compared with what lies there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.storage.address import family, filesystem, is_remote, local_path, protocol_of
from pipeline.storage.patience import Unavailable, insist
from pipeline.storage.remote import LARGEST_BLOCK, Remote, facts

PART_BYTES = 64 << 20
"""Size of the parts in which a large file is sent. S3's digest of such a file depends on it."""
_MOST_PARTS = 10_000


class Place:
    """A folder of a store, or of this disk, that files are put into."""

    def __init__(self, address: str) -> None:
        self.address = (address if is_remote(address) else local_path(address)).rstrip("/")
        self._remote = is_remote(address)
        self._fs = filesystem(address) if self._remote else _local()

    def at(self, name: str) -> str:
        """The address of a file in it."""
        return f"{self.address}/{name}"

    def put(self, path: Path, name: str) -> None:
        """Sends a file. Raises Unavailable, also where it then is not what was sent."""
        more: dict[str, Any] = {"chunksize": PART_BYTES} if family(protocol_of(self.address) or "") == "s3" else {}
        address = self.at(name)
        insist(lambda: self._fs.put_file(str(path), address, **more), address, "written")
        if not self.holds(path, name):
            raise Unavailable(address, "what lies there now is not what was sent", answered=True, doing="written")

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        address = self.at(name)
        try:
            insist(lambda: self._fs.rm_file(address), address, "removed")
        except Unavailable as error:
            if not error.missing:
                raise

    def size(self, name: str) -> int | None:
        """The size of a file, or None where there is none."""
        if not self._remote:
            path = Path(self.at(name))
            return path.stat().st_size if path.is_file() else None
        try:
            return facts(self.at(name), again=True).size
        except Unavailable as error:
            if error.missing:
                return None
            raise

    def holds(self, path: Path, name: str) -> bool:
        """Whether a file there equals a local one: by the digest that the store gives, else by reading it."""
        if self.size(name) != path.stat().st_size:
            return False
        if family(protocol_of(self.address) or "") == "s3":
            known = facts(self.at(name))
            if known.value == f"etag:{s3_digest(path)}":
                return True  # an encrypted file has a digest of another kind, and is read
        with path.open("rb") as file:
            return self.sha256(name) == hashlib.file_digest(file, "sha256").hexdigest()

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file there. Raises Unavailable, or OSError for one on this disk."""
        if not self._remote:
            with open(self.at(name), "rb") as local:
                return hashlib.file_digest(local, "sha256").hexdigest()
        digest = hashlib.sha256()
        with Remote(self.at(name)) as file:
            for start in range(0, file.size, LARGEST_BLOCK):
                digest.update(file.fetch(start, LARGEST_BLOCK))
        return digest.hexdigest()

    def read(self, name: str) -> bytes | None:
        """The contents of a small file there, or None where there is none."""
        size = self.size(name)
        if size is None:
            return None
        if not self._remote:
            return Path(self.at(name)).read_bytes()
        with Remote(self.at(name)) as file:
            return file.read(0, size)


def s3_digest(path: Path) -> str:
    """The ETag that S3 gives a file sent by `put`: its MD5, or the MD5 of its parts' MD5s and their number."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size < 2 * PART_BYTES:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        parts = []
        while data := file.read(PART_BYTES):
            parts.append(hashlib.md5(data, usedforsecurity=False).digest())
    if len(parts) > _MOST_PARTS:
        return ""
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _local() -> Any:
    import fsspec

    return fsspec.filesystem("file", auto_mkdir=True)
