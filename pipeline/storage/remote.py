"""A remote file: what its store says of it, and its bytes by position."""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import xxhash

from pipeline.errors import UserError
from pipeline.ledger import digest_of
from pipeline.storage.address import family, filesystem, protocol_of
from pipeline.storage.patience import Passing, Unavailable, insist, may_pass

FIRST_BLOCK = 256 << 10
"""Bytes of the first request; `trace` needs no more for one record. Reading on, the next ones double."""
LARGEST_BLOCK = 8 << 20
"""Bytes of a request at most: object stores answer in tens of milliseconds, so smaller ones would mostly wait.
At most three are held: the one before, which members reach back into, the present one, and the next one."""
AT_ONCE = 16
"""Files that are asked about at once."""


@dataclass(frozen=True)
class Facts:
    """What a store says of a file without sending it."""

    size: int
    kind: str
    """What `value` is: `content` (a digest of the contents), `etag`, `changed` (a date), or `none`."""
    value: str = ""

    def looks(self) -> list[Any]:
        """As JSON: how the file looks from outside. Equal looks are taken to mean an unchanged file."""
        return [self.size, self.kind, self.value]


_known: dict[str, Facts | Unavailable] = {}
"""What this process has been told already, refusals included: asking again costs requests, and waits."""


def facts(address: str, *, again: bool = False) -> Facts:
    """What the store says of a file; with `again` it is asked again. Raises Unavailable."""
    if again or address not in _known:
        fs = filesystem(address)

        def ask() -> Any:
            fs.invalidate_cache()
            return fs.info(address)

        try:
            _known[address] = _facts(insist(ask, address), address)
        except Unavailable as error:
            _known[address] = error
    found = _known[address]
    if isinstance(found, Unavailable):
        raise found
    return found


def forget() -> None:
    """Drops what was told of all files, for a run that begins."""
    _known.clear()


def facts_of_all(addresses: Iterable[str], told: Callable[[int], None] = lambda number: None) -> dict[str, Facts]:
    """`facts` of many files, several at once; those that are unavailable are left out. `told` is given progress."""
    wanted = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = {}
        for number, (address, result) in enumerate(zip(wanted, pool.map(_or_none, wanted), strict=True), 1):
            if result is not None:
                found[address] = result
            told(number)
    return found


def _or_none(address: str) -> Facts | None:
    try:
        return facts(address)
    except Unavailable:
        return None


def listing(pattern: str) -> list[str]:
    """The addresses of the files that a remote glob matches, sorted. Raises Unavailable.

    Folder by folder, since fsspec's own glob passes over folders that it could not list.
    """
    root, _, rest = pattern.rpartition("/")
    while has_magic(root):
        root, _, last = root.rpartition("/")
        rest = f"{last}/{rest}"
    return sorted(set(_matching(root, rest.split("/"))))


def _matching(folder: str, parts: list[str]) -> Iterator[str]:
    """Files below a folder whose path matches the parts of a glob; `**` stands for any number of folders."""
    first, *rest = parts
    if first == "**":
        yield from _matching(folder, rest or ["*"])
    for name, info in _entries(folder):
        address = f"{folder}/{name}"
        hidden = name.startswith(".") and not first.startswith(".")
        if hidden or not (first == "**" or fnmatch.fnmatchcase(name, first)):
            continue
        if info.get("type") == "directory":
            if deeper := parts if first == "**" else rest:
                yield from _matching(address, deeper)
        elif not rest and first != "**":
            if info.get("size") is not None:
                _known[address] = _facts(info, address)
            yield address


