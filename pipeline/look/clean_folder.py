"""`corpusmill clean`: takes the parts out of a run folder that its user does not need.

The ledger stays, and says so before anything is deleted; so the run still counts as done, `inspect` still
knows its figures, and a later change brings back exactly what must be read again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.ledger import PART_FOLDERS, Ledger
from pipeline.lock import FolderLock

KEEPABLE = ("documents", "dropped", "measures", "duplicates", "tokens", "shards")
WITH = {"tokenizer": ("tokens", "shards"), "edits": ("documents", "tokens", "shards")}
"""A folder that stays where one of these does: tokens without their tokenizer are numbers, and without what was cut
from a text its record does not give it again."""


@dataclass(frozen=True)
class Removal:
    """What would be taken out of a run folder."""

    folder: Path
    files: dict[str, int]
    """Files by part folder."""
    bytes: dict[str, int]
    """Bytes by part folder."""


def plan(folder: Path, keep: Sequence[str]) -> Removal:
    """What goes where only `keep` stays. Raises RecipeError for an unknown name, UserError where there is no run."""
    for name in keep:
        if name not in KEEPABLE:
            raise RecipeError(
                f"--keep {name}: no such part of a run.{nearest(name, KEEPABLE)} "
                f"There are {', '.join(KEEPABLE)}; what lies between the phases always goes."
            )
    if not keep:
        raise RecipeError(f"--keep names nothing; there are {', '.join(KEEPABLE)}")
    Ledger(folder).head()
    stay = {*keep, *(name for name, others in WITH.items() if set(others) & set(keep))}
    removal = Removal(folder, {}, {})
    for name in PART_FOLDERS:
        if name in stay:
            continue
        sizes = [path.stat().st_size for path in (folder / name).rglob("*") if path.is_file()]
        if sizes:
            removal.files[name] = len(sizes)
            removal.bytes[name] = sum(sizes)
    return removal


def carry_out(removal: Removal) -> None:
    """Notes what goes, then deletes it. Killed at any moment, it can be called again; nothing else is harmed.

    Raises LockedError where a run works in the folder.
    """
    ledger = Ledger(removal.folder)
    lock = FolderLock(ledger.folder)
    try:
        going = set(removal.files)
        for row in ledger.rows():
            touched = {part.path.split("/")[0] for part in row.parts} & going
            if touched:
                ledger.note_removed(row, touched)
        os.sync()  # every note is on the disk before the first file goes; one call, for there may be many
        for name in removal.files:
            _empty(removal.folder / name)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be removed: {error.strerror}. Mend it and clean again.") from error
    finally:
        lock.release()


def _empty(folder: Path) -> None:
    """Deletes all that is in a folder; the folder stays."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
