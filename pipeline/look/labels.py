"""What people said of documents: `labels/labels.jsonl` in a run folder, one line a judgement, the last one stands.

Lines are only ever appended, each synced before it counts as stored, so that a kill takes at most the line that was
being written. The file is no part of the run: the ledger does not know it, and neither a new run nor
`corpusmill clean` touches it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from pipeline.aside import sync
from pipeline.errors import DamageError

NAME = "labels/labels.jsonl"
LABELS = ("good", "bad")
NONE = "none"
"""A judgement that takes the earlier ones back."""
COLUMNS = ("id", "label", "why", "by", "time", "digest")


@dataclass(frozen=True)
class Label:
    """A judgement of one document."""

    id: str
    """32 hex digits."""
    label: str
    """One of LABELS; NONE takes an earlier one back."""
    why: str
    """What the reviewer wrote, or nothing."""
    by: str
    """Who judged."""
    time: str
    """When, ISO 8601 in UTC."""
    digest: str
    """`digest` of the text that was judged; empty where there was none."""


def digest(text: str) -> str:
    """128-bit xxHash3 of a text, in hex."""
    return xxhash.xxh3_128_hexdigest(text.encode(errors="surrogatepass"))


def append(folder: Path, label: Label) -> None:
    """Adds a judgement to a run's labels. Once this returns, no kill takes it away. Raises OSError."""
    path = folder / NAME
    fresh = not path.exists()
    path.parent.mkdir(exist_ok=True)
    line = json.dumps(asdict(label), ensure_ascii=False).encode() + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # two people may label one run
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = b"\n" + line  # a kill cut the last line short
        left = memoryview(line)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if fresh:
        for place in (path.parent, folder):
            sync(place)


def read(folder: Path) -> dict[str, Label]:
    """The judgements that stand, by document, in the order in which documents were first judged.

    A last line that a kill cut short is passed over. Raises DamageError for another one that is none.
    """
    path = folder / NAME
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    found: dict[str, Label] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            label = Label(**{name: str(facts[name]) for name in COLUMNS})
            if label.label not in (*LABELS, NONE):
                raise ValueError(f"label {label.label!r}")
            if not re.fullmatch("[0-9a-f]{32}", label.id):
                raise ValueError(f"id {label.id!r} is no 32 hex digits")
        except (ValueError, KeyError, TypeError) as error:
            if line[:1] == b"{" and (line[-1:] != b"}" or "Unterminated string" in str(error)):
                continue  # cut short by a kill; what came later begins a line of its own
            raise DamageError(f"{path}, line {number}: this is no label ({error}); mend or delete it") from error
        found[label.id] = label
    return {key: label for key, label in found.items() if label.label != NONE}
