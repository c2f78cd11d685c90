"""`corpusmill fetch`: a run at an address, or its corpus alone, copied to a folder of this machine.

Each file is written aside, checked by its digest and renamed, so one that is there is whole: a copy that was stopped
goes on where it was. `ledger/run.json` (of a corpus, `corpus.json`) comes last, and makes a run of the folder.
"""

from __future__ import annotations

import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.aside import sync, write_durably
from pipeline.corpora.folder import lock_of
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.ledger import Ledger, Part, Row, row_bytes
from pipeline.storage.patience import Passing, Unavailable, insist
from pipeline.store.folder import FolderStore, file_digest
from pipeline.store.mirror import SMALL, parented, small_files
from pipeline.store.objects import AT_ONCE, ObjectStore

CORPUS = ("shards", "tokenizer")
WHAT = ("run", "corpus")
SCRATCH = ".fetching"
"""In a folder that is being copied into: what is not whole yet."""
FROM = "from"
"""The file in it that says from where."""


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did."""

    files: int
    bytes: int
    there: int
    """Files that had been copied before."""


def fetch(address: str, folder: Path, what: str) -> Fetched:
    """Copies a run, or what of it is the corpus.

    Raises RecipeError where the folder holds something else, UserError where there is no run or it is not complete,
    LockedError where one is at work there, DamageError where a file is missing or not what its row says.
    """
    if what not in WHAT:
        raise RecipeError(f"--what {what}: give {' or '.join(WHAT)}")
    ledger = Ledger(address)
    store = ledger.store
    if not isinstance(store, ObjectStore):
        raise RecipeError(f"{address} is a folder of this machine")
    ledger.head()
    with lock_of(ledger, "Copy it") or nullcontext():
        return _fetched(ledger, store, folder, what)


def _fetched(ledger: Ledger, store: ObjectStore, folder: Path, what: str) -> Fetched:
    if ledger.complete() is None:
        raise UserError(f"the run at {store} is not complete; run its recipe again first")
    scratch = _begun(folder, f"{what} of {store}")
    rows = ledger.rows()
    parts = [part for row in rows for part in row.parts if ledger.holds(part.path)]
    small = small_files(ledger)
    last = "ledger/run.json"
    if what == "corpus":
        parts = [part for part in parts if part.path.split("/")[0] in CORPUS]
        small = {name: data for name, data in small.items() if name in SMALL}
        last = "corpus.json"
        if last not in small:
            raise UserError(f"the run at {store} made no corpus: its recipe asks for no shards")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        there = list(pool.map(lambda part: _there(store, part, folder / part.path, scratch), parts))
    if what == "run":
        (folder / "ledger" / "attempts").mkdir(parents=True, exist_ok=True)
        small |= {ledger.row_name(row.phase, row.key): row_bytes(_local(row, folder)) for row in rows}
    for name in sorted(small, key=lambda name: name == last):
        write_durably(parented(folder / name), small[name], scratch)
    shutil.rmtree(scratch)
    size = sum(part.bytes for part in parts) + sum(map(len, small.values()))
    return Fetched(len(parts) + len(small), size, sum(there))


def _begun(folder: Path, what: str) -> Path:
    """The folder for what is not whole yet; it says what is copied here, until that is done."""
    scratch = folder / SCRATCH
    mark = scratch / FROM
    if mark.exists():
        if (other := mark.read_text("utf-8")) != what:
            raise RecipeError(f"{folder} holds a part of the {other}. Give another folder, or remove this one.")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder} is not empty. Give a new folder.")
    else:
        scratch.mkdir(parents=True)
        mark.write_text(what, "utf-8")
    for left in scratch.iterdir():
        if left != mark:
            left.unlink()
    return scratch


def _there(store: ObjectStore, part: Part, path: Path, scratch: Path) -> bool:
    """Copies a part, unless it is there."""
    if path.exists() and path.stat().st_size == part.bytes:
        return True
    temporary = scratch / uuid.uuid4().hex

    def get() -> None:
        store.objects.fetch(part.path, temporary)
        if file_digest(temporary) != part.digest:
            raise Passing("it has another digest than its row says")

    try:
        insist(get, store.objects.at(part.path))
    except Unavailable as error:
        raise DamageError(f"{error} `corpusmill verify {store}` says what else is damaged.") from error
    sync(temporary)
    os.replace(temporary, parented(path))
    return False


def _local(row: Row, folder: Path) -> Row:
    """The row of parts as they look here."""
    looks = {part.path: FolderStore(folder).look(part.path) for part in row.parts}
    parts = [replace(part, stat=look.mark) if (look := looks[part.path]) else part for part in row.parts]
    return replace(row, parts=tuple(parts))
