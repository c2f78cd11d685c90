"""The ledger: what a run has committed, and why that may be believed.

Work is committed in units. A unit's parts are written under the attempt's own folder, synced and renamed
into place; then its manifest row is written the same way, and with that it is real. A row holds the key
(digest of everything that the result depends on), the digest of each part, and counts. An equal key skips
the work, another redoes it, and what no key claims is removed. A row carries a checksum of itself.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from pipeline import __version__
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.versions import VERSIONS

FORMAT_VERSION = 1
PART_FOLDERS = (
    "clean",
    "signatures",
    "host",
    "edits",
    "dedup",
    "substrings",
    "documents",
    "dropped",
    "measures",
    "duplicates",
    "tokenizer",
    "tokens",
    "plan",
    "shards",
)


def digest_of(value: Any) -> str:
    """The 128-bit hex digest of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return xxhash.xxh3_128_hexdigest(text.encode())


def file_digest(path: Path, start: int = 0, end: int | None = None) -> str:
    """The 128-bit xxHash3 of (a range of) a file, read in pieces of 4 MB."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        file.seek(start)
        left = (end - start) if end is not None else None
        while data := file.read(min(4 << 20, left) if left is not None else 4 << 20):
            digest.update(data)
            if left is not None:
                left -= len(data)
    return digest.hexdigest()


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


@dataclass(frozen=True)
class Staged:
    """A finished file of a unit, still under the attempt's name, and where it belongs in the run folder."""

    temporary: Path
    final: str
    digest: str | None = None
    """That of `file_digest`, where whoever wrote the file took it on the way; else the file is read for it."""


@dataclass(frozen=True)
class Part:
    """A committed file: path inside the run folder, size, digest, and how it looked when it was committed."""

    path: str
    bytes: int
    digest: str
    stat: tuple[int, int]
    """Modification time in ns and inode: a file that still has both is taken to be unchanged."""


@dataclass(frozen=True)
class Row:
    """A manifest row."""

    phase: str
    key: str
    parts: tuple[Part, ...]
    body: dict[str, Any]
    """Counts and facts of the unit. `body["timing"]` alone may differ between two runs of the same work."""

    def part(self, folder: str) -> Part:
        """Its one part in this folder of the run."""
        return next(part for part in self.parts if part.path.startswith(folder + "/"))


