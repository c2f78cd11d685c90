"""`corpusmill card`: what a dataset card says of a corpus, as facts that were counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import __version__, accounts
from pipeline.corpora.folder import CopiedFolder, name_of
from pipeline.corpora.removal import RECORD
from pipeline.errors import UserError
from pipeline.look.runfolder import RunFolder
from pipeline.parts import read_batches
from pipeline.shards import Corpus

SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip
"""Hugging Face's classes of size, and what each ends below."""
LICENCES = ("license", "licence")
"""Columns of documents that hold the licence that a page names."""


def facts(run: RunFolder) -> dict[str, Any]:
    """What is known of a corpus. Reads of the documents their columns source, language and licence, no texts.

    Raises UserError where there is neither a document nor a shard.
    """
    parts = [] if run.removed("documents") else run.parts("documents")
    meta = None
    if (run.folder / "corpus.json").is_file() and not run.removed("shards"):
        meta = Corpus.open(run.folder).meta
    if not parts and meta is None:
        raise UserError(f"{run.folder} holds neither documents nor shards to describe")
    shards = [shard["stem"] for split in (meta["splits"].values() if meta else ()) for shard in split["shards"]]
    tables = parts or [run.folder / f"{stem}.docs.parquet" for stem in shards]
    counted = _counted(tables)
    record = run.folder / RECORD
    removed = json.loads(record.read_text("utf-8")) if record.is_file() else None
    return {
        "name": name_of(run),
        "version": __version__,
        "documents": sum(counted["sources"].values()),
        **counted,
        "from_documents": bool(parts),
        "configs": _configs(run, parts, meta),
        "corpus": {name: value for name, value in meta.items() if name != "splits"} if meta else None,
        "splits": {
            name: {"documents": split["documents"], "tokens": split["tokens"], "shards": len(split["shards"])}
            for name, split in meta["splits"].items()
        } if meta else {},
        "recipes": _recipes(run, meta),
        "run": None if isinstance(run, CopiedFolder) else _run_facts(run),
        "removed": _removals(removed),
    }  # fmt: skip


def _counted(tables: list[Path]) -> dict[str, dict[str, int]]:
    """Documents by source, language and licence; of shards, the first copy of each."""
    found: dict[str, Counter[str]] = {"sources": Counter(), "languages": Counter(), "licences": Counter()}
    for path in tables:
        names = pq.read_schema(path).names
        columns = {"sources": "source", "languages": "language"}
        if licence := next((name for name in LICENCES if name in names), None):
            columns["licences"] = licence
        wanted = [name for name in columns.values() if name in names]
        for batch in read_batches(path, [*wanted, *(["copy"] if "copy" in names else [])]):
            if "copy" in names:
                batch = batch.filter(pc.equal(batch.column("copy"), 0))
            for kind, name in columns.items():
                if name in names and pa.types.is_string(batch.schema.field(name).type):
                    counts = batch.column(name).value_counts()
                    for one in counts.to_pylist():
                        found[kind][one["values"] or ""] += one["counts"]
    return {kind: dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))) for kind, counts in found.items()}


def _configs(run: RunFolder, parts: list[Path], meta: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What `datasets.load_dataset(folder, NAME)` can load: all documents, those of each source, and the tables of
    documents of the shards by split. Files of other columns than the first one's are a configuration of their own."""
    configs: list[dict[str, Any]] = []
    kinds: dict[pa.Schema, list[Path]] = {}
    for path in parts:
        kinds.setdefault(pq.read_schema(path).remove_metadata(), []).append(path)
    for number, paths in enumerate(kinds.values()):
        name = "default" if not number else f"default-{number + 1}"
        named: str | list[str] = [str(path.relative_to(run.folder)) for path in paths]
        named = "documents/*.parquet" if len(kinds) == 1 else named
        configs.append({"config_name": name, "data_files": [{"split": "train", "path": named}]})
    by_source: dict[str, list[str]] = {}
    mixed = False
    for path in parts if len(kinds) == 1 else ():
        sources = _sources_of(path)
        mixed |= len(sources) > 1
        for source in sources:
            by_source.setdefault(source, []).append(str(path.relative_to(run.folder)))
    if len(by_source) > 1 and not mixed:
        for source in sorted(by_source):
            configs.append({"config_name": f"source-{source}",
                            "data_files": [{"split": "train", "path": sorted(by_source[source])}]})  # fmt: skip
    if meta:
        splits = []
        for name, split in meta["splits"].items():
            files = [f"{shard['stem']}.docs.parquet" for shard in split["shards"]]
            splits.append({"split": name.replace("-", "_"), "path": files})
        configs.append({"config_name": "shards", "data_files": splits})
    return configs


def _sources_of(path: Path) -> list[str]:
    """The sources in a part: by the statistics of its row groups where they say so."""
    metadata = pq.read_metadata(path)
    place = metadata.schema.to_arrow_schema().names.index("source")
    found: set[str] = set()
    for group in range(metadata.num_row_groups):
        # `origin` and its like, which have several leaves, come behind: columns before them keep their places.
        statistics = metadata.row_group(group).column(place).statistics
        if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
            return sorted(pc.unique(pq.read_table(path, columns=["source"]).column("source")).to_pylist())
        found.add(statistics.min)
    return sorted(found)


def _recipes(run: RunFolder, meta: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The recipes by which it was made, several where corpora were merged; files are named from the recipe's folder."""
    if meta and meta.get("merged"):
        return [recipe for one in meta["merged"] for recipe in _recipes(run, one)]
    if meta and meta.get("recipe"):
        return [meta["recipe"]]
    if meta or isinstance(run, CopiedFolder):
        return []
    from pipeline.phases.shard import portable

    return [portable(run.context)]


def _run_facts(run: RunFolder) -> dict[str, Any]:
    """What the ledger alone knows: the funnel, inputs, duplicates, figures of the tokenizer, versions."""
    ledger = run.ledger
    clean = run.of("clean")
    made_with = clean[0].body["made_with"] if clean else {"packages": {}, "stages": []}
    model = next((row.body for row in run.of("tokenizer")), None)
    return {
        "complete": ledger.complete() is not None,
        "framed": sum(row.body["framed"] for row in clean),
        "bytes": sum(row.body["input"]["end"] - row.body["input"]["start"] for row in clean),
        "funnel": [
            {
                "stage": step.stage,
                "entered": step.entered,
                "dropped": step.lost,
                "reasons": dict(step.dropped.most_common()),
            }
            for step in accounts.funnel(ledger)
        ],
        "characters": sum(figures[1] for row in run.of("documents") for figures in row.body["sources"].values()),
        "clusters": next((row.body["clusters"] for row in run.of("clusters")), None),
        "tokenizer": {name: model[name] for name in ("vocabulary", "digest") if name in model} if model else None,
        "packages": dict(sorted(made_with["packages"].items())),
        "stages": {stage["stage"]: stage["version"] for stage in made_with["stages"]},
    }


def _removals(record: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What was taken out, oldest first: counts alone, since the card is public."""
    found: list[dict[str, Any]] = []
    while record is not None:
        kinds = Counter(one["kind"] for one in record["asked"])
        found.append({"date": record.get("date"), "asked": dict(kinds), "documents": len(record["documents"]),
                      "tokens": record["tokens"]})  # fmt: skip
        record = record.get("earlier")
    return found[::-1]
