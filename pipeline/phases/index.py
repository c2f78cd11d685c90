"""Phase index: the digest of each input file, and where it is cut into splits.

The digest, not the name, identifies a file from here on: a renamed file is not read again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.formats import FORMATS
from pipeline.ledger import Staged, file_digest
from pipeline.progress import Reporter
from pipeline.readers import READERS
from pipeline.readers.base import Piece, Tally
from pipeline.sources import InputFile, input_files
from pipeline.work import SPLIT_BYTES, Context, Task, once, unit_key

VERSION = 1


@once
def tasks(context: Context) -> list[Task]:
    """One unit for each input file. Raises RecipeError where a glob matches nothing or a file is unreadable."""
    return [task_of(file, context) for file in input_files(context.recipe)]


def task_of(file: InputFile, context: Context) -> Task:
    """The unit of a file: keyed by how the file looks from outside."""
    seen = looks(Path(file.path))
    size = seen[0]
    facts = {
        "path": file.path,
        "looks": seen,
        "format": file.format,
        "source": file.source,
        "options": file.options,
        "limit": context.trial.limit,
        "split_bytes": SPLIT_BYTES,
    }
    return Task("index", unit_key("index", VERSION, (), facts), size, vars(file) | {"size": size, "looks": seen})


def looks(path: Path) -> list[int]:
    """How a file looks from outside: size, modification time in ns, inode. Raises UserError where it is gone."""
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise UserError(f"{path} was there when the run began and is gone; run again") from error
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def work(task: Task, context: Context, folder: Path, reporter: Reporter) -> tuple[Sequence[Staged], dict[str, Any]]:
    """Digest and splits of a file."""
    spec = task.spec
    path = Path(spec["path"])
    body = {"digest": file_digest(path), "bytes": spec["size"], "path": spec["path"], "source": spec["source"]}
    options = [tuple(map(tuple, spec["options"]))] if FORMATS[spec["format"]].options else []
    ranges = READERS[spec["format"]].plan(spec["path"], SPLIT_BYTES, *options)
    limit = context.trial.limit
    body["splits"] = [[*span, None] for span in ranges] if limit is None else _limited(spec, ranges, limit)
    reporter.add(size=spec["size"])
    return [], body


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
