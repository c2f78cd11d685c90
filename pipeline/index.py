"""The index of deduplication: what earlier crawls held, so that a later one is deduplicated against them.

A folder, or an address in s3 or gs, with `index.json`, which names the generations in their order, and a folder for
each generation. That holds signed parts (see `pipeline.signed`) of all documents of the run, losers too, with their
band tables. The tables have three columns more: `rank`, the place in the total order of all documents of the index,
`survivor`, the number of the document that each one lost to, or its own, and `reason`, why (the place in
`pipeline.dedup.REASONS`, -1 where kept). A document's number is its place in the generations' parts, one behind
another.

Nothing in an index ever changes but by generations added at its end: what was published is not taken back. The
parameters that its contents depend on are named in it, and another run's must be the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.aside import sync
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.ledger import Part, digest_of, file_digest
from pipeline.lock import FolderLock
from pipeline.signed import SignedPart
from pipeline.storage.address import is_remote
from pipeline.store import Put, Store
from pipeline.store.folder import FolderStore
from pipeline.versions import VERSIONS
from pipeline.work import Context, Task, once
from stages import minhash

NAME = "index.json"
FORMAT = "corpusmill-dedup-index"
FORMAT_VERSION = 1
HIDDEN = ".work"
"""In the index: the lock, and what is being written."""
LOCKS = f"{HIDDEN}/lock/"
"""At an address: the locks."""
PIN = "ledger/index.json"
"""In the run folder: which generations the run found, and which one it has added."""


_MADE = re.compile(r"\.[0-9a-f]{32}\.generation$")
"""How the folder of a generation ends, behind the recipe's name."""


@dataclass(frozen=True)
class Generation:
    """The documents of one crawl."""

    name: str
    """Of the recipe."""
    folder: str
    parts: list[dict[str, Any]]
    """Of each part: `rows`, and `files`, the digest of each by its ending."""

    @property
    def digest(self) -> str:
        """Of all that it holds."""
        return digest_of(self.parts)

    @property
    def documents(self) -> int:
        """How many."""
        return sum(part["rows"] for part in self.parts)


@dataclass(frozen=True)
class Index:
    """An index as its file says."""

    folder: Path | str
    """Of this machine, or an address."""
    parameters: dict[str, Any]
    generations: list[Generation]

    @cached_property
    def store(self) -> Store:
        """Its files."""
        return _store(self.folder)

    @classmethod
    def read(cls, folder: Path | str) -> Index | None:
        """The index in a folder; None where there is none. Raises UserError, DamageError."""
        path = f"{folder}/{NAME}"
        store = _store(folder)
        try:
            data = json.loads(store.read(NAME))
            head = data["format"], data["format_version"]
            if head != (FORMAT, FORMAT_VERSION):
                raise UserError(f"{path} is {head[0]} of version {head[1]}; this corpusmill reads {FORMAT_VERSION}")
            return cls(folder, data["parameters"], [Generation(**one) for one in data["generations"]])
        except FileNotFoundError:
            if _holds_other_files(store):
                raise UserError(f"{folder} is not empty and no index of deduplication: it has no {NAME}") from None
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{path} is damaged: {error!r}") from error

    def write(self) -> None:
        """Puts the index's file in place of the one that is there."""
        data = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "parameters": self.parameters,
            "generations": [asdict(one) for one in self.generations],
        }
        self.store.write(NAME, json.dumps(data, indent=1).encode())

    def damage(self) -> list[str]:
        """What is wrong with its files, each read whole."""
        found = []
        for one in self.generations:
            for number, part in enumerate(one.parts):
                for ending, digest in part["files"].items():
                    name = f"{one.folder}/{number:05d}.{ending}"
                    if self.store.look(name) is None:
                        found.append(f"{self.folder}/{name} is missing")
                    elif self.store.digest(name) != digest:
                        found.append(f"{self.folder}/{name} has other contents than were written")
        return found

    def cut_short(self) -> str | None:
        """The first file that is missing or has another size than its rows ask for."""
        near = self.parameters["near"]
        for one in self.generations:
            looks = self.store.looks(f"{one.folder}/")
            for number, part in enumerate(one.parts):
                sizes: dict[str, int | None] = {"parquet": None, "names": None}
                if near:
                    rows = part["rows"]
                    sizes |= {"bin": 4 * near["permutations"] * rows, "bands": 12 * near["bands"] * rows}
                for ending, size in sizes.items():
                    name = f"{one.folder}/{number:05d}.{ending}"
                    look = looks.get(name)
                    if look is None:
                        return f"{self.folder}/{name} is missing"
                    if size is not None and look.bytes != size:
                        return f"{self.folder}/{name} holds {look.bytes} bytes instead of {size}"
        return None

    def parts(self) -> list[SignedPart]:
        """Its parts, in order."""
        return [
            SignedPart(stem, stem.with_name(f"{stem.name}.bands") if "bands" in part["files"] else None, part["rows"],
                       age, True, self.opened)
            for age, one in enumerate(self.generations)
            for number, part in enumerate(one.parts)
            for stem in [self._root / one.folder / f"{number:05d}"]
        ]  # fmt: skip

    @property
    def _root(self) -> Path:
        """What the paths of its parts begin with: in a folder they are whole, at an address they begin there."""
        return self.folder if isinstance(self.folder, Path) else Path()

    @property
    def opened(self) -> Callable[[str], Path]:
        """What makes a file of this machine of such a path."""
        return Path if isinstance(self.folder, Path) else self.store.file


