"""Phase index: the digest of each input file, and where it is cut into splits.

The digest, not the name, identifies a file from here on: a renamed file is not read again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import listing
from pipeline.errors import UserError
from pipeline.formats import FORMATS
from pipeline.ledger import Staged, digest_of, file_digest
from pipeline.progress import Reporter
from pipeline.readers import READERS
from pipeline.readers.base import Piece, Tally
from pipeline.sources import InputFile, input_files
from pipeline.storage.address import is_remote
from pipeline.storage.patience import Unavailable
from pipeline.work import SPLIT_BYTES, Context, Task, once, unit_key

REMOTE_SPLIT_BYTES = 2 << 30
"""As SPLIT_BYTES for remote files of formats whose frames are found by reading all of the file: below this, a
second worker is not worth a second journey. The files of a public crawl hold about a gigabyte each."""
INDEXED = ("parquet", "arrow")
"""Formats that say at their end where their frames lie."""


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each input file. Raises RecipeError where a glob matches nothing or a file is unreadable."""
    files = input_files(context.recipe)
    if context.trial.limit is not None:
        files = listing.few(files, context.trial.limit, context.recipe.seed)
    return [task_of(file, seen, context) for file, seen in zip(files, listing.looks_of(files), strict=True)]


def task_of(file: InputFile, seen: listing.Look, context: Context) -> Task:
    """The unit of a file: keyed by how the file looks from outside."""
    facts = {
        "path": file.path,
        "looks": seen.looks,
        "format": file.format,
        "source": file.source,
        "options": file.options,
        "limit": context.trial.limit,
        "split_bytes": _target(file.path, file.format),
    }
    spec = vars(file) | {"size": seen.size, "looks": seen.looks, "unavailable": seen.why}
    return Task("index", unit_key("index", (), facts), seen.size, spec)


def _target(path: str, kind: str) -> int:
    return REMOTE_SPLIT_BYTES if is_remote(path) and kind not in INDEXED else SPLIT_BYTES


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Digest and splits of a file; of one that a list names and that stays away, that it does."""
    spec = task.spec
    why = spec["unavailable"]
    if why is None:
        try:
            return [], _indexed(spec, context, reporter)
        except (Unavailable, FileNotFoundError, PermissionError) as error:
            if not spec["listed"]:
                raise
            why = error.why if isinstance(error, Unavailable) else error.strerror
    body = {"digest": digest_of([listing.UNAVAILABLE, spec["path"]]), "bytes": 0, "unavailable": why}
    body["splits"] = [[0, 0, None if context.trial.limit is None else 0]]
    return [], body | {"path": spec["path"], "source": spec["source"]}


def _indexed(spec: dict[str, Any], context: Context, reporter: Reporter) -> dict[str, Any]:
    body = {"digest": _digest(spec), "bytes": spec["size"], "path": spec["path"], "source": spec["source"]}
    options = [tuple(map(tuple, spec["options"]))] if FORMATS[spec["format"]].options else []
    ranges = READERS[spec["format"]].plan(spec["path"], _target(spec["path"], spec["format"]), *options)
    limit = context.trial.limit
    body["splits"] = [[*span, None] for span in ranges] if limit is None else _limited(spec, ranges, limit)
    reporter.add(size=spec["size"])
    return body


def _digest(spec: dict[str, Any]) -> str:
    if not is_remote(spec["path"]):
        return file_digest(Path(spec["path"]))
    from pipeline.storage.remote import facts, identity

    known = facts(spec["path"])
    if known.looks() != spec["looks"]:
        raise UserError(f"{spec['path']} changed while the run was at work; run again")
    return identity(spec["path"], known)


def _limited(spec: dict[str, Any], ranges: list[tuple[int, int]], limit: int) -> list[list[int]]:
    """The splits (start, end, records) in which the first `limit` records of the file lie."""
    splits = []
    left = limit
    for start, end in ranges:
        if left == 0:
            break
        piece = Piece(
            spec["source"],
            spec["format"],
            spec["path"],
            spec["name"],
            start,
            end,
            tuple(map(tuple, spec["fields"])),
            tuple(map(tuple, spec["options"])),
        )
        found = sum(1 for _ in itertools.islice(READERS[spec["format"]].read(piece, Tally()), left))
        splits.append([start, end, found])
        left -= found
    return splits
