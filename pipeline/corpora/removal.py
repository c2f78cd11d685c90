"""`corpusmill remove`: a corpus without the documents that somebody asked to have taken out, and a record of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpora import described, new
from pipeline.corpora import folder as folders
from pipeline.errors import RecipeError, UserError
from pipeline.look.runfolder import RunFolder
from pipeline.parts import read_batches
from pipeline.shards import Corpus, Shard, file_sha256
from stages.takedown import Matcher, Request, once, read

RECORD = "removed.json"
RECORD_FORMAT = ("corpusmill-removal", 1)
LIST = "takedown.txt"
_WAYS = {"url": "--url", "domain": "--domain", "id": "--id"}


@dataclass
class Removal:
    """What was asked for, and what was found."""

    requests: list[Request]
    documents: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    """Of each id that is taken out: `url`, `source`, `by` (the line of a request, or why else), `copies`."""
    named: Counter[str] = field(default_factory=Counter)
    """How many of them each request names, by its line."""
    lost: dict[bytes, str] = field(default_factory=dict)
    """Ids that are not in the corpus, but would come back in the next run: duplicates of what is taken out."""
    missing: list[Request] = field(default_factory=list)
    duplicates: int = 0
    """Duplicates of what is taken out that the deduplication dropped, where they were not asked for."""
    tokens: int = 0
    copies: int = 0
    gone: dict[str, dict[str, described.Figures]] = field(default_factory=dict)
    """What went of each shard that lost something, by source."""
    shards: int = 0
    """Shards that had to be written anew."""

    def matched(self) -> pa.Array:
        """The ids, in order."""
        return pa.array(sorted(self.documents), pa.binary(16))


def requests_of(given: Mapping[str, Sequence[str]], lists: Iterable[Path]) -> list[Request]:
    """The requests of the options `--url`, `--domain`, `--id`, and of list files. Raises RecipeError."""
    found = []
    for kind, values in given.items():
        for value in values:
            request = Request(kind, value.strip())
            try:
                _ = request.key
            except ValueError as error:
                raise RecipeError(f"{_WAYS[kind]} {value}: {error}") from error
            found.append(request)
    for path in lists:
        try:
            found += read(path.read_bytes(), str(path))
        except OSError as error:
            raise RecipeError(f"--list {path}: {error.strerror}") from error
        except ValueError as error:
            raise RecipeError(f"--list {error}") from error
    if not found:
        raise RecipeError("nothing is asked for; give --url, --domain, --id or a --list with requests in it")
    return once(found)


def remove(
    source: Path, requests: list[Request], out: Path, *, date: str | None, missing_ok: bool, with_duplicates: bool
) -> Removal:
    """Writes the corpus in `source` without what is asked for as a new corpus in `out`, with a record of it.

    Raises UserError where a request names no document and `missing_ok` is not given, and where nothing would be left.
    """
    run = folders.finished(source)
    with folders.at_rest(run):
        corpus = folders.corpus_of(run)
        removal = _find(run, corpus, requests, with_duplicates=with_duplicates)
        if removal.missing and not missing_ok:
            raise UserError(_missing_text(run, removal))
        with new.new_folder(out) as aside:
            _write(run, corpus, removal, aside, date)
    return removal


def _find(run: RunFolder, corpus: Corpus, requests: list[Request], *, with_duplicates: bool) -> Removal:
    removal = Removal(requests)
    matcher = Matcher(requests)
    met: set[int] = set()
    for path in _tables(run, corpus):
        for batch in read_batches(path, ["id", "url", "source"]):
            found = matcher.match(batch.column("id"), batch.column("url"))
            for row in np.flatnonzero(found >= 0).tolist():
                if _note(removal, batch, row, matcher.requests[found[row]].line):
                    numbers = matcher.naming(batch.column("id")[row].as_py(), batch.column("url")[row].as_py())
                    met.update(numbers)
                    removal.named.update(matcher.requests[number].line for number in numbers)
    if with_duplicates and not isinstance(run, folders.CopiedFolder):
        _add_duplicates(run, removal, matcher, met)
        _complete(run, corpus, removal)
    elif with_duplicates:
        raise UserError(
            f"--with-duplicates: {run.folder} has no table of duplicates; give the folder of the run that made it"
        )
    else:
        removal.duplicates = sum(len(rows) for rows in _clusters(run, removal.matched(), ("survivor",)))
    removal.missing = [request for number, request in enumerate(matcher.requests) if number not in met]
    return removal


def _tables(run: RunFolder, corpus: Corpus) -> list[Path]:
    """Every table that holds documents of the corpus."""
    shards = [shard.path(".docs.parquet") for split in corpus.splits for shard in corpus.shards(split)]
    return [*shards, *([] if run.removed("documents") else run.parts("documents"))]


def _note(removal: Removal, batch: pa.RecordBatch, row: int, by: str) -> bool:
    """Notes a document to be taken out; whether it was not yet."""
    known = batch.column("id")[row].as_py()
    if known in removal.documents:
        return False
    facts = {name: batch.column(name)[row].as_py() for name in ("url", "source")}
    removal.documents[known] = facts | {"by": by, "copies": []}
    return True


def _clusters(run: RunFolder, wanted: pa.Array, sides: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of the duplicates in which one of these ids stands on one of the sides."""
    if isinstance(run, folders.CopiedFolder) or run.removed("duplicates") or not len(wanted):
        return
    names = ["loser", "survivor", "loser_url", "survivor_url"]
    for path in run.parts("duplicates"):
        for batch in read_batches(path, names):
            hits = [pa.compute.is_in(batch.column(side), value_set=wanted) for side in sides]
            hit = hits[0] if len(hits) == 1 else pa.compute.or_(*hits)
            if pa.compute.any(hit).as_py():
                yield batch.filter(hit)


