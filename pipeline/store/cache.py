"""Committed files of stores as files of this machine: fetched once, shared by all its processes, bounded.

A copy is called by the digest of its contents, so it is never stale and equal files are one. Whoever uses copies lists
them in a file of its own, which it holds locked as long as it lives; when room is needed, those that were not used for
the longest time go first, and of those that somebody lists none.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import RecipeError
from pipeline.store.folder import file_digest

DEFAULT_GB = 64.0
"""Of copies that are kept. Those in use stay, however many they are."""


class Damaged(Exception):
    """What was fetched has another digest than it should."""


def home() -> Path:
    """The folder for everything of stores that lies on this machine."""
    if given := os.environ.get("CORPUSMILL_SCRATCH"):
        return Path(given).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "corpusmill" / "stores"


def most_bytes() -> int:
    """Of copies that are kept: `CORPUSMILL_SCRATCH_GB`. Raises RecipeError where that is no number."""
    given = os.environ.get("CORPUSMILL_SCRATCH_GB", str(DEFAULT_GB))
    try:
        return int(float(given) * 1e9)
    except ValueError as error:
        raise RecipeError(f"CORPUSMILL_SCRATCH_GB={given}: give a number of gigabytes, such as 64") from error


class Cache:
    """The copies of this machine, as one process uses them. Not to be taken along through a fork."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or home()) / "files"
        self._users = self.folder.parent / "users"
        self._partly = self.folder.parent / "partly"
        self._size = self.folder.parent / "size"
        for one in (self.folder, self._users, self._partly):
            one.mkdir(parents=True, exist_ok=True)
        self._listed: dict[object, set[str]] = {}
        """By who uses them."""
        with self._locked():
            self._list = (self._users / f"{os.getpid()}-{uuid.uuid4().hex}").open("w")
            fcntl.flock(self._list, fcntl.LOCK_EX)
            self._used()
            for path in self._partly.iterdir():
                if _free(path):
                    path.unlink(missing_ok=True)

    def get(self, digest: str, suffix: str, size: int, fetch: Callable[[Path], None], owner: object = None) -> Path:
        """The copy of the file with this digest, fetched where there is none. It stays until its owner is `done`.

        `suffix` ends its name. Raises Damaged where what is fetched is another file, and whatever `fetch` raises.
        """
        name = f"{digest[:2]}/{digest}{suffix}"
        path = self.folder / name
        while not self._take(name, owner):
            with self._fetching(path) as temporary:
                if temporary is None:
                    continue  # another process had it meanwhile
                self._make_room(size)
                fetch(temporary)
                if (found := file_digest(temporary)) != digest:
                    raise Damaged(f"its digest is {found} instead of {digest}")
                temporary.chmod(0o444)
                path.parent.mkdir(exist_ok=True)
                with self._locked():
                    self._count(temporary.stat().st_size)  # first, for a kill in between may leave it too high only
                    os.replace(temporary, path)
        return path

    def has(self, digest: str, suffix: str) -> bool:
        """Whether there is a copy now; it may go at any moment."""
        return (self.folder / digest[:2] / f"{digest}{suffix}").exists()

    def done(self, owner: object = None) -> None:
        """None of the copies that this owner was given is needed any longer; others of this process may need some."""
        if owner in self._listed:
            with self._locked():
                del self._listed[owner]
                self._list.truncate(0)
                self._list.seek(0)
                self._list.writelines(f"{name}\n" for name in sorted(self._in_use()))
                self._list.flush()

    def _in_use(self) -> set[str]:
        return set().union(*self._listed.values())

    def close(self) -> None:
        """Ends the use."""
        Path(self._list.name).unlink(missing_ok=True)
        self._list.close()

    def _take(self, name: str, owner: object) -> bool:
        """Lists a copy as used, and says whether it is there; nobody makes room in between."""
        with self._locked():
            if name not in self._listed.setdefault(owner, set()):
                self._listed[owner].add(name)
                self._list.write(name + "\n")
                self._list.flush()
            try:
                os.utime(self.folder / name)
            except FileNotFoundError:
                return False
            return True

    @contextmanager
    def _fetching(self, path: Path) -> Iterator[Path | None]:
        """A file to fetch into, which nobody else does; None where the copy is there when that is so."""
        temporary = self._partly / path.name
        with temporary.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                # Whoever held it before has put it in its place, or failed and removed it.
                if path.exists() or not _same(file, temporary):
                    yield None
                else:
                    file.truncate(0)
                    yield temporary
            finally:
                if _same(file, temporary):
                    temporary.unlink(missing_ok=True)

    def _locked(self) -> AbstractContextManager[None]:
        return _alone(self.folder.parent / "lock")

    def _make_room(self, size: int) -> None:
        """Removes copies that nobody uses, until another of this size fits.

        The copies are listed only when their sum, which is kept beside them, passes the limit. Then a tenth more than
        needed is made free; or, where all that is left is in use, a tenth more may come before they are listed again.
        """
        with self._locked():
            most, counted = most_bytes(), self._counted()
            if counted is not None and counted[0] + size <= max(most, counted[1]):
                return
            there = []
            for path in self.folder.glob("*/*"):
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    there.append((stat.st_mtime_ns, stat.st_size, path))
            total = sum(one for _, one, _ in there)
            if total + size > most:
                used = self._used()
                for _, one, path in sorted(there):
                    if total + size <= most - most // 10:
                        break
                    if str(path.relative_to(self.folder)) not in used:
                        path.unlink(missing_ok=True)
                        total -= one
            self._note(total, total + size + most // 10 if total + size > most else 0)

    def _counted(self) -> tuple[int, int] | None:
        """The bytes of all copies, and how many may be there before they are listed, though that be above the limit;
        None where nobody knows."""
        try:
            total, until = map(int, self._size.read_text().split())
        except (FileNotFoundError, ValueError):
            return None
        return total, until

    def _count(self, size: int) -> None:
        if (counted := self._counted()) is not None:
            self._note(counted[0] + size, counted[1])

    def _note(self, total: int, until: int) -> None:
        self._size.write_text(f"{total} {until}")

    def _used(self) -> set[str]:
        """What living processes list. Lists of dead ones are removed."""
        used = self._in_use()
        for path in self._users.iterdir():
            if str(path) == self._list.name:
                continue
            with suppress(FileNotFoundError):
                if _free(path):
                    path.unlink()
                else:
                    used.update(path.read_text().split())
        return used


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While this lasts, no other thread of any process is at the same, by the lock on this file."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked meanwhile has it open too


def _free(path: Path) -> bool:
    """Whether nobody holds the lock on a file, as whoever made it does while they live."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # it is held, or another user's
        return False
    return True


def _same(file: IO[bytes], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


_caches: dict[tuple[int, Path], Cache] = {}


def of_process() -> Cache:
    """The copies as this process uses them."""
    key = (os.getpid(), home())
    if key not in _caches:
        made = Cache()
        if _caches.setdefault(key, made) is not made:
            made.close()  # another thread was quicker
    return _caches[key]


def release(owner: object) -> None:
    """None of the copies that this owner was given in this process is needed any longer."""
    if _caches and (found := _caches.get((os.getpid(), home()))) is not None:
        found.done(owner)


_HELD = "held"
"""In the folder of a process: the file that it keeps locked while it lives."""
_owned: dict[tuple[int, Path], tuple[Path, IO[str]]] = {}
"""The folders of this process, by where they lie, with what holds their locks."""


def clear_of_dead(parent: Path) -> None:
    """Removes the folders of processes that are no more, on whatever host or in whatever container they were."""
    if parent.exists():
        with _beside(parent):
            _clear(parent)


def own_folder(parent: Path) -> Path:
    """A new folder in that of this process in `parent`, out of which first the folders of dead processes are removed.

    The process is known to live by the lock that it holds: its number says nothing on another host, or in another
    container, that shares the disk.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _beside(parent):
        key = (os.getpid(), parent)
        if key not in _owned:
            _clear(parent)
            mine = parent / f"{os.getpid()}-{uuid.uuid4().hex}"
            mine.mkdir()
            held = (mine / _HELD).open("w")
            fcntl.flock(held, fcntl.LOCK_EX)
            _owned[key] = (mine, held)
        folder = _owned[key][0] / uuid.uuid4().hex
        folder.mkdir()
        return folder


def _beside(parent: Path) -> AbstractContextManager[None]:
    return _alone(parent.with_name(f"{parent.name}.lock"))


def _clear(parent: Path) -> None:
    mine = {folder for (pid, _), (folder, _) in _owned.items() if pid == os.getpid()}
    for path in parent.iterdir():
        if path not in mine and _free(path / _HELD):
            shutil.rmtree(path, ignore_errors=True)
