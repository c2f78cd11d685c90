"""What s3 and gs call the few things that a run needs of an object store, on top of fsspec.

Of all that fsspec opens these two have a put that succeeds only where there is no object yet (S3: `If-None-Match: *`;
Google: `ifGenerationMatch=0`), on which every commit rests. So a run is kept nowhere else.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline.errors import RecipeError
from pipeline.storage.address import family, filesystem, protocol_of
from pipeline.storage.patience import Passing, insist, missing, status
from pipeline.storage.remote import Remote

PROTOCOLS = ("s3", "gs")
DIGEST = "xxh3-128"
"""Of the user metadata of an object: the digest of its contents."""
FOOTER = 64 << 10
CHUNK = 64 << 20
"""Bytes of a part of a large upload."""


class Object(NamedTuple):
    """What a store says of an object."""

    size: int
    tag: str
    """Its ETag: another one after each write of other contents."""
    digest: str | None = None
    """As it was put; None where it was not asked for, or the object was put by others."""


def check(address: str) -> None:
    """Raises RecipeError where no run can be kept at an address."""
    protocol = protocol_of(address)
    name = family(protocol or "")
    if name not in PROTOCOLS or "::" in address:
        raise RecipeError(
            f"{address}: a run cannot be kept at {protocol}://, which has no put that fails where a file is already "
            "(two workers could not tell whose part counts). Give a folder, or an address at "
            f"{' or '.join(f'{name}://' for name in PROTOCOLS)}."
        )
    bucket, _, rest = address.partition("://")[2].partition("/")
    if not bucket or not rest.strip("/"):
        raise RecipeError(f"{address}: name a folder in a bucket, such as {protocol}://{bucket or 'bucket'}/run")
    filesystem(address)


class Objects:
    """The objects below an address, by their names there. Raises Unavailable."""

    def __init__(self, address: str) -> None:
        check(address)
        self.address = address.rstrip("/")
        self._s3 = family(protocol_of(address) or "") == "s3"
        self.root = self.address.partition("://")[2]
        self.bucket, _, self.prefix = self.root.partition("/")

    @property
    def _fs(self) -> Any:
        return filesystem(self.address)  # which keeps one for a process: they do not live through forks

    def at(self, name: str) -> str:
        """The address of an object."""
        return f"{self.address}/{name}"

    def look(self, name: str) -> Object | None:
        """What the store says of an object; None where there is none."""

        def ask() -> Object | None:
            try:
                return self._look(name)
            except Exception as error:
                if missing(error):
                    return None
                raise

        return insist(ask, self.at(name))

    def _look(self, name: str) -> Object:
        if self._s3:
            found = self._fs.call_s3("head_object", Bucket=self.bucket, Key=f"{self.prefix}/{name}")
            return Object(found["ContentLength"], _bare(found["ETag"]), found.get("Metadata", {}).get(DIGEST))
        found = self._fs.info(f"{self.root}/{name}")
        if found["type"] != "file":
            raise FileNotFoundError(name)
        return Object(int(found["size"]), _tag(found), (found.get("metadata") or {}).get(DIGEST))

    def list(self, folder: str) -> dict[str, Object]:
        """All objects below a folder, by name."""

        def ask() -> dict[str, Any]:
            return dict(self._fs.find(f"{self.root}/{folder}".rstrip("/"), detail=True))

        try:
            found = insist(ask, self.at(folder))
        except FileNotFoundError:
            return {}
        start = len(self.root) + 1
        return {
            name[start:]: Object(int(info["size"]), _tag(info))
            for name, info in sorted(found.items())
            if info.get("type") != "directory" and name.startswith(f"{self.root}/{folder}")
        }

    def holds_other_than(self, folder: str) -> bool:
        """Whether something lies at the address outside of this folder."""

        def ask() -> bool:
            try:
                entries = self._fs.ls(self.root, detail=False)
            except FileNotFoundError:
                return False
            return any(str(one).rstrip("/") not in (self.root, f"{self.root}/{folder}") for one in entries)

        return insist(ask, self.address)

    def read(self, name: str) -> bytes:
        """The contents of an object. Raises FileNotFoundError."""

        def ask() -> bytes | None:
            try:
                return bytes(self._fs.cat_file(f"{self.root}/{name}"))
            except Exception as error:
                if missing(error):
                    return None
                raise

        data = insist(ask, self.at(name))
        if data is None:
            raise FileNotFoundError(self.at(name))
        return data

    def open(self, name: str) -> IO[bytes]:
        """An object as a file whose last 64 KB, and then what is asked for, are read."""
        return _Ranged(self.at(name))  # type: ignore[return-value]

    def fetch(self, name: str, path: Path) -> None:
        """Copies an object into a local file."""

        def get() -> None:
            self._fs.get_file(f"{self.root}/{name}", str(path))

        insist(get, self.at(name))

    def put(self, name: str, contents: bytes | Path, digest: str, *, replace: bool) -> bool:
        """Puts an object, whole or not at all; whether it was put: not where there is one and it is not to be replaced.

        Where an answer was lost on the way, the next try finds the object of the first, and it was not put.
        """
        more: dict[str, Any] = {"mode": "overwrite" if replace else "create", "chunksize": CHUNK}
        more |= {"Metadata": {DIGEST: digest}} if self._s3 else {"metadata": {DIGEST: digest}}
        where = f"{self.root}/{name}"

        def send() -> bool:
            try:
                if isinstance(contents, bytes):
                    self._fs.pipe_file(where, contents, **more)
                else:
                    self._fs.put_file(str(contents), where, **more)
            except Exception as error:
                if status(error) == 412 or isinstance(error, FileExistsError):
                    return False
                if status(error) == 409:
                    raise Passing("another put of the same object is under way") from error
                raise
            return True

        return insist(send, self.at(name), "written")

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""

        def drop() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(f"{self.root}/{name}")

        insist(drop, self.at(name), "removed")

    def abandon_uploads(self) -> int:
        """Drops large uploads that were never finished: nobody sees them, but the store keeps (and counts) them."""
        return insist(lambda: sum(1 for _ in self._abandoned()), self.address, "tidied") if self._s3 else 0

    def _abandoned(self) -> Iterator[str]:
        found = self._fs.call_s3("list_multipart_uploads", Bucket=self.bucket, Prefix=f"{self.prefix}/")
        for one in found.get("Uploads", []):
            self._fs.call_s3(
                "abort_multipart_upload", Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"]
            )  # fmt: skip
            yield one["Key"]


class _Ranged(io.RawIOBase):
    """A remote file by ranges, one request each: for footers of tables, which are read in two steps."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._file = Remote(address)
        self._place = 0
        self._start = max(0, self._file.size - FOOTER)
        self._end: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._file.size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        size = self._file.size - self._place if size < 0 else size
        if self._place >= self._start:
            if self._end is None:
                self._end = self._file.fetch(self._start, FOOTER)
            data = self._end[self._place - self._start :][:size]
        else:
            data = self._file.fetch(self._place, size)
        self._place += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


def _tag(info: dict[str, Any]) -> str:
    return _bare(str(info.get("ETag") or info.get("etag") or info.get("md5Hash")))


def _bare(tag: str) -> str:
    return tag.strip('"')