def _entries(folder: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and facts of what lies in a folder; nothing where there is no such folder."""
    fs = filesystem(folder)

    def ask() -> Any:
        fs.invalidate_cache()
        try:
            return fs.ls(folder, detail=True)
        except FileNotFoundError as error:
            if may_pass(error):
                raise
            return []

    entries = [(str(info["name"]).rstrip("/").rpartition("/")[2], info) for info in insist(ask, folder)]
    return sorted(((name, info) for name, info in entries if name), key=lambda entry: entry[0])


def has_magic(address: str) -> bool:
    """Whether an address is a glob. In `https://` only `*` counts, since `?` begins a query."""
    return bool(re.search(r"\*" if family(protocol_of(address) or "") == "http" else r"[*?\[]", address))


def _facts(info: dict[str, Any], address: str) -> Facts:
    size = info.get("size")
    if size is None:
        raise Unavailable(address, "the server does not say how large it is; download it first", answered=True)
    name = family(protocol_of(address) or "")
    if name == "s3" and info.get("ETag"):
        return Facts(int(size), "content", f"etag:{str(info['ETag']).strip(chr(34))}")
    if name == "gs" and info.get("md5Hash"):
        return Facts(int(size), "content", f"md5:{info['md5Hash']}")
    if name == "hf" and info.get("blob_id"):
        lfs = info.get("lfs")
        return Facts(int(size), "content", f"sha:{lfs['sha256'] if lfs else info['blob_id']}")
    for key in ("ETag", "etag"):
        if info.get(key):
            return Facts(int(size), "etag", str(info[key]))
    for key in ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified"):
        if info.get(key):
            return Facts(int(size), "changed", str(info[key]))
    return Facts(int(size), "none")


def identity(address: str, known: Facts) -> str:
    """The 128-bit hex digest by which the ledger knows a file: see the docstring of this package."""
    if known.kind == "content":
        return digest_of(["remote", known.value, known.size])
    if known.kind != "none":
        return digest_of(["remote", address, *known.looks()])
    digest = xxhash.xxh3_128()
    with Remote(address) as file:
        for start in range(0, file.size, LARGEST_BLOCK):
            digest.update(file.fetch(start, LARGEST_BLOCK))
    return digest.hexdigest()


class Remote:
    """The bytes of a remote file. Not for several threads at once. Raises Unavailable, from every method."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.size = facts(address).size
        self._fs = filesystem(address)
        self._whole: IO[bytes] | None = None
        self._blocks: list[tuple[int, bytes]] = []
        self._step = FIRST_BLOCK
        self._pool: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[bytes]] | None = None

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is still under way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if self._whole is not None:
            self._whole.close()

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, fewer only at the end; read ahead where reading goes forward."""
        parts = []
        end = min(position + size, self.size)
        while position < end:
            start, block = self._block(position, end - position)
            part = block[position - start : end - start]
            parts.append(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, position: int, wanted: int) -> tuple[int, bytes]:
        for start, data in reversed(self._blocks):
            if start <= position < start + len(data):
                return start, data
        forward = bool(self._blocks) and position == self._blocks[-1][0] + len(self._blocks[-1][1])
        self._step = min(max(2 * self._step if forward else FIRST_BLOCK, wanted), LARGEST_BLOCK)
        if self._next is not None and self._next[0] == position:
            data = self._next[1].result()
        else:
            data = self.fetch(position, self._step)
        self._next = None
        self._blocks = [*self._blocks[-1:], (position, data)]
        end = position + len(data)
        if forward and end < self.size and self._whole is None:
            self._pool = self._pool or ThreadPoolExecutor(1, "read-ahead")
            self._next = (end, self._pool.submit(self.fetch, end, min(2 * self._step, LARGEST_BLOCK)))
        return self._blocks[-1]

    def fetch(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, fewer only at the end, in one request (or from the whole, if it had to be
        downloaded: not every server gives ranges)."""
        end = min(position + size, self.size)
        if end <= position:
            return b""
        if self._whole is None:
            try:
                return insist(lambda: self._range(position, end), self.address)
            except _NoRanges:
                self._whole = insist(self._download, self.address)
        self._whole.seek(position)
        return self._whole.read(end - position)

    def _range(self, start: int, end: int) -> bytes:
        if hasattr(self._fs, "set_session") and family(protocol_of(self.address) or "") == "http":
            from fsspec.asyn import sync

            data: bytes = sync(self._fs.loop, _http_range, self._fs, self.address, start, end)
        else:
            data = self._fs.cat_file(self.address, start=start, end=end)
        if len(data) != end - start:
            raise Passing(f"{len(data)} bytes came instead of {end - start}")
        return data

    def _download(self) -> IO[bytes]:
        """The whole file in a temporary one that has no name, so that nothing is left behind by a kill."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        try:
            self._fs.get_file(self.address, file)
            if file.tell() != self.size:
                raise Passing(f"{file.tell()} bytes came instead of {self.size}")
        except BaseException:
            file.close()
            raise
        return file


class _NoRanges(UserError):
    """The server sends the whole file whatever range is asked for."""


async def _http_range(fs: Any, url: str, start: int, end: int) -> bytes:
    """fsspec's own `cat_file` takes a whole file for a range where a server ignores the range."""
    session = await fs.set_session()
    settings = dict(fs.kwargs)
    headers = {**settings.pop("headers", {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    async with session.get(fs.encode_url(url), headers=headers, **settings) as response:
        response.raise_for_status()
        if response.status != 206 and (start or int(response.headers.get("Content-Length", -1)) != end):
            raise _NoRanges(url)
        data: bytes = await response.read()
        return data


def lines(data: bytes) -> Iterator[str]:
    """The lines of a text file, gzip or plain, without blank ones. Raises ValueError where it is neither."""
    import gzip
    import zlib

    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, OSError) as error:
            raise ValueError(f"it is gzip, and damaged: {error}") from error
    for line in data.decode("utf-8").splitlines():
        if line.strip():
            yield line.strip()