def _add_duplicates(run: RunFolder, removal: Removal, matcher: Matcher, met: set[int]) -> None:
    """Takes the whole clusters of what is asked for, also of documents that lost to another one."""
    if run.removed("duplicates"):
        raise UserError(f"--with-duplicates: `corpusmill clean` took the duplicates out of {run.folder}")
    members = set(removal.documents)
    for path in run.parts("duplicates"):
        for batch in read_batches(path, ["loser", "loser_url"]):
            found = matcher.match(batch.column("loser"), batch.column("loser_url"))
            hits = batch.filter(pa.array(found >= 0))
            losers = hits.column("loser").to_pylist()
            for loser, url in zip(losers, hits.column("loser_url").to_pylist(), strict=True):
                met.update(matcher.naming(loser, url))
            members.update(losers)
    while True:
        before = len(members)
        for batch in _clusters(run, pa.array(sorted(members), pa.binary(16)), ("loser", "survivor")):
            members.update(batch.column("loser").to_pylist() + batch.column("survivor").to_pylist())
        if len(members) == before:
            break
    removal.lost = dict.fromkeys(sorted(members - removal.documents.keys()), "a duplicate of what is taken out")


def _complete(run: RunFolder, corpus: Corpus, removal: Removal) -> None:
    """Moves those duplicates that are in the corpus to what is taken out."""
    wanted = pa.array(list(removal.lost), pa.binary(16))
    for path in _tables(run, corpus) if len(wanted) else ():
        for batch in read_batches(path, ["id", "url", "source"]):
            hit = pa.compute.is_in(batch.column("id"), value_set=wanted).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(hit).tolist():
                _note(removal, batch, row, "duplicate")
                removal.lost.pop(batch.column("id")[row].as_py(), None)


def _missing_text(run: RunFolder, removal: Removal) -> str:
    some = "; ".join(request.line for request in removal.missing[:5])
    more = f" and {len(removal.missing) - 5} more" if len(removal.missing) > 5 else ""
    text = f"{len(removal.missing)} of {len(removal.requests)} requests name no document of {run.folder}: {some}{more}."
    hint = "" if isinstance(run, folders.CopiedFolder) else " `corpusmill trace` says what became of a URL or id;"
    return f"{text}{hint} --missing-ok goes on without them."


def _write(run: RunFolder, corpus: Corpus, removal: Removal, aside: Path, date: str | None) -> None:
    gone = removal.matched()
    splits: dict[str, list[dict[str, Any]]] = {}
    for split in corpus.splits:
        kept = []
        for shard in corpus.shards(split):
            keep = _keeps(corpus, shard, gone, removal)
            if keep is not None and not keep.any():
                removal.shards += 1
                continue
            removal.shards += keep is not None
            kept.append((corpus, shard, keep))
        splits[split] = new.put_kept(kept, aside)
    splits = {split: shards for split, shards in splits.items() if shards}
    if "train" in corpus.splits and "train" not in splits:
        raise UserError("no document would be left in the split train")
    lost = _write_documents(run, gone, aside)
    new.put_folder(run, "tokenizer", aside)
    for name in ("recipe.yaml", "pins.json"):
        if (run.folder / name).is_file():
            new.put(run.folder / name, aside / name)
    record = _record(run, removal, date)
    new.write_json(aside / RECORD, record)
    _write_list(run, removal, aside)
    meta = dict(corpus.meta) | {"splits": described.split_facts(splits)}
    train = splits.get("train", [])
    if described.by_source(meta):
        gone_now = described.added(removal.gone.get(shard.name, {}) for shard in corpus.shards("train"))
        meta["mixture"] = described.refreshed(meta["mixture"], described.figures(aside, train), gone_now)
    meta["sources"] = _sources(corpus, removal, lost)
    if corpus.layout == "by_source":
        meta["files"] = dict(meta["files"]) | described.write_plan(corpus.mixture(), train, aside)
    meta["removed"] = {
        "file": RECORD, "documents": len(removal.documents), "copies": removal.copies, "tokens": removal.tokens,
        "of": record["of"],
    }  # fmt: skip
    new.finish(aside, meta)


