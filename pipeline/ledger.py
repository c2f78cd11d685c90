"""The ledger: what a run has committed, and why that may be believed.

Work is committed in units. A unit's parts are written under the attempt's own folder on this machine and then put
where they belong, whole or not at all (see `pipeline.store`: by a rename, or by a put that replaces nothing); then its
manifest row is put the same way, and with that it is real. A row holds the key
(digest of everything that the result depends on), the digest of each part, and counts. An equal key skips
the work, another redoes it, and what no key claims is removed. A row carries a checksum of itself.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xxhash

from pipeline import __version__
from pipeline.aside import sync
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.store import Look, Put, opened
from pipeline.store.cache import own_folder
from pipeline.store.folder import FolderStore, file_digest
from pipeline.versions import VERSIONS

__all__ = ["Ledger", "Part", "Row", "Staged", "digest_of", "file_digest", "row_bytes"]

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
    stat: tuple[int | str, ...]
    """The mark of `pipeline.store.Look`: a file that still has it is taken to be unchanged."""


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
    """The ledger of one run folder, on this machine or at an address."""

    def __init__(self, out: Path | str, fence: int | None = None) -> None:
        """`fence`: the number of the lock of a run at an address, where this ledger is of its workers."""
        self.store = opened(out, fence)
        self._rows: dict[str, dict[str, bytes]] = {}
        """Of a distant store: the rows of a phase as they were when they were first asked for since `refresh`."""
        self._looks: dict[str, dict[str, Look]] = {}
        """The same of part folders."""

    @property
    def out(self) -> Path:
        """The run folder. Raises UserError where it is none of this machine."""
        if not isinstance(self.store, FolderStore):
            raise UserError(
                f"{self.store} is no folder of this machine, and this reads files in place. Copy the run first: "
                f"corpusmill fetch {self.store} DIR"
            )
        return self.store.folder

    @property
    def folder(self) -> Path:
        """The folder of the ledger in it."""
        return self.out / "ledger"

    @property
    def scratch(self) -> Path:
        """Where attempts write, on this machine."""
        return self.store.scratch

    def check(self, name: str) -> bool:
        """Whether the folder already holds this recipe's run; touches nothing.

        Raises RecipeError where it holds another recipe's or other files.
        """
        if self.store.exists("ledger/run.json"):
            with suppress(DamageError):  # then it is written anew: the rows vouch for themselves
                found = self._head()["name"]
                if found != name:
                    raise RecipeError(
                        f"{self.store} holds the run of recipe '{found}', not of '{name}'. "
                        "Give another folder with --out, or remove this one."
                    )
                return True
        elif refusal := self.store.refusal():
            raise RecipeError(f"{refusal}. Give another folder with --out.")
        return False

    def create(self, name: str) -> None:
        """Makes what a run folder needs, where it is not there yet, and forgets what another version wrote otherwise.

        Raises as `check` does.
        """
        known = self.check(name)
        self.scratch.mkdir(parents=True, exist_ok=True)
        outdated = self._outdated(self._head()) if known else []
        for phase in outdated:
            self.set_complete(False)
            self.keep_only(phase, [])
        if not known or outdated:  # first of all: a folder that holds anything else and no head is refused
            facts = {"format_version": FORMAT_VERSION, "name": name, "created_by": f"corpusmill {__version__}"}
            head = json.dumps(facts | {"phases": VERSIONS})
            self.store.write("ledger/run.json", head.encode())
        self.store.prepare(PART_FOLDERS)

    def clear_attempts(self) -> None:
        """Removes what killed attempts left. Only for the holder of the folder's lock, while nobody works."""
        self.store.tidy()
        if self.store.distant:
            self.refresh()
            self._remove_damaged()
            self.sweep()

    def refresh(self) -> None:
        """Forgets what a distant store told of rows and parts: others may have committed meanwhile."""
        self._rows.clear()
        self._looks.clear()

    def head(self) -> dict[str, Any]:
        """Name and format of the run. Raises UserError where the folder holds none that can be read."""
        facts = self._head()
        if outdated := self._outdated(facts):
            raise UserError(
                f"{self.store} was made by another version, {facts.get('created_by', 'of corpusmill')}, whose results "
                f"of {', '.join(outdated)} look otherwise. Run its recipe again: what is outdated is redone."
            )
        return facts

    @staticmethod
    def _outdated(head: dict[str, Any]) -> list[str]:
        """The phases whose rows and parts another version wrote, which are not to be read."""
        there = head.get("phases", {})
        return [phase for phase, version in VERSIONS.items() if there.get(phase) != version]

    def _head(self) -> dict[str, Any]:
        name = "ledger/run.json"
        try:
            facts = json.loads(self.store.read(name).decode("utf-8"))
            version = facts["format_version"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.store} is no run folder: {self.store.why_no_run()}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{self.store}/{name} is damaged: {error!r}") from error
        if version != FORMAT_VERSION:
            raise UserError(f"{self.store} has run format {version}; this corpusmill reads {FORMAT_VERSION}")
        return dict(facts)

    def attempt(self) -> Path:
        """A new folder for the temporary files of one unit's attempt."""
        if self.store.distant:
            return own_folder(self.scratch)  # of workers that were killed on this machine, nobody else removes them
        folder = self.scratch / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder

    @staticmethod
    def row_name(phase: str, key: str) -> str:
        """Where the row of a unit lies in the run folder."""
        return f"ledger/rows/{phase}/{key}.json"

    @staticmethod
    def _removed_name(phase: str, key: str) -> str:
        return f"ledger/removed/{phase}/{key}"

    def row_path(self, phase: str, key: str) -> Path:
        """Where the row of a unit lies."""
        return self.out / self.row_name(phase, key)

    def read_row(self, phase: str, key: str, *, now: bool = False) -> Row | None:
        """The row of a unit, or None where there is none. Raises DamageError where it is not what was written.

        `now`: not as a distant store told it before.
        """
        name = self.row_name(phase, key)
        if self.store.distant and not now:
            data = self._phase_rows(phase).get(key)
            if data is None:
                return None
        else:
            try:
                data = self.store.read(name)
            except FileNotFoundError:
                return None
        try:
            envelope = json.loads(data)
            content = envelope["row"]
            if envelope["check"] != digest_of(content) or content["phase"] != phase or content["key"] != key:
                raise ValueError("its checksum does not fit")
            parts = tuple(
                Part(part["path"], part["bytes"], part["digest"], tuple(part["stat"])) for part in content["parts"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"the manifest row {name} is damaged: {error}") from error
        return Row(phase, key, parts, content["body"])

    def _phase_rows(self, phase: str) -> dict[str, bytes]:
        if phase not in self._rows:
            there = self.store.read_all(f"ledger/rows/{phase}/")
            self._rows[phase] = {Path(name).stem: data for name, data in there.items()}
        return self._rows[phase]

    def valid_row(self, phase: str, key: str, *, removed_is_fine: bool = False, now: bool = False) -> Row | None:
        """The row of a unit if row and parts are whole, else None: then the unit is to be done (again)."""
        try:
            row = self.read_row(phase, key, now=now)
        except DamageError:
            return None
        if row is None:
            return None
        gone = self.removed(row) if removed_is_fine else set()
        asked = [part for part in row.parts if part.path.split("/")[0] not in gone]
        return row if all(self.part_problem(part, trust_stat=True, now=now) is None for part in asked) else None

    def removed(self, row: Row) -> set[str]:
        """The part folders out of which `corpusmill clean` took the parts of this row, or is about to."""
        name = self._removed_name(row.phase, row.key)
        if self.store.distant and name not in self._looked("ledger/removed/"):
            return set()
        try:
            return set(self.store.read(name).decode().split())
        except FileNotFoundError:
            return set()

    def any_removed(self) -> bool:
        """Whether parts of any row were taken away."""
        return bool(self.store.names("ledger/removed/"))

    def note_removed(self, row: Row, folders: Iterable[str]) -> None:
        """Notes that the parts of this row in these folders are about to be deleted, and are not to be missed."""
        text = " ".join(sorted({*folders, *self.removed(row)}))
        self.store.write(self._removed_name(row.phase, row.key), text.encode(), durable=False)
        self._looks.pop("ledger/removed/", None)

    def release(self, rows: Iterable[Row]) -> None:
        """Deletes the parts of rows whose work is used up. The rows stay, and their units count as done."""
        there = [row for row in rows if any(self.holds(part.path) for part in row.parts)]
        for row in there:
            self.note_removed(row, {part.path.split("/")[0] for part in row.parts})
        if there:
            self.store.settle()  # every note is on the disk before the first file goes
            self._delete(part.path for row in there for part in row.parts)

    def set_complete(self, complete: bool) -> None:
        """Notes that every unit of the recipe is done, and what the files that say so hold; or takes that back."""
        name = "ledger/complete.json"
        if not complete:
            self.store.delete(name)
            return
        names = ("recipe.yaml", "corpus.json", "mixture.json", "pins.json", "ledger/context.json")
        text = json.dumps({name: self.store.digest(name) for name in names if self.store.exists(name)})
        self.put(name, text.encode())

    def put(self, name: str, data: bytes) -> None:
        """Writes one of the run's small files where it does not hold just that."""
        if self.small(name) != data:
            self.store.write(name, data)

    def small(self, name: str) -> bytes | None:
        """The contents of one of the run's small files; None where there is none."""
        try:
            return self.store.read(name)
        except FileNotFoundError:
            return None

    def complete(self) -> dict[str, str] | None:
        """Digests of the run's own files (`corpus.json` ...) as the finished run left them; None where it is not."""
        try:
            return dict(json.loads(self.store.read("ledger/complete.json")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def holds(self, path: str) -> bool:
        """Whether a part lies in the run folder."""
        return self._look(path) is not None if self.store.distant else self.store.exists(path)

    def rows_in(self, *parts: Part) -> list[int]:
        """Rows of tables, as their footers say."""
        import pyarrow.parquet as pq

        def rows(part: Part) -> int:
            source = self.store.source(part.path)
            try:
                return int(pq.read_metadata(source).num_rows)
            finally:
                if not isinstance(source, Path):
                    source.close()

        return self.store.each(rows, parts)

    def part_problem(
        self, part: Part, *, trust_stat: bool = False, digest: str | None = None, now: bool = False
    ) -> str | None:
        """What is wrong with a part, or None. With `trust_stat`, an untouched file is not read again, nor is one whose
        `digest` is known. `now`: not as a distant store told it before."""
        look = self.store.look(part.path) if now else self._look(part.path)
        if look is None:
            return "is missing"
        if look.bytes != part.bytes:
            return f"holds {look.bytes} bytes instead of {part.bytes}"
        if trust_stat and look.mark == part.stat:
            return None
        digest = digest or self.store.digest(part.path)
        return None if digest == part.digest else "has other contents than were committed"

    def _look(self, path: str) -> Look | None:
        if not self.store.distant:
            return self.store.look(path)
        return self._looked(f"{path.partition('/')[0]}/").get(path)

    def _looked(self, folder: str) -> dict[str, Look]:
        if folder not in self._looks:
            self._looks[folder] = self.store.looks(folder)
        return self._looks[folder]

    def commit(self, phase: str, key: str, staged: Iterable[Staged], body: dict[str, Any]) -> Row:
        """Makes a unit real: its files take their places, then its row is written.

        Two attempts at one unit may meet: equal results are fine, unequal ones raise DamageError. Of a run at an
        address, LockedError where it has lost its lock.
        """
        staged = list(staged)
        for item in staged:
            sync(item.temporary)
        digests = [item.digest or file_digest(item.temporary) for item in staged]
        earlier = self.valid_row(phase, key, now=True)
        if earlier is not None:
            return self._equal(earlier, digests)
        looks = self.store.place(
            [Put(item.temporary, item.final, digest) for item, digest in zip(staged, digests, strict=True)]
        )
        row = Row(
            phase,
            key,
            tuple(
                Part(item.final, look.bytes, digest, look.mark)
                for item, look, digest in zip(staged, looks, digests, strict=True)
            ),
            body,
        )
        if self.store.distant:
            self._create_row(row)
        else:
            self._write_row(row)
        if not self.store.distant or self._removed_name(phase, key) in self._looked("ledger/removed/"):
            self.store.delete(self._removed_name(phase, key))
        return row

    def _create_row(self, row: Row) -> None:
        """Puts a row where there is none, or one of equal results, as of a unit whose parts were taken away."""
        if self.store.create(self.row_name(row.phase, row.key), row_bytes(row)):
            return
        there = self.read_row(row.phase, row.key, now=True)
        if there is None or self._equal(there, [part.digest for part in row.parts]).parts != row.parts:
            self._write_row(row)

    @staticmethod
    def _equal(earlier: Row, digests: list[str]) -> Row:
        """The row of an earlier attempt at a unit, whose parts have these digests. Raises DamageError otherwise."""
        if [part.digest for part in earlier.parts] != digests:
            raise DamageError(
                f"two attempts at unit {earlier.phase}/{earlier.key} gave different results: the run is not "
                "reproducible. Does a stage depend on more than its batch and its settings?"
            )
        return earlier

    def distrust(self, row: Row, paths: Iterable[str]) -> None:
        """Has the next run read these parts of a row again, however untouched they look, and redo the unit."""
        wrong = set(paths)
        parts = [replace(part, stat=(0, 0)) if part.path in wrong else part for part in row.parts]
        self._write_row(Row(row.phase, row.key, tuple(parts), row.body))

    def _write_row(self, row: Row) -> None:
        self.store.write(self.row_name(row.phase, row.key), row_bytes(row))

    def keys(self, phase: str, *, now: bool = False) -> list[str]:
        """The keys of all rows of a phase, damaged ones included, in order. `now` as in `read_row`."""
        if self.store.distant and not now:
            return sorted(self._phase_rows(phase))
        names = self.store.names(f"ledger/rows/{phase}/")
        return sorted(Path(name).stem for name in names if name.endswith(".json"))

    def phases(self) -> list[str]:
        """The phases that have rows."""
        return sorted({name.split("/")[2] for name in self.store.names("ledger/rows/")})

    def keep_only(self, phase: str, keys: Iterable[str]) -> None:
        """Removes the rows of a phase that the present recipe does not ask for.

        In a distant store also the parts that only they claim: no attempt puts anything over what is there, and not
        all names of parts are of one key.
        """
        wanted = set(keys)
        gone = [key for key in self.keys(phase) if key not in wanted]
        old = [row for row in self.rows(phase) if row.key not in wanted] if gone and self.store.distant else []
        self.store.delete(*(self.row_name(phase, key) for key in gone))
        self.store.delete(*(self._removed_name(phase, key) for key in gone))
        for key in gone:
            self._rows.get(phase, {}).pop(key, None)
        if old:
            claimed = {part.path for row in self.rows(phase) for part in row.parts}
            self._delete(part.path for row in old for part in row.parts if part.path not in claimed)

    def sweep(self) -> None:
        """Removes files in the part folders that no row claims."""
        claimed = {part.path for row in self.rows() for part in row.parts}
        for names in self.store.each(self.store.names, [f"{folder}/" for folder in PART_FOLDERS]):
            self._delete(name for name in names if name not in claimed and "plans" not in name.split("/"))

    def _remove_damaged(self) -> None:
        """Removes rows that cannot be believed, of a distant store: no attempt puts anything over what is there."""
        for phase in self.phases():
            for key in self.keys(phase):
                if self.valid_row(phase, key, removed_is_fine=True) is None:
                    row = None
                    with suppress(DamageError):
                        row = self.read_row(phase, key)
                    self.store.delete(self.row_name(phase, key))
                    self._rows.get(phase, {}).pop(key, None)
                    self._delete(part.path for part in (row.parts if row else ()))

    def _delete(self, names: Iterable[str]) -> None:
        by_folder = defaultdict(list)
        for name in names:
            by_folder[f"{name.partition('/')[0]}/"].append(name)
        for folder, those in by_folder.items():
            self.store.delete(*those)
            for name in those:
                self._looks.get(folder, {}).pop(name, None)

    def rows(self, phase: str | None = None) -> list[Row]:
        """All readable rows (of a phase), by phase and key."""
        found = []
        for name in [phase] if phase else self.phases():
            for key in self.keys(name):
                try:
                    row = self.read_row(name, key)
                except DamageError:
                    continue
                if row is not None:
                    found.append(row)
        return found


def row_bytes(row: Row) -> bytes:
    """What the file of a row holds."""
    content = {"phase": row.phase, "key": row.key, "parts": [vars(part) for part in row.parts], "body": row.body}
    content = json.loads(json.dumps(content))
    return json.dumps({"check": digest_of(content), "row": content}).encode()
