"""`corpusmill verify`: reads everything that a run committed, and says what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import accounts
from pipeline.corpora import checks
from pipeline.corpora.folder import lock_of
from pipeline.errors import DamageError, UserError
from pipeline.ledger import PART_FOLDERS, Ledger, Part, Row
from pipeline.shards import Corpus
from pipeline.storage.patience import Unavailable
from pipeline.store.mirror import mirrored, refuse_much
from pipeline.tokenizers import Options, open_file


@dataclass(frozen=True)
class Damage:
    """A file that does not hold what it should, and what mends it."""

    file: str
    reason: str
    mended_by: str


@dataclass
class Report:
    """What was checked, and what was found."""

    complete: bool
    """Whether the run is; where it is not, only what is there was judged."""
    rows: int = 0
    parts: int = 0
    bytes: int = 0
    removed: int = 0
    """Parts that `corpusmill clean` took away."""
    shards: int = 0
    documents: int = 0
    tokens: int = 0
    inner: int = 0
    """Boundary tokens inside documents."""
    identities: bool = False
    """Whether the two identities were judged."""
    damage: list[Damage] = field(default_factory=list)
    marked: bool = False
    """Whether damaged parts were marked for the next run, also where they look untouched."""
    notes: list[str] = field(default_factory=list)
    """What could not be judged, and why."""
    mended_by: str = "the next run"
    """What mends damage for which nothing else is said."""

    def add(self, file: Path | str, reason: str, mended_by: str | None = None) -> None:
        """Notes damage; of each file what was found first, from which the rest mostly follows."""
        if any(damage.file == str(file) for damage in self.damage):
            return
        self.damage.append(Damage(str(file), reason, mended_by or self.mended_by))


def verify(folder: Path | str) -> Report:
    """Checks a run folder, or a run at an address, from end to end, and marks damaged parts where it can be written to.

    Raises UserError where there is no run, or one at an address has more shards than this machine may keep copies of,
    LockedError where one is at work in it.
    """
    ledger = Ledger(folder)
    ledger.head()
    lock = lock_of(ledger, "Verify it")  # without it nothing is marked either
    try:
        report = Report(complete=ledger.complete() is not None)
        rows = list(_rows(ledger, report))
        shards = not any("shards" in ledger.removed(row) for row in rows if row.phase == "shard")
        if ledger.store.distant:  # every part is read where it lies; what is then looked at is a copy of it
            copied = ("shards/", "tokenizer/")
            parts = [part for row in rows for part in row.parts if part.path.startswith(copied)]
            refuse_much(ledger, sum(part.bytes for part in parts if ledger.holds(part.path)))  # before all is read
            broken = _check_parts(ledger, rows, report, {})
            whole = not any(damage.file.startswith(copied) for damage in report.damage)
            near = mirrored(str(folder), ("shards", "tokenizer")) if whole else None
            if near is not None and shards:
                _check_corpus(near, rows, report)
        else:
            near = ledger.out
            digests = _check_corpus(near, rows, report) if shards else {}
            broken = _check_parts(ledger, rows, report, digests)
        _check_unclaimed(ledger, rows, report)
        _check_own_files(ledger, report)
        if near is not None:
            _check_tokenizer(ledger, near, rows, report)
        _check_identities(ledger, report)
        if lock is not None:
            report.marked = _mark(ledger, broken)
    finally:
        if lock is not None:
            lock.release()
    return report


def _mark(ledger: Ledger, broken: list[tuple[Row, list[str]]]) -> bool:
    try:
        for row, paths in broken:
            ledger.distrust(row, paths)
    except (OSError, Unavailable):
        return False
    return bool(broken)


def _rows(ledger: Ledger, report: Report) -> Iterator[Row]:
    """All rows that are whole."""
    for phase in ledger.phases():
        for key in ledger.keys(phase):
            report.rows += 1
            try:
                row = ledger.read_row(phase, key)
            except DamageError as error:
                report.add(ledger.row_name(phase, key), str(error.__cause__ or error))
                continue
            except OSError as error:
                report.add(ledger.row_name(phase, key), f"cannot be read: {error.strerror}", "you")
                continue
            if row is not None:
                yield row


def _check_parts(
    ledger: Ledger, rows: list[Row], report: Report, digests: dict[str, str]
) -> list[tuple[Row, list[str]]]:
    """Reads every part in full whose digest is not known; returns the rows with damaged parts."""

    def problem_of(part: Part) -> str | OSError | Unavailable | None:
        try:
            return ledger.part_problem(part, digest=digests.get(part.path))
        except (OSError, Unavailable) as error:
            return error

    broken = []
    for row in rows:
        gone = ledger.removed(row)
        wrong = []
        there = [part for part in row.parts if part.path.split("/")[0] not in gone or ledger.holds(part.path)]
        report.removed += len(row.parts) - len(there)
        for part, problem in zip(there, ledger.store.each(problem_of, there), strict=True):
            report.parts += 1
            report.bytes += part.bytes
            if isinstance(problem, Exception):
                why = problem.strerror if isinstance(problem, OSError) else problem.why
                report.add(part.path, f"cannot be read: {why}", "you, then run again")
            elif problem is not None:
                report.add(part.path, problem)
                wrong.append(part.path)
        if wrong:
            broken.append((row, wrong))
    return broken


def _check_unclaimed(ledger: Ledger, rows: list[Row], report: Report) -> None:
    claimed = {part.path for row in rows for part in row.parts}
    for folder in PART_FOLDERS:
        for name in ledger.store.names(f"{folder}/"):
            if name not in claimed and "plans" not in name.split("/"):
                report.add(name, "no manifest row claims it", "the next run")


def _check_own_files(ledger: Ledger, report: Report) -> None:
    for name, digest in (ledger.complete() or {}).items():
        if not ledger.store.exists(name):
            report.add(name, "is missing")
        elif ledger.store.digest(name) != digest:
            report.add(name, "has other contents than the finished run left")


def _check_corpus(folder: Path, rows: list[Row], report: Report) -> dict[str, str]:
    """`corpus.json` against the shards and against the ledger; the ledger's digests of the files that were read."""
    if not (folder / "corpus.json").exists():
        return {}
    corpus, found = check_described(folder, report)
    if corpus is None or found is None:
        return {}
    shards = [shard for split in corpus.splits for shard in corpus.shards(split)]
    said = {shard.name: (shard.split, shard.documents, shard.tokens, shard.files) for shard in shards}
    committed = {
        Path(row.body["stem"]).name: tuple(row.body[name] for name in ("split", "documents", "tokens", "files"))
        for row in rows
        if row.phase == "shard"
    }
    model = next((row.body for row in rows if row.phase == "tokenizer"), None)
    if model is not None and (corpus.vocabulary, corpus.special) != (model["vocabulary"], model["special"]):
        report.add("corpus.json", "names another vocabulary than the tokenizer's row")
    if not any(damage.file.startswith("ledger/rows/shard") for damage in report.damage):
        for name in sorted(said.keys() | committed.keys()):
            if said.get(name) != committed.get(name):
                report.add("corpus.json", f"does not say of {name} what its manifest row says")
    return {path.relative_to(folder).as_posix(): digest for path, (_, digest) in found.digests.items()}


