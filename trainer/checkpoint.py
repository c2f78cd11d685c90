"""Checkpoints: what a run needs to go on as if it had never stopped. Here is how they are read.

    step-00000010/rank-0.pt        tensors, or parts of them, and other values that process 0 wrote; and so on
    step-00000010/checkpoint.json  step, data history, configuration, corpus, digest of each file and of itself
    latest                         the name of the newest one
    best                           the name of the one with the least validation loss, where checkpoint.best is set

`trainer.checkpoint_writing` says in which order they are written, and why the one that `latest` names is always whole.
Reading one that is not falls back to the one before.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import DamageError, LockedError, UserError
from pipeline.settings import explain, listed
from pipeline.shards import Corpus, file_sha256
from trainer.config import TrainConfig
from trainer.history import History
from trainer.section import STORED

FORMAT = "corpusmill-checkpoint"
FORMAT_VERSION = 6
READABLE = {4, 5, 6}
"""In version 4, `state.pt` and `state-1.pt` and so on hold nested dictionaries of whole tensors. Up to version 5,
sentinels that a tokenizer lacks rose from its last id (`trainer.objectives.same_sentinels`)."""

ASIDE = ".writing-"
"""What the names of folders begin with in which checkpoints are written."""
LATEST, BEST = "latest", "best"


class CorpusFacts(BaseModel):
    """What a run must find again in a corpus to go on with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tokenizer: str
    """Digest of the tokenizer."""
    token_files: tuple[tuple[str, str], ...]
    """(shard, SHA-256 of its token file) of the training split, in order."""

    @classmethod
    def of(cls, corpus: Corpus, split: str) -> CorpusFacts:
        """The facts of an opened corpus."""
        files = tuple((shard.name, shard.digest) for shard in corpus.shards(split))
        return cls(name=str(corpus.meta["name"]), tokenizer=str(corpus.meta["tokenizer"]["digest"]), token_files=files)