def _store(folder: Path | str, fence: int | None = None, user: Store | None = None) -> Store:
    if isinstance(folder, Path):
        return FolderStore(folder, folder / HIDDEN)
    from pipeline.store.objects import ObjectStore

    return ObjectStore(folder, fence, LOCKS, user)


def _holds_other_files(store: Store) -> bool:
    if isinstance(store, FolderStore):
        return store.folder.is_dir() and any(not entry.name.startswith(".") for entry in store.folder.iterdir())
    return bool([name for name in store.names("") if not name.startswith(".")])


def parameters_of(context: Context) -> dict[str, Any]:
    """What the contents of an index depend on, of this recipe."""
    from pipeline.phases import bands

    dedup = context.recipe.dedup
    assert dedup is not None
    rule = bands.rule_of(context)
    near = dedup.near
    return {
        "exact": sorted(dedup.exact),
        "near": None if rule is None or near is None else vars(rule) | {"ngram": near.ngram},
        "versions": {phase: VERSIONS[phase] for phase in ("signatures", "bands")},
        "minhash": minhash.VERSION,
        "unicode": unicodedata.unidata_version,
    }


def folder_of(context: Context) -> Path | str | None:
    """The folder of the recipe's index, or its address, if it asks for one."""
    named = context.recipe.dedup.index if context.recipe.dedup else None
    if named is not None and is_remote(named):
        return named.rstrip("/")
    return None if named is None else Path(os.path.normpath(context.folder.resolve() / named))