def check_described(folder: Path, report: Report) -> tuple[Corpus | None, checks.Checked | None]:
    """`corpus.json` and every file that it names, by what they say themselves; None where it cannot be read."""
    try:
        corpus = checks.read_meta(folder)
    except DamageError as error:
        report.add("corpus.json", str(error))
        return None, None
    found = checks.check_corpus(corpus)
    take_over(found, folder, report)
    return corpus, found


def take_over(found: checks.Checked, folder: Path, report: Report) -> None:
    """Adds what was found in shards to a report."""
    report.shards += found.shards
    report.documents += found.documents
    report.tokens += found.tokens
    report.inner += found.inner
    for path, reason in found.problems:
        report.add(path.relative_to(folder).as_posix(), reason)


def _check_tokenizer(ledger: Ledger, folder: Path, rows: list[Row], report: Report) -> None:
    for row in rows:
        if row.phase != "tokenizer" or "tokenizer" in ledger.removed(row):
            continue
        path = row.body["file"]
        if any(damage.file == path for damage in report.damage):
            continue
        try:
            digest = open_file(folder / path, Options(**row.body["options"])).digest
        except UserError as error:
            report.add(path, str(error))
            continue
        if digest != row.body["digest"]:
            report.add(path, "is not the tokenizer that the ledger names")


def _check_identities(ledger: Ledger, report: Report) -> None:
    """The books, where nothing that they are counted from is damaged."""
    spoiled = ("documents/", "dropped/", "ledger/rows/clean", "ledger/rows/documents", "ledger/rows/losers")
    if not report.complete or any(damage.file.startswith(spoiled) for damage in report.damage):
        return
    report.identities = True
    for problem in accounts.identity_problems(ledger):
        report.add("ledger", f"the books do not balance: {problem}", "nobody: this is a fault of corpusmill")
