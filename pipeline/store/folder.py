"""A run folder on this machine: files are written aside, synced, and renamed into place."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import xxhash

from pipeline.aside import sync, write_durably, write_whole
from pipeline.lock import FolderLock
from pipeline.store.base import Look, Put, Store


def file_digest(path: Path, start: int = 0, end: int | None = None) -> str:
    """The 128-bit xxHash3 of (a range of) a file, read in pieces of 4 MB."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        file.seek(start)
        left = (end - start) if end is not None else None
        while data := file.read(min(4 << 20, left) if left is not None else 4 << 20):
            digest.update(data)
            if left is not None:
                left -= len(data)
    return digest.hexdigest()


class FolderStore(Store):
    """A folder of this machine, or of a file system that it has mounted."""

    distant = False

    def __init__(self, folder: Path, scratch: Path | None = None) -> None:
        """`scratch`: where files are written aside, of a folder that is no run's."""
        self.folder = folder
        self.scratch = scratch or folder / "ledger" / "attempts"
        self.desks = folder / "ledger" / "runs"

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        path = self._parented(name)
        if durable:
            write_durably(path, data, self.scratch)
            return
        write_whole(path, data)

    def create(self, name: str, data: bytes) -> bool:
        path = self._parented(name)
        temporary = self.scratch / f"{path.name}.{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(data)
            sync(temporary)
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)
        return True

    def _parented(self, name: str) -> Path:
        path = self.folder / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync(path.parent.parent)
        return path

    def names(self, prefix: str) -> list[str]:
        return sorted(_below(str(self.folder), prefix.rstrip("/")))

    def looks(self, prefix: str) -> dict[str, Look]:
        found = ((name, self.look(name)) for name in self.names(prefix))
        return {name: look for name, look in found if look is not None}

    def look(self, name: str) -> Look | None:
        try:
            stat = (self.folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Look(stat.st_size, (stat.st_mtime_ns, stat.st_ino))

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def digest(self, name: str) -> str:
        return file_digest(self.folder / name)

    def delete(self, *names: str) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        return self.folder / name

    def source(self, name: str) -> Path:
        return self.folder / name

    def place(self, files: Sequence[Put]) -> list[Look]:
        found = []
        for file in files:
            final = self.folder / file.name
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file.path, final)
            stat = final.stat()
            found.append(Look(stat.st_size, (stat.st_mtime_ns, stat.st_ino)))
        for folder in {(self.folder / file.name).parent for file in files}:
            sync(folder)
        return found

    def lock(self, waiting: Callable[[str], None]) -> FolderLock:
        return FolderLock(self.folder / "ledger")

    def prepare(self, folders: Iterable[str]) -> None:
        ledger = self.folder / "ledger"
        for folder in (ledger / "rows", *(self.folder / name for name in folders)):
            folder.mkdir(exist_ok=True)
        sync(ledger)
        sync(self.folder)

    def refusal(self) -> str | None:
        if self.folder.exists() and not self.folder.is_dir():
            return f"{self.folder} is a file"
        if self.folder.is_dir() and any(path.name != "ledger" for path in self.folder.iterdir()):
            return f"{self.folder} is not empty and holds no run"
        return None

    def why_no_run(self) -> str:
        if not self.folder.is_dir():
            return "it is a file" if self.folder.exists() else "there is no such folder"
        if any((self.folder / name).exists() for name in ("corpus.json", "published.json")):
            return (
                "it holds a corpus, but no ledger of the run that made it. `corpusmill card`, `head`, `verify`, `sql` "
                "and `browse` read a corpus; this is to be asked of the run's own folder"
            )
        return "it has no ledger/run.json"

    def settle(self) -> None:
        os.sync()

    def done(self) -> None:
        """Its own files are used in place; but an index at an address keeps copies for the run of a folder too."""
        from pipeline.store import cache  # which needs this module

        cache.release(self)

    def keep_logs(self, desk: Path) -> None:
        """Nothing: desks lie in the run folder."""

    def tidy(self) -> None:
        for path in self.scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _below(root: str, name: str) -> Iterator[str]:
    """The names of all files below a folder, out of order."""
    try:
        entries = list(os.scandir(os.path.join(root, name)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        inside = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            yield from _below(root, inside)
        else:
            yield inside