def begin(context: Context) -> None:
    """Notes which generations the run is deduplicated against, at its start: those that it found the first time.

    Raises RecipeError where the index has other parameters, UserError where it holds this run behind other crawls than
    then, or has got others behind it and the run is to be done anew; DamageError where its files are not whole.
    """
    folder = folder_of(context)
    if folder is None:
        return
    pin = _pin(context)
    there = Index.read(folder)
    if there is not None and (wrong := there.cut_short()):
        raise DamageError(f"{wrong}. `corpusmill index show {folder} --check` reads all of it.")
    digests = [one.digest for one in there.generations] if there else []
    if there is not None:
        ours, theirs = parameters_of(context), there.parameters
        for name in ours:
            if ours[name] != theirs.get(name):
                raise RecipeError(
                    f"dedup.index: {folder} was made with {name} {theirs.get(name)}, this recipe has {ours[name]}: "
                    "signatures and keys of different parameters cannot be compared. Use the same, or another folder."
                )
    if pin is None or (pin["before"] != digests[: len(pin["before"])] and pin["added"] not in digests):
        pin = {"before": digests, "added": None}  # another index
    if pin["added"] not in digests:
        pin["added"] = None  # it never came to that
    before, added = pin["before"], pin["added"]
    if digests[: len(before)] != before or (added is not None and digests.index(added) != len(before)):
        raise UserError(
            f"{folder} holds this run behind other crawls than those that it was deduplicated against; it cannot be "
            "done anew with this index"
        )
    behind = digests[len(before) :]
    if behind and behind != [added]:
        if added is None:
            pin["before"] = digests  # nothing of this run is in it: it sees what is there now
        elif behind[0] != added or pin.get("asked") != _asked(context):
            raise UserError(f"later crawls were deduplicated against this run in {folder}: it cannot be done anew")
    context.ledger.store.write(PIN, json.dumps(pin).encode())


def _asked(context: Context) -> str:
    """What of the recipe decides on documents and duplicates."""
    return digest_of(context.recipe.model_dump(mode="json", include={"inputs", "stages", "host", "dedup", "pins"}))


def _pin(context: Context) -> dict[str, Any] | None:
    try:
        return dict(json.loads(context.ledger.store.read(PIN)))
    except (FileNotFoundError, ValueError):
        return None


@once
def known(context: Context) -> list[SignedPart]:
    """The parts of the generations that this run is deduplicated against."""
    found = _before(context)
    return found.parts() if found else []


def opener(context: Context) -> Callable[[str], Path]:
    """What makes files of this machine of the paths of the index's parts."""
    folder = folder_of(context)
    return _store(folder, user=context.ledger.store).file if isinstance(folder, str) else Path


def digest(context: Context) -> list[str]:
    """What these generations hold."""
    found = _before(context)
    return [one.digest for one in found.generations] if found else []


@once
def _before(context: Context) -> Index | None:
    folder, pin = folder_of(context), _pin(context)
    there = None if folder is None else Index.read(folder)
    if there is None or pin is None:
        return None
    found = Index(there.folder, there.parameters, there.generations[: len(pin["before"])])
    return _held(found, _store(there.folder, user=context.ledger.store))


def refuse_again(context: Context, digests: list[str]) -> None:
    """Raises UserError where the index remembers a crawl of the same documents: all would be lost to themselves.

    `digests` are those of the `.names` of the run's signed parts.
    """
    there = _before(context)
    for one in there.generations if there and digests else ():
        if sorted(part["files"]["names"] for part in one.parts) == sorted(digests):
            raise UserError(
                f"{folder_of(context)} remembers the documents of this run already, as crawl '{one.name}': all of them "
                "would be lost to themselves. Was the run folder removed? Use another index, or none."
            )


def needs(context: Context) -> list[Task]:
    """What `add` reads, as a unit that the runner can ask for where `corpusmill clean` took it away."""
    from pipeline.phases import bands, clusters, exact, signatures

    pin = _pin(context)
    if folder_of(context) is None or pin is None or context.trial.given or pin["added"] is not None:
        return []
    rows = [row for row, _ in signatures.committed(context)] + [exact.committed(context), clusters.committed(context)]
    parts = [part for row in rows for part in row.parts] + bands.committed(context)
    return [Task("index-add", "", 0, {}, tuple(part.path for part in parts))]


def column(part: SignedPart, name: str) -> npt.NDArray[np.int64]:
    """A column of numbers of a part of an index."""
    found: npt.NDArray[np.int64] = pq.read_table(part.file("parquet"), columns=[name]).column(0).to_numpy()
    return found


