"""Opening a corpus: the folder of a run, or one that was published or copied and has no ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DamageError, LockedError, UserError
from pipeline.ledger import Ledger
from pipeline.look.runfolder import RunFolder
from pipeline.shards import Corpus, Shard
from pipeline.storage.patience import Unavailable
from pipeline.store import Lock
from pipeline.store.mirror import address_of, fill

if TYPE_CHECKING:
    from pipeline.tokenizers import Tokenizer


class CopiedFolder(RunFolder):
    """A folder with the files of a run but without its ledger: every file that lies there counts."""

    def __post_init__(self) -> None:
        pass

    def parts(self, folder: str, start: str = "") -> list[Path]:
        """The files in this folder whose name begins with `start`, by name."""
        return sorted(path for path in (self.folder / folder).glob(f"{start}*") if path.is_file())

    def removed(self, folder: str) -> bool:
        """Never: nothing is missed that was not copied."""
        return False


class _DistantShard(Shard):
    """A shard of a run at an address: each of its files comes when it is asked for."""

    def path(self, ending: str) -> Path:
        path = super().path(ending)
        folder = path.parents[1]
        fill(folder, [path.relative_to(folder).as_posix()])
        if not path.exists():
            address = address_of(folder)
            raise DamageError(
                f"{address}/{path.relative_to(folder)} is missing; `corpusmill verify {address}` says more"
            )
        return path


class _DistantCorpus(Corpus):
    """The shards of a run at an address."""

    def _check_sizes(self) -> None:
        """Nothing: what comes is checked by its digest."""

    def shards(self, split: str) -> list[Shard]:
        return [_DistantShard(**vars(shard)) for shard in super().shards(split)]


def opened(folder: Path) -> RunFolder:
    """The run or the copy of a corpus in this folder. Raises UserError where there is neither."""
    if (folder / "ledger").is_dir():
        return RunFolder(folder)
    if not (folder / "corpus.json").is_file() and not (folder / "documents").is_dir():
        raise UserError(f"{folder} holds neither a run (ledger/) nor a corpus (corpus.json)")
    return CopiedFolder(folder)


def corpus_of(run: RunFolder) -> Corpus:
    """The shards in it. Raises UserError where there are none, and says why."""
    if run.removed("shards"):
        raise UserError(f"`corpusmill clean` took the shards out of {run.folder}; run the recipe in another folder")
    return (_DistantCorpus if address_of(run.folder) else Corpus).open(run.folder)


def finished(folder: Path) -> RunFolder:
    """As `opened`, for what goes on to another corpus. Raises UserError where the run in it is not complete."""
    run = opened(folder)
    if not isinstance(run, CopiedFolder) and run.ledger.complete() is None:
        raise UserError(f"the run in {folder} is not complete; run its recipe again first")
    return run


def name_of(run: RunFolder) -> str:
    """The name of the run, or of the corpus."""
    if not isinstance(run, CopiedFolder):
        return str(run.ledger.head()["name"])
    if (run.folder / "corpus.json").is_file():
        return str(Corpus.open(run.folder).meta["name"])
    return run.folder.resolve().name


@contextmanager
def at_rest(*runs: RunFolder) -> Iterator[None]:
    """While this lasts, no run works in these folders. Raises LockedError where one does."""
    with ExitStack() as held:
        for run in runs:
            if not isinstance(run, CopiedFolder) and (lock := lock_of(run.ledger, "Come back")):
                held.enter_context(lock)
        yield


def lock_of(ledger: Ledger, then: str) -> Lock | None:
    """The lock of a run that is only looked at; None where nothing may be written there, so that no run works either.

    Raises LockedError where one does; it says `then` what to do when that has ended.
    """
    if not ledger.store.distant and not all(
        os.access(place, os.W_OK | os.X_OK) for place in (ledger.folder, ledger.scratch)
    ):
        return None
    try:
        return ledger.store.lock(lambda text: None)
    except LockedError as error:
        raise LockedError(f"{str(error).partition(' Wait for')[0]} {then} when that has ended.") from error
    except (OSError, Unavailable):
        return None


def tokenizer_of(corpus: Corpus) -> Tokenizer:
    """The tokenizer that lies beside the shards. Raises UserError where it is not there, DamageError where another
    one is."""
    from pipeline.tokenizers import opened as open_tokenizer

    return open_tokenizer(corpus.folder, corpus.meta["tokenizer"])
