"""Files that a reader sees whole: written aside, then renamed into place."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def sync(path: Path) -> None:
    """Makes a file's contents durable (or, of a folder, the names in it)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes, scratch: Path) -> None:
    """Puts `data` at `path` so that a reader sees either nothing, the old file or all of the new one."""
    temporary = scratch / f"{path.name}.{uuid.uuid4().hex}"
    try:
        temporary.write_bytes(data)
        sync(temporary)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """The same for a file that need not outlive a power cut; written aside in its own folder."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
