"""Opening a corpus: the folder of a run, or one that was published or copied and has no ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from pipeline.errors import UserError
from pipeline.ledger import Row
from pipeline.lock import FolderLock
from pipeline.look.runfolder import RunFolder
from pipeline.shards import Corpus
from pipeline.tokenizers import Tokenizer
from pipeline.tokenizers import opened as open_tokenizer


class CopiedFolder(RunFolder):
    """A folder with the files of a run but without its ledger: every file that lies there counts."""

    def __post_init__(self) -> None:
        pass

    @cached_property
    def rows(self) -> list[Row]:
        """None: the rows stayed with the run."""
        return []

    def parts(self, folder: str, start: str = "") -> list[Path]:
        """The files in this folder whose name begins with `start`, by name."""
        return sorted(path for path in (self.folder / folder).glob(f"{start}*") if path.is_file())

    def removed(self, folder: str) -> bool:
        """Never: nothing is missed that was not copied."""
        return False


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
    return Corpus.open(run.folder)


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
def at_rest(run: RunFolder) -> Iterator[None]:
    """While this lasts, no run works in the folder. Raises LockedError where one does."""
    if isinstance(run, CopiedFolder):
        yield
        return
    with FolderLock(run.ledger.folder):
        yield


def tokenizer_of(corpus: Corpus) -> Tokenizer:
    """The tokenizer that lies beside the shards. Raises UserError where it is not there, DamageError where another
    one is."""
    return open_tokenizer(corpus.folder, corpus.meta["tokenizer"])