def add(context: Context) -> None:
    """Puts the documents of a finished run into its index, as its newest generation; once.

    Raises UserError where the index has grown since the run began, LockedError where another run adds to it now.
    """
    from pipeline.phases import bands, clusters, signatures

    folder, pin = folder_of(context), _pin(context)
    if folder is None or pin is None or context.trial.given:  # a trial's few documents are no crawl
        return
    signed = [part.digest for row, _ in signatures.committed(context) for part in row.parts]
    tables = [part.digest for part in bands.committed(context)]
    outcome = digest_of([signed, tables, [part.digest for part in clusters.committed(context).parts]])
    with _locked(folder) as store:
        there = _held(Index.read(folder) or Index(folder, parameters_of(context), []), store)
        there.write()  # from here on the folder is an index, whatever comes in between
        count = len(pin["before"])
        digests = [one.digest for one in there.generations]
        if digests[count : count + 1] == [pin["added"]] and pin.get("outcome") == outcome:
            return
        if digests[:count] != pin["before"] or digests[count:] not in ([], [pin["added"]]):
            raise UserError(f"another run has added to {folder} meanwhile; run again, against what it holds now")
        name = _name(context.recipe.name)
        made = Generation(context.recipe.name, name, _write_parts(context, _new(store, name)))
        pin |= {"added": made.digest, "outcome": outcome, "asked": _asked(context)}
        context.ledger.store.write(PIN, json.dumps(pin).encode())
        _finish(_held(Index(folder, there.parameters, [*there.generations[:count], made]), store))


def merge(folders: Sequence[Path | str], out: Path | str) -> Index:
    """One index of several, in a new folder: their generations one behind another, the first one's oldest.

    What was published from any of them stays: a later crawl is deduplicated against all, and where its documents
    resemble several, they lose to the oldest. Raises RecipeError where parameters differ or `out` is taken.
    """
    found: list[Index] = []
    for folder in folders:
        there = Index.read(folder)
        if there is None:
            raise UserError(f"{folder} is no index of deduplication: it has no {NAME}")
        if found and there.parameters != found[0].parameters:
            raise RecipeError(
                f"{folder} was made with {there.parameters}, {found[0].folder} with {found[0].parameters}: signatures "
                "and keys of different parameters cannot be compared"
            )
        found.append(there)
    if Index.read(out) is not None:
        raise RecipeError(f"{out} holds an index already; give another folder")
    with _locked(out) as store:
        _held(Index(out, found[0].parameters, []), store).write()
        generations: list[Generation] = []
        for there in found:
            before = sum(one.documents for one in generations)
            for one in there.generations:
                name = _name(one.name)
                new, parts = _new(store, name), []
                for number, part in enumerate(one.parts):
                    stem = f"{number:05d}"
                    table = pq.read_table(there.store.file(f"{one.folder}/{stem}.parquet"))
                    for column in ("rank", "survivor"):
                        place = table.schema.get_field_index(column)
                        moved = pa.compute.add(table.column(column), pa.scalar(before, pa.uint32()))
                        table = table.set_column(place, column, moved)
                    files = {ending: there.store.file(f"{one.folder}/{stem}.{ending}") for ending in part["files"]}
                    parts.append(_write_part(new, stem, table, files, dict(part["files"])))
                generations.append(Generation(one.name, name, parts))
                before_all = sum(g.documents for g in generations)
                if before_all >= 2**32:
                    raise RecipeError(f"together they hold {before_all} documents; fewer than 2^32 can be joined")
        merged = _held(Index(out, found[0].parameters, generations), store)
        _finish(merged)
    return merged


def _held(index: Index, store: Store) -> Index:
    """The index with this store, such as that of the holder of its lock."""
    index.__dict__["store"] = store
    return index


@contextmanager
def _locked(folder: Path | str) -> Iterator[Store]:
    """While this lasts, nobody else writes into the index; what killed runs left there is removed first."""
    if isinstance(folder, str):
        with _locked_there(folder) as store:
            yield store
        return
    with FolderLock(folder / HIDDEN):
        there = Index.read(folder)
        named = {one.folder for one in there.generations} if there else set()
        for path in (*folder.iterdir(), *(folder / HIDDEN).iterdir()):
            if path.is_dir() and path.name not in named and _MADE.search(path.name):
                shutil.rmtree(path)
            elif path.parent.name == HIDDEN and path.name != "lock":
                path.unlink()
        yield _store(folder)
        if (gone := Index.read(folder)) is not None:
            for name in named - {one.folder for one in gone.generations}:
                shutil.rmtree(folder / name)


