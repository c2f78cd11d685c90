"""Blocks of remote files on this disk: fetched ahead by a few threads, shared by processes, bounded in bytes.

    blocks/ab/abcdef…-000012   a block and, behind it, its digest
    partly/…                   blocks that are being written, locked by who writes them
    lock, size                 the bytes of all blocks, counted before a block appears

A block is called by the digest of its file in `corpus.json`, so it is never stale and whoever reads that file may use
it. It is written aside and renamed: a killed process leaves what the next one removes. When room is needed, the blocks
that were not read for the longest time go first, and of those that this process is going to read none.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from pipeline.errors import DamageError, UserError

_DIGEST = 8  # bytes
_ROOM = 0.9  # of the bound, to which it is emptied: a look at all files for each block would cost more than the block
_TOUCH = 30.0  # seconds between notes that a block was read


@dataclass(frozen=True)
class File:
    """A file of which blocks are kept."""

    name: str
    """For messages: its address."""
    digest: str
    """Its SHA-256."""
    size: int
    fetch: Callable[[int, int], bytes]
    """Reads from one byte to before another; raises where they cannot be had or the file is not what it was."""


Block = tuple[File, int]


class BlockCache:
    """The blocks in a folder. For many threads; a process that was forked begins with none in memory."""

    def __init__(self, folder: Path, most: int, block_bytes: int, threads: int) -> None:
        """Holds at most so many bytes in blocks of so many. Raises UserError where the folder cannot be used."""
        self.folder, self.most, self.block_bytes = folder, most, block_bytes
        self._blocks = str(folder / "blocks")  # a path would take longer to put together than a block to read
        self._threads = threads
        self._process = 0
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._coming: dict[str, Future[bytes]] = {}
        self._wanted: set[str] = set()
        self._whole: set[str] = set()
        """Those on disk whose digest this process has compared, or written."""
        self._touched: dict[str, float] = {}
        self._here: dict[str, int] = {}
        """By a file's digest: so many of its first blocks were on disk."""
        self._compared: set[str] = set()
        """The digests of files that were found whole."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="blocks")
        try:
            for name in ("blocks", "partly"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            for path in (self.folder / "partly").iterdir():
                _remove_unlocked(path)
        except OSError as error:
            raise UserError(f"data.cache.folder: {self.folder} cannot be used: {error.strerror}") from error

    def __getstate__(self) -> dict[str, object]:
        """For another process, which begins anew."""
        return {"folder": self.folder, "most": self.most, "block_bytes": self.block_bytes, "threads": self._threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def close(self) -> None:
        """Ends what is still to be fetched; whoever reads on begins anew."""
        if self._process == os.getpid():
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._process = 0

    def read(self, file: File, start: int, end: int) -> bytes:
        """The bytes of a file from `start` to before `end`, fetched where they are not here.

        Raises UserError where there is no room, DamageError where the file is not the one of this digest, and what
        `fetch` raises.
        """
        self._own()
        size = self.block_bytes
        return b"".join(
            self._part((file, number), max(0, start - number * size), min(size, end - number * size))
            for number in range(start // size, -(-end // size))
        )

    def expect(self, file: File, start: int, end: int) -> bool:
        """Begins to fetch what `read` will be asked for; False where that would take more than half of the room."""
        self._own()
        for number in range(start // self.block_bytes, -(-end // self.block_bytes)):
            block = file, number
            name = self._name(block)
            with self._lock:
                if (len(self._wanted) + 1) * self.block_bytes > self.most / 2:
                    return False
                self._wanted.add(name)
            if name not in self._whole:
                self._start(block)
        return True

    def _own(self) -> None:
        if self._process != os.getpid():
            self._begin()

    def _name(self, block: Block) -> str:
        return f"{block[0].digest[:2]}/{block[0].digest[:40]}-{self.block_bytes}-{block[1]:06d}"

    def _start(self, block: Block) -> Future[bytes] | None:
        """Fetches a block in the background, once; None where it is here."""
        name = self._name(block)
        with self._lock:
            coming = self._coming.get(name)
            if coming is None:
                if os.path.exists(f"{self._blocks}/{name}"):
                    return None
                coming = self._coming[name] = self._pool.submit(self._fetch, block)
            return coming

    def _part(self, block: Block, start: int, end: int) -> bytes:
        """The bytes of a block from `start` to before `end`."""
        name = self._name(block)
        path = f"{self._blocks}/{name}"
        while True:
            if name in self._whole:
                with suppress(OSError):
                    data = _range(path, start, end)
                    if len(data) == end - start:
                        break
                self._whole.discard(name)  # gone meanwhile
            coming = self._start(block)
            fetched = coming.result() if coming is not None else self._from_disk(block)
            if fetched is not None:
                self._whole.add(name)
                data = fetched[start:end]
                break
        with self._lock:
            self._wanted.discard(name)
        now = time.monotonic()
        if now - self._touched.get(name, -_TOUCH) >= _TOUCH:
            self._touched[name] = now
            with suppress(OSError):
                os.utime(path)
        return data

    def _from_disk(self, block: Block) -> bytes | None:
        """A block of this disk; None where there is none, or not a whole one."""
        path = self.folder / "blocks" / self._name(block)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        whole, digest = data[:-_DIGEST], data[-_DIGEST:]
        if len(whole) != self._size(block) or xxhash.xxh3_64_digest(whole) != digest:
            _remove(path)  # cut off by a power cut, or damaged since
            return None
        return whole

    def _size(self, block: Block) -> int:
        return min(self.block_bytes, block[0].size - block[1] * self.block_bytes)

    def _fetch(self, block: Block) -> bytes:
        """Runs in the pool: the block, which is then on disk as well."""
        file, number = block
        name = self._name(block)
        try:
            begin = number * self.block_bytes
            data = file.fetch(begin, begin + self._size(block))
            try:
                self._store(name, data)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise UserError(
                        f"no room for blocks of {file.name} in {self.folder}, where data.cache.gigabytes allows "
                        f"{self.most / 1e9:g} GB; free some, allow fewer, or set data.cache.folder to another disk"
                    ) from error
                raise UserError(f"data.cache.folder: {self.folder} cannot be written to: {error.strerror}") from error
            self._check_whole(block)
            return data
        finally:
            with self._lock:
                self._coming.pop(name, None)

    def _store(self, name: str, data: bytes) -> None:
        path = self.folder / "blocks" / name
        path.parent.mkdir(exist_ok=True)
        aside = self.folder / "partly" / f"{os.getpid()}-{uuid.uuid4().hex}"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with os.fdopen(os.dup(handle), "wb") as out:
                out.write(data)
                out.write(xxhash.xxh3_64_digest(data))
            with self._counted() as add:
                if not path.exists():
                    add(len(data) + _DIGEST)  # first, for a kill in between may leave it too high only
                with suppress(FileNotFoundError):  # taken for left behind, before it was locked: fetched again
                    os.replace(aside, path)
        finally:
            os.close(handle)
            aside.unlink(missing_ok=True)

    @contextmanager
    def _counted(self) -> Iterator[Callable[[int], None]]:
        """Alone among all processes: what adds bytes to the count, and makes room where they are too many."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

            def add(more: int) -> None:
                counted = self.folder / "size"
                try:
                    total = int(counted.read_text())
                except (OSError, ValueError):
                    total = self.most  # not known: the files are looked at
                total += more
                if total > self.most:
                    total = self._make_room(more) + more
                counted.write_text(str(total))

            yield add

    def _make_room(self, more: int) -> int:
        """Removes the blocks that were not read for the longest time; the bytes of those that stay."""
        found = []
        for path in (self.folder / "blocks").glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        if total + more <= self.most:
            return total
        with self._lock:
            wanted = set(self._wanted)
        for _, size, path in sorted(found):
            if total + more <= self.most * _ROOM:
                break
            if f"{path.parent.name}/{path.name}" not in wanted:
                path.unlink(missing_ok=True)
                total -= size
        return total

    def _check_whole(self, block: Block) -> None:
        """Compares the digest of a file, once, when all of its blocks are here, whoever fetched them. A file for which
        the cache has no room is never compared: of one that was replaced, only the size is looked at."""
        file, _ = block
        many, here = -(-file.size // self.block_bytes), self._here.get(file.digest, 0)
        while here < many and os.path.exists(f"{self._blocks}/{self._name((file, here))}"):
            here += 1
        self._here[file.digest] = here
        if here < many or file.digest in self._compared:
            return
        digest = hashlib.sha256()
        for one in range(many):
            data = self._from_disk((file, one))
            if data is None:  # gone meanwhile
                self._here[file.digest] = one
                return
            digest.update(data)
        if digest.hexdigest() != file.digest:
            self._here[file.digest] = 0
            for one in range(many):
                _remove(self.folder / "blocks" / self._name((file, one)))
            raise DamageError(
                f"{file.name} is not the file that corpus.json describes (SHA-256 {digest.hexdigest()[:12]}… instead "
                f"of {file.digest[:12]}…); `corpusmill verify` of the corpus says more"
            )
        self._compared.add(file.digest)


def _range(path: str, start: int, end: int) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.pread(handle, end - start, start)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"data.cache.folder: {path} is damaged and cannot be removed: {error.strerror}; have it removed by its "
            "owner, or name another folder"
        ) from error


def _remove_unlocked(path: Path) -> None:
    """Removes what a killed process left; what one that lives is writing is locked."""
    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