class Meta(BaseModel):
    """`checkpoint.json`: all but the tensors. Reading it needs no torch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    step: int
    """Training steps done."""
    attempt: int
    data_step: int
    """The last data step read."""
    tokens: int
    """Targets that the weights have learned from."""
    history: History
    config: TrainConfig
    vocabulary: int
    """Of the model."""
    corpus: CorpusFacts
    threads: int
    """CPU threads of torch."""
    torch: str
    """Version."""
    processes: str = "1"
    """How the run was divided (`ParallelConfig.told`)."""
    validation_loss: float | None = None
    """Nats per token on the validation split, where it was measured behind this step."""
    files: dict[str, str] = {}
    """SHA-256 of each file of tensors."""


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(step: int) -> str:
    """The folder name of a checkpoint."""
    return f"step-{step:08d}"


def saved(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, newest first, whole or not."""
    return sorted(folder.glob("step-[0-9]*"), reverse=True)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run had not finished writing. Only the holder of the lock may call it."""
    for path in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(path, ignore_errors=True)


def named(folder: Path) -> Path:
    """The checkpoint that a path means: the one that a file `latest` or `best` names, else the path itself."""
    if folder.name in (LATEST, BEST) and folder.is_file():
        return folder.parent / _name_in(folder)
    return folder


def _name_in(pointer: Path) -> str:
    try:
        return pointer.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def read_meta(folder: Path, check_state: bool = False) -> Meta:
    """What the checkpoint in `folder` (a `step-...`) says of itself.

    Raises DamageError where it is not whole (its tensors are only looked at where `check_state`), UserError where
    another format version wrote it.
    """
    path = folder / "checkpoint.json"
    try:
        outer = json.loads(path.read_text("utf-8"))
        text = str(outer["meta"])
        if digest_of(text) != outer["digest"]:
            raise DamageError(f"{path} is damaged: its content does not match its digest")
        found = json.loads(text)
        if found.get("format") == FORMAT and found.get("format_version") not in READABLE:
            raise UserError(
                f"{folder} has format version {found.get('format_version')}; this corpusmill reads "
                f"{' and '.join(map(str, sorted(READABLE)))}. "
                "Train with the version that wrote it, or choose another checkpoint.folder."
            )
        meta = Meta.model_validate_json(text, context={STORED: True})
    except OSError as error:
        raise DamageError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UserError(listed(f"{folder}, which this version cannot read", explain(error, Meta))) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{path} is damaged: it is no readable checkpoint") from error
    if check_state:
        check(folder, meta)
    return meta


def check(folder: Path, meta: Meta, share: slice = slice(None)) -> None:
    """Raises DamageError where a file of tensors is not as it was written: of all, or of a share of them."""
    for name, digest in sorted(meta.files.items())[share]:
        state = folder / name
        if not state.exists() or file_sha256(state) != digest:
            raise DamageError(f"{state} is damaged: it is missing or does not match its digest")


def newest(folder: Path, say: Callable[[str], None], check_state: bool = False) -> tuple[Path, Meta] | None:
    """The checkpoint to go on from: the one that `latest` names, or the newest whole one; None where there is none.

    Says why where it falls back. Raises DamageError where checkpoints are there and none is whole.
    """
    return first_whole(folder, candidates(folder), lambda path: read_meta(path, check_state), say)


def candidates(folder: Path, first: int = 0, before: int | None = None) -> list[Path]:
    """The checkpoints in a folder, from a step on and of before another, in the order in which they are to be tried."""
    # One newer than `latest` is whole too where the run died between the two renames; the named one comes first
    # all the same, since only it was finished.
    latest = _name_in(folder / LATEST)
    found = [
        path
        for path in saved(folder)
        if path.name >= name_of(first) and (before is None or path.name < name_of(before))
    ]
    return sorted(found, key=lambda path: path.name != latest)


def first_whole(
    folder: Path, paths: list[Path], read: Callable[[Path], Meta], say: Callable[[str], None]
) -> tuple[Path, Meta] | None:
    """The first of the checkpoints that `read` raises no DamageError for; None where there are none to try."""
    faults = []
    for path in paths:
        try:
            return path, read(path)
        except DamageError as error:
            faults.append(str(error))
            say(f"{error}; falling back to the checkpoint before it")
    if not faults:
        return None
    raise DamageError(
        f"no checkpoint in {folder} is whole:\n  "
        + "\n  ".join(faults)
        + "\nMove the folder away to train from the beginning."
    )


def load_state(path: Path) -> dict[str, Any]:
    """What the checkpoint in `path` holds, nested, with whole tensors on the CPU. A tensor that was not divided is read
    from the disk where it is used."""
    from trainer.spread import Spread, mapped

    return mapped(load_parts(path), lambda x: x.whole() if isinstance(x, Spread) else x)  # type: ignore[no-any-return]


def load_parts(path: Path) -> dict[str, Any]:
    """The same with a `Spread` in place of each tensor that was divided: nothing of it is read but what is asked for.

    Raises DamageError where parts are missing.
    """
    import torch

    from trainer.spread import joined

    def opened(file: Path) -> Any:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)

    if (path / "state.pt").exists():  # of version 4
        state: dict[str, Any] = {}
        for file in sorted(path.glob("state*.pt")):
            _merge(state, opened(file))
        return state
    try:
        return joined(row for file in sorted(path.glob("rank-*.pt")) for row in opened(file))
    except ValueError as error:
        raise DamageError(f"{path} is damaged: {error}") from error


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into.setdefault(key, value)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` (made where it is missing) for one training run.

    Raises LockedError with the holder's pid and host.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise UserError(f"checkpoint.folder {folder} cannot be written to: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise LockedError(f"another run trains in {folder} ({file.read().strip()})") from error
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()}")
        file.flush()
        remove_leftovers(folder)
        yield
