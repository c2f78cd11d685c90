"""A corpus at an address, such as `s3://bucket/corpus`: tokens by blocks, all else by whole files, checked.

`corpus.json` is read at each start. An index or a table comes whole, when it is first asked for, and its digest is
compared; so does the tokenizer's file, but `corpus.json` has no digest of it. Token files come in blocks (see
`block_cache`); the digest of one is compared once all of it is here. All lies in one folder of this machine, which many
runs may share.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pipeline.aside import write_whole
from pipeline.errors import DamageError, UserError
from pipeline.shards import MIXTURE_FILE, Corpus, Shard, lacks_tokenizer
from pipeline.storage.address import filesystem, is_remote, local_path, problem
from pipeline.storage.patience import Passing, Unavailable, insist
from trainer.block_cache import BlockCache, File
from trainer.data_settings import CacheConfig

_VALIDATORS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")

_UNUSED = 30 * 86_400.0  # seconds


def opened(place: str | Path, cache: CacheConfig | None = None) -> Corpus:
    """The corpus in a folder, or at an address. Raises UserError where there is none, or it cannot be had."""
    if not is_remote(str(place)):
        return Corpus.open(local_path(str(place)) if isinstance(place, str) else place)
    address = str(place).rstrip("/")
    if why := problem(address):
        raise UserError(f"data.corpus: {why}")
    settings = cache or CacheConfig()
    folder = settings.folder or _home()
    data = _whole(f"{address}/corpus.json")
    own = folder / "corpora" / hashlib.sha256(address.encode() + b"\0" + data).hexdigest()[:32]
    try:
        (own / "shards").mkdir(parents=True, exist_ok=True)
        write_whole(own / "corpus.json", data)
    except OSError as error:
        raise UserError(f"data.cache.folder: {folder} cannot be written to: {error.strerror}") from error
    _remove_unused(folder / "corpora")
    blocks = BlockCache(folder, int(settings.gigabytes * 1e9), settings.block_kilobytes << 10, settings.threads)
    return replace(RemoteCorpus.open(own), address=address, blocks=blocks)


def _remove_unused(corpora: Path) -> None:
    """Removes what came whole of corpora that nobody opened for a month; whoever still reads one fetches it again."""
    for folder in corpora.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _UNUSED:  # `corpus.json` is put there anew at each opening
                shutil.rmtree(folder)


def _home() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "corpusmill" / "blocks"


@dataclass(frozen=True)
class RemoteCorpus(Corpus):
    """A corpus at an address; `folder` holds what came of it whole."""

    address: str = ""
    blocks: BlockCache | None = None

    @classmethod
    def open(cls, folder: str | Path) -> RemoteCorpus:
        return cast(RemoteCorpus, super().open(folder))

    def _check_sizes(self) -> None:
        """Nothing: each file is checked when it comes."""
        _ = self.dtype, self.vocabulary, self.special, self.boundary, self.layout, self.splits

    def mixture(self) -> dict[str, Any]:
        path = self.folder / MIXTURE_FILE
        if not path.exists():
            write_whole(path, _whole(f"{self.address}/{MIXTURE_FILE}"))
        return super().mixture()

    def tokenizer_file(self) -> Path | None:
        name = str(self.meta["tokenizer"].get("file") or "")
        path = self.folder / name
        if name and not path.exists():
            try:
                data = _whole(f"{self.address}/{name}")
            except Unavailable as error:
                if error.missing:
                    raise lacks_tokenizer(self.address, name) from error
                raise
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            except OSError as error:
                raise UserError(f"data.cache.folder: {path} cannot be written: {error.strerror}") from error
        return path if name else None

    def shards(self, split: str) -> list[Shard]:
        return [
            _RemoteShard(**vars(shard), address=self.address, folder=self.folder) for shard in super().shards(split)
        ]

    def stop(self) -> None:
        """Fetches no more blocks in advance."""
        if self.blocks is not None:
            self.blocks.close()

    def tokens(self, shard: Shard) -> npt.NDArray[Any]:
        """All tokens of a shard (tokens,), which are fetched as they are sliced."""
        assert self.blocks is not None
        assert isinstance(shard, _RemoteShard)
        return cast("npt.NDArray[Any]", RemoteTokens(shard, self.dtype, self.blocks))


@dataclass(frozen=True)
class _RemoteShard(Shard):
    address: str = ""
    folder: Path = Path()

    def at(self, ending: str) -> str:
        """The address of one of its files."""
        return f"{self.address}/{super().path(ending).relative_to(self.folder)}"

    def path(self, ending: str) -> Path:
        path = super().path(ending)
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with (path.parent / f".{path.name}.lock").open("a") as lock:  # each rank of a run asks for it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                data, facts = _whole(self.at(ending)), self.files[ending]
                if len(data) != facts["bytes"] or hashlib.sha256(data).hexdigest() != facts["sha256"]:
                    raise DamageError(
                        f"{self.at(ending)} is not the file that corpus.json describes ({len(data)} bytes, "
                        f"{facts['bytes']} were written); `corpusmill verify {self.address}` says more"
                    )
                try:
                    write_whole(path, data)
                except OSError as error:
                    raise UserError(f"data.cache.folder: {path} cannot be written: {error.strerror}") from error
        return path


class RemoteTokens:
    """The tokens of a remote shard: an array as far as length and slices go."""

    def __init__(self, shard: _RemoteShard, dtype: np.dtype[Any], blocks: BlockCache) -> None:
        self.dtype, self.blocks = dtype, blocks
        self._tokens = shard.tokens
        size = int(shard.files[".bin"]["bytes"])
        self.file = File(shard.at(".bin"), shard.digest, size, _reader(shard.at(".bin"), size))

    def __len__(self) -> int:
        return self._tokens

    def __getitem__(self, chosen: slice) -> npt.NDArray[Any]:
        start, end, step = chosen.indices(self._tokens)
        if start >= end:
            return np.zeros(0, self.dtype)
        size = self.dtype.itemsize
        return np.frombuffer(self.blocks.read(self.file, start * size, end * size), self.dtype)[::step]

    def expect(self, start: int, end: int) -> bool:
        """Begins to fetch tokens that will be asked for; False where there is no room for more."""
        size = self.dtype.itemsize
        return self.blocks.expect(self.file, start * size, min(end, self._tokens) * size)


class Sparse:
    """Memory as large as a shard, of which only the pages that are written to exist."""

    def __init__(self, tokens: RemoteTokens) -> None:
        self._tokens = tokens
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._memory = mmap.mmap(-1, tokens.file.size, flags=flags)
        self.array: npt.NDArray[Any] = np.frombuffer(self._memory, tokens.dtype)

    def fill(self, start: int, end: int) -> None:
        """Puts the tokens from `start` to before `end` in their places."""
        self.array[start:end] = self._tokens[start:end]

    def expect(self, start: int, end: int) -> bool:
        """As of the tokens."""
        return self._tokens.expect(start, end)

    def clear(self) -> None:
        """Gives the pages back."""
        self._memory.madvise(mmap.MADV_DONTNEED)


def _whole(address: str) -> bytes:
    def read() -> bytes:
        fs = filesystem(address)
        fs.invalidate_cache()
        return bytes(fs.cat_file(address))

    return insist(read, address)


def _reader(address: str, size: int) -> Callable[[int, int], bytes]:
    """What reads ranges of a remote file, which must stay as it is when it is first read."""
    known: list[tuple[int, str]] = []

    def looks() -> tuple[int, str]:
        fs = filesystem(address)
        fs.invalidate_cache()
        info = fs.info(address)
        return int(info["size"] or 0), str(next((info[name] for name in _VALIDATORS if info.get(name)), ""))

    def check() -> None:
        now = insist(looks, address)
        if now[0] != size:
            raise DamageError(f"{address} holds {now[0]} bytes, corpus.json says {size} bytes")
        if known and now != known[0]:
            raise DamageError(
                f"{address} was changed while it was read; a corpus must stay as it is. Start again once it does"
            )
        known.append(now)
        del known[1:]

    def fetch(start: int, end: int) -> bytes:
        def read() -> bytes:
            data = bytes(filesystem(address).cat_file(address, start=start, end=end))
            if len(data) != end - start:
                check()  # cut short, or is the file?
                raise Passing(f"{len(data)} of {end - start} bytes came")
            return data

        if not known:
            check()
        data = insist(read, address)
        check()  # afterwards: what was read between two equal looks is of one file
        return data

    return fetch
