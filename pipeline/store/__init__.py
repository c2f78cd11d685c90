"""Where a run keeps its files: a folder of this machine, or an address such as `s3://bucket/run`.

Read in this order: `base` (what a store can do), `folder` (files are written aside, synced and renamed into place),
`objects` (an object store has no rename; what is put there appears whole or not at all, and only where there was none),
`protocols` (what s3 and gs call these things), `cache` (committed files of a store as files of this machine) and
`lease` (one run at a time where no kernel holds a lock).

A committed file never changes. So `Store.file` may hand out a copy, and whoever reads parts need not know which it is.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import RecipeError
from pipeline.storage.address import is_remote, local_path
from pipeline.store.base import Lock, Look, Put, Store

__all__ = ["Lock", "Look", "Put", "Store", "cannot_hold", "opened", "place"]


def place(text: str | Path) -> Path | str:
    """Where a run folder lies, as a user gives it: an address as it is, else an absolute path."""
    if isinstance(text, str) and is_remote(text):
        return text.rstrip("/")
    return Path(local_path(str(text))).resolve()


def cannot_hold(address: str) -> str | None:
    """Why no run can lie at an address; None where one can."""
    from pipeline.store.protocols import check

    try:
        check(address)
    except RecipeError as error:
        return str(error)
    return None


def opened(out: Path | str, fence: int | None = None) -> Store:
    """The store of a run folder. `fence`: the number of the lock under which the run works there, see `lease`.

    Raises RecipeError for an address where no run can be kept.
    """
    if isinstance(out, str):
        from pipeline.store.objects import ObjectStore  # brings fsspec, which a run on this machine does not need

        return ObjectStore(out, fence)
    from pipeline.store.folder import FolderStore

    return FolderStore(out)