@contextmanager
def _locked_there(address: str) -> Iterator[Store]:
    """As `_locked`, at an address."""
    from pipeline.store.lease import StoreLock

    with StoreLock(address, LOCKS) as lock:
        store = _store(address, lock.number)
        for kept in (True, False):  # what others left, then what this one replaced
            there = Index.read(address)
            named = {one.folder for one in there.generations} if there else set()
            folders = ((name, name.partition("/")[0]) for name in store.names(""))
            store.delete(*(name for name, top in folders if top not in named and _MADE.search(top)))
            if kept:
                yield store


def _name(recipe: str) -> str:
    return f"{recipe}.{uuid.uuid4().hex}.generation"


def _new(store: Store, name: str) -> Path:
    new = store.scratch / name
    new.mkdir(parents=True)
    return new


def _finish(index: Index) -> None:
    """Puts new generations where they belong, then names them."""
    for one in index.generations:
        new = index.store.scratch / one.folder
        if new.exists() and isinstance(index.folder, Path):
            sync(new)
            os.replace(new, index.folder / one.folder)
        elif new.exists():
            names = {f"{number:05d}.{end}": digest for number, part in enumerate(one.parts)
                     for end, digest in part["files"].items()}  # fmt: skip
            index.store.place([Put(new / name, f"{one.folder}/{name}", digest) for name, digest in names.items()])
            shutil.rmtree(new)
    if isinstance(index.folder, Path):
        sync(index.folder)
    index.write()


def _write_parts(context: Context, new: Path) -> list[dict[str, Any]]:
    """The signed parts of this run, as an index has them."""
    from pipeline.phases import bands, clusters, exact, signatures

    parts = [part for part in exact.signed(context) if not part.known]
    first = exact.committed(context).body["known"]
    outcome = {
        "rank": exact.found(context, "rank"),
        "survivor": clusters.outcome_of(context, "final"),
        "reason": clusters.outcome_of(context, "why"),
    }
    tables: Sequence[Part | None] = bands.committed(context) or [None] * len(parts)
    found = []
    for number, (part, (row, _), table) in enumerate(
        zip(parts, signatures.committed(context), tables, strict=True)
    ):  # fmt: skip
        files = {one.path.rpartition(".")[2]: one for one in row.parts} | ({} if table is None else {"bands": table})
        keys = [name for name in pq.read_schema(part.file("parquet")).names if name.endswith("_key")]
        own = pq.read_table(part.file("parquet"), columns=["id", *keys])
        for name, values in outcome.items():
            own = own.append_column(name, pa.array(np.array(values[first : first + part.rows])))
        paths = dict(zip(files, context.files(one.path for one in files.values()), strict=True))
        digests = {ending: one.digest for ending, one in files.items()}
        found.append(_write_part(new, f"{number:05d}", own, paths, digests))
        first += part.rows
    return found


def _write_part(
    new: Path, stem: str, table: pa.Table, files: dict[str, Path], digests: dict[str, str]
) -> dict[str, Any]:
    path = new / f"{stem}.parquet"
    pq.write_table(table, path, compression="zstd")
    sync(path)
    digests["parquet"] = file_digest(path)
    for ending, source in files.items():
        if ending != "parquet":
            try:
                os.link(source, new / f"{stem}.{ending}")  # neither the run nor the index ever writes into it
            except OSError:
                shutil.copyfile(source, new / f"{stem}.{ending}")
            sync(new / f"{stem}.{ending}")
    return {"rows": table.num_rows, "files": dict(sorted(digests.items()))}
