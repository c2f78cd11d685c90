"""A run folder in an object store.

A put appears whole or not at all, and a part or a row is put only where there was none; so a unit is real with its row,
as in a folder, without a rename. Nothing of a run is ever written over but a few small files of its driver. Whatever
writes for a run holds the number of the run's lock (`fence`) and looks, before each write, whether a newer one is
there: what outlived its own run commits no more.

What is left: between that look and the write lies one request. A process that is held up just there for longer than
the lease can still put a row of its own unit, which speaks of parts that are there, or remove a file that its run no
longer needed and the new one claims; the next look at the rows finds that, and the unit is done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

import xxhash

from pipeline.errors import DamageError
from pipeline.storage.patience import Passing, insist
from pipeline.storage.remote import LARGEST_BLOCK, Remote, facts
from pipeline.store import cache, lease
from pipeline.store.base import Asked, Found, Look, Put, Store
from pipeline.store.protocols import DIGEST, Object, Objects

AT_ONCE = 16
"""Requests of one process at once."""
KEPT_LOGS = 5
"""Attempts whose logs stay."""
DESK_LOGS = ("log", "trace", "order.json")


class ObjectStore(Store):
    """A run in s3 or gs."""

    distant = True

    def __init__(
        self, address: str, fence: int | None = None, locks: str = lease.FOLDER, user: Store | None = None
    ) -> None:
        """`locks`: where its lock objects lie, of which `fence` is one. `user`: the store at whose `done` copies of
        this one go too."""
        self.objects = Objects(address)
        self.fence = fence
        self.locks = locks
        self._user = user or self
        own = cache.home() / "runs" / hashlib.sha256(self.objects.address.encode()).hexdigest()[:16]
        self.scratch = own / "attempts"
        self.desks = own / "desks"
        self._known: dict[str, Object] = {}
        """Committed files that were asked about: they do not change."""
        self._read: dict[str, tuple[str, bytes]] = {}
        """Small files that were read with others: tag, contents."""

    def __str__(self) -> str:
        return self.objects.address

    def read(self, name: str) -> bytes:
        return self.objects.read(name)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._check_fence()
        self.objects.put(name, data, xxhash.xxh3_128_hexdigest(data), replace=True)

    def create(self, name: str, data: bytes) -> bool:
        self._check_fence()
        return self.objects.put(name, data, xxhash.xxh3_128_hexdigest(data), replace=False)

    def names(self, prefix: str) -> list[str]:
        return list(self.objects.list(prefix))

    def looks(self, prefix: str) -> dict[str, Look]:
        return {name: Look(one.size, (one.tag,)) for name, one in self.objects.list(prefix).items()}

    def look(self, name: str) -> Look | None:
        found = self.objects.look(name)
        return None if found is None else Look(found.size, (found.tag,))

    def digest(self, name: str) -> str:
        digest = xxhash.xxh3_128()
        facts(self.objects.at(name), again=True)
        with Remote(self.objects.at(name)) as file:
            for start in range(0, file.size, LARGEST_BLOCK):
                digest.update(file.fetch(start, LARGEST_BLOCK))
        return digest.hexdigest()

    def delete(self, *names: str) -> None:
        for start in range(0, len(names), 8 * AT_ONCE):
            self._check_fence()
            some = names[start : start + 8 * AT_ONCE]
            self.each(self.objects.remove, some)
            for name in some:
                self._known.pop(name, None)

    def read_all(self, prefix: str) -> dict[str, bytes]:
        there = self.objects.list(prefix)
        new = [name for name, one in there.items() if self._read.get(name, ("",))[0] != one.tag]
        for name, data in zip(new, self.each(self._or_none, new), strict=True):
            if data is not None:
                self._read[name] = (there[name].tag, data)
        for name in [name for name in self._read if name.startswith(prefix) and name not in there]:
            del self._read[name]
        return {name: self._read[name][1] for name in there if name in self._read}

    def _or_none(self, name: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return self.objects.read(name)
        return None

    def file(self, name: str) -> Path:
        (path,) = self.files([name])
        return path

    def files(self, names: Iterable[str]) -> list[Path]:
        return self.each(self._copy, list(names))

    def each(self, ask: Callable[[Asked], Found], these: Sequence[Asked]) -> list[Found]:
        if len(these) < 2:
            return [ask(one) for one in these]
        with ThreadPoolExecutor(min(AT_ONCE, len(these))) as pool:
            return list(pool.map(ask, these))

    def source(self, name: str) -> IO[bytes]:
        return self.objects.open(name)

    def _copy(self, name: str) -> Path:
        known = self._known.get(name)
        if known is None:
            known = self.objects.look(name)
            if known is None:
                raise DamageError(f"{self.objects.at(name)} is missing; run again to have it made anew")
            if known.digest is None:
                raise DamageError(
                    f"{self.objects.at(name)} was not put by corpusmill, or copied without its metadata ({DIGEST}); "
                    "remove it and run again to have it made anew"
                )
            self._known[name] = known
        assert known.digest is not None
        digest, size, suffix = known.digest, known.size, PurePosixPath(name).suffix

        def fetch(path: Path) -> None:
            self.objects.fetch(name, path)

        def get() -> Path:
            try:
                return cache.of_process().get(digest, suffix, size, fetch, self._user)
            except cache.Damaged as error:
                raise Passing(str(error)) from error

        return insist(get, self.objects.at(name))

    def done(self) -> None:
        cache.release(self._user)

    def place(self, files: Sequence[Put]) -> list[Look]:
        return self.each(self._placed, files)

    def _placed(self, file: Put) -> Look:
        self._check_fence()
        self.objects.put(file.name, file.path, file.digest, replace=False)
        there = self.objects.look(file.name)
        if there is None or there.size != file.path.stat().st_size or there.digest != file.digest:
            raise DamageError(
                f"{self.objects.at(file.name)} lies where a part was to be put, with other contents: left behind by "
                "another run, or the run is not reproducible. Run again: what no row claims is removed first."
            )
        return Look(there.size, (there.tag,))

    def lock(self, waiting: Callable[[str], None]) -> lease.StoreLock:
        return lease.StoreLock(self.objects.address, self.locks, waiting)

    def settle(self) -> None:
        """Nothing: what was put is durable."""

    def prepare(self, folders: Iterable[str]) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)

    def refusal(self) -> str | None:
        if self.objects.holds_other_than("ledger"):
            return f"{self} is not empty and holds no run"
        return None

    def why_no_run(self) -> str:
        return "it has no ledger/run.json"

    def tidy(self) -> None:
        self.objects.abandon_uploads()
        cache.clear_of_dead(self.scratch)

    def keep_logs(self, desk: Path) -> None:
        logs = [(f"ledger/runs/{desk.name}/{name}", desk / name) for name in DESK_LOGS if (desk / name).exists()]
        for name, path in logs:
            self.write(name, path.read_bytes())
        there = self.names("ledger/runs/")
        kept = sorted({name.split("/")[2] for name in there})[-KEPT_LOGS:]
        self.delete(*(name for name in there if name.split("/")[2] not in kept))

    def _check_fence(self) -> None:
        if self.fence is not None:
            lease.check(self.objects, self.fence, self.locks)