class Ledger:
    """The ledger of one run folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "ledger"
        self.scratch = self.folder / "attempts"

    def check(self, name: str) -> bool:
        """Whether the folder already holds this recipe's run; touches nothing.

        Raises RecipeError where it holds another recipe's or other files.
        """
        if (self.folder / "run.json").exists():
            with suppress(DamageError):  # then it is written anew: the rows vouch for themselves
                found = self._head()["name"]
                if found != name:
                    raise RecipeError(
                        f"{self.out} holds the run of recipe '{found}', not of '{name}'. "
                        "Give another folder with --out, or remove this one."
                    )
                return True
        elif self.out.exists() and not self.out.is_dir():
            raise RecipeError(f"{self.out} is a file. Give another folder with --out.")
        elif self.out.is_dir() and any(path.name != "ledger" for path in self.out.iterdir()):
            raise RecipeError(f"{self.out} is not empty and holds no run. Give another folder with --out.")
        return False

    def create(self, name: str) -> None:
        """Makes what a run folder needs, where it is not there yet, and forgets what another version wrote otherwise.

        Raises as `check` does.
        """
        known = self.check(name)
        self.scratch.mkdir(exist_ok=True)
        outdated = self._outdated(self._head()) if known else []
        for phase in outdated:
            self.set_complete(False)
            self.keep_only(phase, [])
        if not known or outdated:  # first of all: a folder that holds anything else and no head is refused
            facts = {"format_version": FORMAT_VERSION, "name": name, "created_by": f"corpusmill {__version__}"}
            head = json.dumps(facts | {"phases": VERSIONS})
            write_durably(self.folder / "run.json", head.encode(), self.scratch)
        for folder in (self.folder / "rows", *(self.out / name for name in PART_FOLDERS)):
            folder.mkdir(exist_ok=True)
        sync(self.folder)
        sync(self.out)

    def clear_attempts(self) -> None:
        """Removes what killed attempts left. Only for the holder of the folder's lock, while nobody works."""
        for path in self.scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def head(self) -> dict[str, Any]:
        """Name and format of the run. Raises UserError where the folder holds none that can be read."""
        facts = self._head()
        if outdated := self._outdated(facts):
            raise UserError(
                f"{self.out} was made by another version, {facts.get('created_by', 'of corpusmill')}, whose results of "
                f"{', '.join(outdated)} look otherwise. Run its recipe again: what is outdated is redone."
            )
        return facts

    @staticmethod
    def _outdated(head: dict[str, Any]) -> list[str]:
        """The phases whose rows and parts another version wrote, which are not to be read."""
        there = head.get("phases", {})
        return [phase for phase, version in VERSIONS.items() if there.get(phase) != version]

    def _head(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        try:
            facts = json.loads(path.read_text("utf-8"))
            version = facts["format_version"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.out} is no run folder: {self._why_not()}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{path} is damaged: {error!r}") from error
        if version != FORMAT_VERSION:
            raise UserError(f"{self.out} has run format {version}; this corpusmill reads {FORMAT_VERSION}")
        return dict(facts)

    def _why_not(self) -> str:
        if not self.out.is_dir():
            return "it is a file" if self.out.exists() else "there is no such folder"
        if any((self.out / name).exists() for name in ("corpus.json", "published.json")):
            return (
                "it holds a corpus, but no ledger of the run that made it. `corpusmill card`, `head`, `verify`, `sql` "
                "and `browse` read a corpus; this is to be asked of the run's own folder"
            )
        return "it has no ledger/run.json"

    def attempt(self) -> Path:
        """A new folder for the temporary files of one unit's attempt."""
        folder = self.scratch / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    def row_path(self, phase: str, key: str) -> Path:
        """Where the row of a unit lies."""
        return self.folder / "rows" / phase / f"{key}.json"

    def read_row(self, phase: str, key: str) -> Row | None:
        """The row of a unit, or None where there is none. Raises DamageError where it is not what was written."""
        path = self.row_path(phase, key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            envelope = json.loads(data)
            content = envelope["row"]
            if envelope["check"] != digest_of(content) or content["phase"] != phase or content["key"] != key:
                raise ValueError("its checksum does not fit")
            parts = tuple(
                Part(part["path"], part["bytes"], part["digest"], (part["stat"][0], part["stat"][1]))
                for part in content["parts"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"the manifest row {path.relative_to(self.out)} is damaged: {error}") from error
        return Row(phase, key, parts, content["body"])

    def valid_row(self, phase: str, key: str, *, removed_is_fine: bool = False) -> Row | None:
        """The row of a unit if row and parts are whole, else None: then the unit is to be done (again)."""
        try:
            row = self.read_row(phase, key)
        except DamageError:
            return None
        if row is None:
            return None
        gone = self.removed(row) if removed_is_fine else set()
        asked = [part for part in row.parts if part.path.split("/")[0] not in gone]
        return row if all(self.part_problem(part, trust_stat=True) is None for part in asked) else None

    def removed(self, row: Row) -> set[str]:
        """The part folders out of which `corpusmill clean` took the parts of this row, or is about to."""
        try:
            return set((self.folder / "removed" / row.phase / row.key).read_text().split())
        except FileNotFoundError:
            return set()

    def note_removed(self, row: Row, folders: Iterable[str]) -> None:
        """Notes that the parts of this row in these folders are about to be deleted, and are not to be missed."""
        path = self.folder / "removed" / row.phase / row.key
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(" ".join(sorted({*folders, *self.removed(row)})))
        os.replace(temporary, path)

    def release(self, rows: Iterable[Row]) -> None:
        """Deletes the parts of rows whose work is used up. The rows stay, and their units count as done."""
        there = [row for row in rows if any((self.out / part.path).exists() for part in row.parts)]
        for row in there:
            self.note_removed(row, {part.path.split("/")[0] for part in row.parts})
        if there:
            os.sync()  # every note is on the disk before the first file goes
        for row in there:
            for part in row.parts:
                (self.out / part.path).unlink(missing_ok=True)

    def set_complete(self, complete: bool) -> None:
        """Notes that every unit of the recipe is done, and what the files that say so hold; or takes that back."""
        path = self.folder / "complete.json"
        if not complete:
            path.unlink(missing_ok=True)
            return
        names = ("recipe.yaml", "corpus.json", "mixture.json", "pins.json", "ledger/context.json")
        files = [name for name in names if (self.out / name).exists()]
        text = json.dumps({name: file_digest(self.out / name) for name in files}).encode()
        if not path.exists() or path.read_bytes() != text:
            write_durably(path, text, self.scratch)

    def complete(self) -> dict[str, str] | None:
        """Digests of the run's own files (`corpus.json` ...) as the finished run left them; None where it is not."""
        try:
            return dict(json.loads((self.folder / "complete.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def part_problem(self, part: Part, *, trust_stat: bool = False, digest: str | None = None) -> str | None:
        """What is wrong with a part, or None. With `trust_stat`, an untouched file is not read again, nor is one whose
        `digest` is known."""
        path = self.out / part.path
        try:
            stat = path.stat()
        except FileNotFoundError:
            return "is missing"
        if stat.st_size != part.bytes:
            return f"holds {stat.st_size} bytes instead of {part.bytes}"
        if trust_stat and (stat.st_mtime_ns, stat.st_ino) == part.stat:
            return None
        return None if (digest or file_digest(path)) == part.digest else "has other contents than were committed"

    def commit(self, phase: str, key: str, staged: Iterable[Staged], body: dict[str, Any]) -> Row:
        """Makes a unit real: its files take their places, then its row is written.

        Two attempts at one unit may meet: equal results are fine, unequal ones raise DamageError.
        """
        staged = list(staged)
        for item in staged:
            sync(item.temporary)
        digests = [item.digest or file_digest(item.temporary) for item in staged]
        earlier = self.valid_row(phase, key)
        if earlier is not None:
            if [part.digest for part in earlier.parts] != digests:
                raise DamageError(
                    f"two attempts at unit {phase}/{key} gave different results: the run is not reproducible. "
                    "Does a stage depend on more than its batch and its settings?"
                )
            return earlier
        parts = []
        for item, digest in zip(staged, digests, strict=True):
            final = self.out / item.final
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(item.temporary, final)
            stat = final.stat()
            parts.append(Part(item.final, stat.st_size, digest, (stat.st_mtime_ns, stat.st_ino)))
        for folder in {(self.out / item.final).parent for item in staged}:
            sync(folder)
        row = Row(phase, key, tuple(parts), body)
        self._write_row(row)
        (self.folder / "removed" / phase / key).unlink(missing_ok=True)
        return row

    def distrust(self, row: Row, paths: Iterable[str]) -> None:
        """Has the next run read these parts of a row again, however untouched they look, and redo the unit."""
        wrong = set(paths)
        parts = [replace(part, stat=(0, 0)) if part.path in wrong else part for part in row.parts]
        self._write_row(Row(row.phase, row.key, tuple(parts), row.body))

    def _write_row(self, row: Row) -> None:
        content = {"phase": row.phase, "key": row.key, "parts": [vars(part) for part in row.parts], "body": row.body}
        content = json.loads(json.dumps(content))
        path = self.row_path(row.phase, row.key)
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            sync(path.parent.parent)
        write_durably(path, json.dumps({"check": digest_of(content), "row": content}).encode(), self.scratch)

    def keys(self, phase: str) -> list[str]:
        """The keys of all rows of a phase, damaged ones included, in order."""
        return sorted(path.stem for path in (self.folder / "rows" / phase).glob("*.json"))

    def keep_only(self, phase: str, keys: Iterable[str]) -> None:
        """Removes the rows of a phase that the present recipe does not ask for."""
        wanted = set(keys)
        for key in self.keys(phase):
            if key not in wanted:
                self.row_path(phase, key).unlink()
                (self.folder / "removed" / phase / key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes files in the part folders that no row claims."""
        claimed = {part.path for row in self.rows() for part in row.parts}
        for name in PART_FOLDERS:
            for path in (self.out / name).rglob("*"):
                inside = path.relative_to(self.out)
                if path.is_file() and str(inside) not in claimed and "plans" not in inside.parts:
                    path.unlink()

    def rows(self, phase: str | None = None) -> list[Row]:
        """All readable rows (of a phase), by phase and key."""
        phases = [phase] if phase else sorted(path.name for path in (self.folder / "rows").glob("*"))
        found = []
        for name in phases:
            for key in self.keys(name):
                try:
                    row = self.read_row(name, key)
                except DamageError:
                    continue
                if row is not None:
                    found.append(row)
        return found