def _keeps(corpus: Corpus, shard: Shard, gone: pa.Array, removal: Removal) -> npt.NDArray[np.bool_] | None:
    """Which documents of a shard stay; None where all do. Notes the copies that go."""
    found = []
    for batch in read_batches(shard.path(".docs.parquet"), ["id", "copy", "token_start", "token_end"]):
        hit = pa.compute.is_in(batch.column("id"), value_set=gone)
        found.append(~hit.to_numpy(zero_copy_only=False))
        for row in batch.filter(hit).to_pylist():
            size = row["token_end"] - row["token_start"]
            place = {"shard": shard.name, "copy": row["copy"], "from": row["token_start"], "to": row["token_end"]}
            removal.documents[row["id"]]["copies"].append(place)
            removal.tokens += size
            removal.copies += 1
    keep = np.concatenate([np.ones(0, bool), *found])
    if keep.all():
        return None
    removal.gone[shard.name] = described.of_rows(shard.path(".docs.parquet"), np.flatnonzero(~keep))
    return keep


def _write_documents(run: RunFolder, gone: pa.Array, aside: Path) -> dict[str, list[int]]:
    """The documents without those that go; of each source how many, and how many characters, went."""
    lost: dict[str, list[int]] = {}
    if run.removed("documents"):
        return lost
    for path in run.parts("documents"):
        target = aside / "documents" / path.name
        hits = [pa.compute.is_in(batch.column("id"), value_set=gone) for batch in read_batches(path, ["id"])]
        hit = np.concatenate([np.zeros(0, bool), *(one.to_numpy(zero_copy_only=False) for one in hits)])
        for source, characters in new.put_table(path, target, ~hit if hit.any() else None):
            figures = lost.setdefault(source, [0, 0])
            figures[0] += 1
            figures[1] += characters
    return lost


def _sources(corpus: Corpus, removal: Removal, lost: dict[str, list[int]]) -> dict[str, dict[str, int]]:
    """Documents, characters and tokens of each source before the mixture, without those that went. Of one that stood in
    no shard, the tokens are not known: they stay counted."""
    sources = {name: dict(figures) for name, figures in corpus.meta["sources"].items()}
    for name, (documents, characters) in lost.items():
        if name in sources:
            sources[name]["documents"] -= documents
            sources[name]["characters"] -= characters
    for name, figures in described.added(removal.gone.values()).items():
        if name in sources:
            sources[name]["tokens"] -= figures.once - figures.documents  # boundary tokens are none of these
    return sources


def _record(run: RunFolder, removal: Removal, date: str | None) -> dict[str, Any]:
    """What `removed.json` holds; of a corpus that documents were taken out of before, what was taken then too."""
    earlier = run.folder / RECORD
    path = run.folder / "corpus.json"
    return {
        "format": RECORD_FORMAT[0],
        "format_version": RECORD_FORMAT[1],
        **({"date": date} if date else {}),
        "of": {"name": json.loads(path.read_text("utf-8"))["name"], "corpus_sha256": file_sha256(path)},
        "asked": [
            {"kind": request.kind, "value": request.value, "documents": removal.named[request.line]}
            for request in removal.requests
        ],
        "not_found": [request.line for request in removal.missing],
        "documents": [{"id": one.hex(), **removal.documents[one]} for one in sorted(removal.documents)],
        "duplicates": [one.hex() for one in removal.lost],
        "copies": removal.copies,
        "tokens": removal.tokens,
        "earlier": json.loads(earlier.read_text("utf-8")) if earlier.is_file() else None,
    }


def _write_list(run: RunFolder, removal: Removal, aside: Path) -> None:
    """The list for the recipe's `takedown` stage: earlier requests, these, and duplicates that would take the place."""
    earlier = run.folder / LIST
    lines = earlier.read_text("utf-8").splitlines() if earlier.is_file() else []
    lines += [request.line for request in removal.requests]
    by_duplicate = [one for one, facts in removal.documents.items() if facts["by"] == "duplicate"]
    lines += [f"id {one.hex()}" for one in sorted([*by_duplicate, *removal.lost])]
    (aside / LIST).write_text("\n".join(dict.fromkeys(lines)) + "\n", "utf-8")
