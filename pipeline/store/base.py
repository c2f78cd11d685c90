"""What a store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol, TypeVar

Found = TypeVar("Found")
Asked = TypeVar("Asked")


class Look(NamedTuple):
    """How a file looks from outside; equal looks are taken to mean an untouched file."""

    bytes: int
    mark: tuple[int | str, ...]
    """In a folder its modification time in ns and its inode, in an object store its ETag."""


class Put(NamedTuple):
    """A finished local file that is to become a file of the store."""

    path: Path
    name: str
    digest: str
    """That of `pipeline.store.folder.file_digest`."""


class Lock(Protocol):
    """The lock of a run, held until it is left."""

    @property
    def handles(self) -> tuple[int, ...]:
        """Descriptors that hold it, for children that work for the run."""

    @property
    def number(self) -> int | None:
        """The fence of those who work for the run."""

    def check(self) -> None:
        """Raises LockedError where it was lost."""

    def release(self) -> None:
        """Gives it back."""

    def __enter__(self) -> Lock: ...

    def __exit__(self, *error: object) -> None: ...


class Store(ABC):
    """The files of a run, by their names in the run folder (`ledger/run.json`). Raises Unavailable where a remote one
    cannot be had, FileNotFoundError where a file is not there."""

    distant: bool
    """Whether each question is a request: then many are asked at once, and answers are kept until `refresh`."""
    scratch: Path
    """Where attempts write, on this machine."""
    desks: Path
    """Where what is said of attempts lies (orders, logs), on this machine."""

    @abstractmethod
    def __str__(self) -> str:
        """How messages call it."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The contents of a small file."""

    @abstractmethod
    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Puts a small file, in place of one that is there: a reader sees either the old one or all of the new one.

        Not `durable`: a power cut may take it back until `settle`.
        """

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Puts a small file where there is none; whether that was so. Of several callers one is told so."""

    @abstractmethod
    def names(self, prefix: str) -> list[str]:
        """The names of all files below a folder (`ledger/rows/`), sorted."""

    @abstractmethod
    def looks(self, prefix: str) -> dict[str, Look]:
        """All files below a folder, by name."""

    @abstractmethod
    def look(self, name: str) -> Look | None:
        """How a file looks now; None where there is none."""

    @abstractmethod
    def digest(self, name: str) -> str:
        """The digest of a file's contents, which are read for it."""

    @abstractmethod
    def delete(self, *names: str) -> None:
        """Removes files, those that are there."""

    @abstractmethod
    def file(self, name: str) -> Path:
        """A committed file as a local one, which must not be written to: itself, or a copy that stays until `done`."""

    @abstractmethod
    def source(self, name: str) -> Path | IO[bytes]:
        """A committed file of which a little is to be read, such as a footer: a path, or a file of ranges, to be
        closed."""

    @abstractmethod
    def place(self, files: Sequence[Put]) -> list[Look]:
        """Puts local files where they belong, durably; the local ones may be gone afterwards.

        In an object store a file that is there is never replaced. Raises DamageError where it has other contents.
        """

    @abstractmethod
    def lock(self, waiting: Callable[[str], None]) -> Lock:
        """Takes the lock of the run; `waiting` is told where that takes a while. Raises LockedError where another run
        holds it."""

    @abstractmethod
    def prepare(self, folders: Iterable[str]) -> None:
        """Makes what a run needs, where it is not there yet."""

    @abstractmethod
    def refusal(self) -> str | None:
        """Why a new run cannot begin here, or None."""

    @abstractmethod
    def why_no_run(self) -> str:
        """Why no run is found here."""

    def read_all(self, prefix: str) -> dict[str, bytes]:
        """The contents of all small files below a folder, by name."""
        return {name: self.read(name) for name in self.names(prefix)}

    def files(self, names: Iterable[str]) -> list[Path]:
        """`file` of several."""
        return [self.file(name) for name in names]

    def each(self, ask: Callable[[Asked], Found], these: Sequence[Asked]) -> list[Found]:
        """What `ask` gives of each; where the store is distant, several are asked for at once."""
        return [ask(one) for one in these]

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.look(name) is not None

    @abstractmethod
    def settle(self) -> None:
        """Makes durable what was written otherwise."""

    @abstractmethod
    def done(self) -> None:
        """Says that this process needs no copy any longer that `file` gave it."""

    @abstractmethod
    def tidy(self) -> None:
        """Removes what killed attempts left. Only for the holder of the lock, while nobody works."""

    @abstractmethod
    def keep_logs(self, desk: Path) -> None:
        """Puts the logs of an attempt beside the run's other files, where they do not lie there anyway."""
