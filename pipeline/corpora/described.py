"""What `corpus.json` and `mixture.json` say of shards that were made of others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.parts import read_batches
from pipeline.shards import MIXTURE_FILE, file_sha256, group_labels, shard_name

Splits = Mapping[str, Sequence[Mapping[str, Any]]]
"""The shards of each split, as `corpus.json` lists them."""


def stems(places: Sequence[tuple[str, str | None]]) -> list[str]:
    """The stems of shards of these splits and groups, in order: `shards/train-00000-of-00002`, or in layout by_source
    `shards/train-books-00000-of-00002`."""
    sizes = Counter(places)
    labels = group_labels(dict.fromkeys(group for _, group in places if group is not None))
    seen: Counter[tuple[str, str | None]] = Counter()
    found = []
    for place in places:
        split, group = place
        label = None if group is None else labels[group]
        found.append(f"shards/{shard_name(split, seen[place], sizes[place], label)}")
        seen[place] += 1
    return found


def split_facts(splits: Splits) -> dict[str, dict[str, Any]]:
    """What `corpus.json` says of splits."""
    return {
        split: {
            "documents": sum(shard["documents"] for shard in shards),
            "tokens": sum(shard["tokens"] for shard in shards),
            "shards": [dict(shard) for shard in shards],
        }
        for split, shards in splits.items()
    }


class Figures(NamedTuple):
    """Of the documents of one source in some shards."""

    copies: int
    tokens: int
    """Of all copies, boundary tokens included."""
    documents: int
    once: int
    """Tokens of the first copy of each document."""


def figures(folder: Path, shards: Sequence[Mapping[str, Any]]) -> dict[str, Figures]:
    """What stands in these shards, by source."""
    return added(of_rows(folder / f"{shard['stem']}.docs.parquet") for shard in shards)


def of_rows(path: Path, rows: npt.NDArray[np.int64] | None = None) -> dict[str, Figures]:
    """The figures of a table of documents, or of these rows of it (ascending)."""
    found: list[dict[str, Figures]] = []
    start = 0
    for batch in read_batches(path, ["source", "copy", "token_start", "token_end"]):
        stop = start + batch.num_rows
        if rows is not None:
            batch = batch.take(pa.array(rows[(rows >= start) & (rows < stop)] - start))
        start = stop
        sizes = pc.subtract(batch.column("token_end"), batch.column("token_start"))
        first = pc.cast(pc.equal(batch.column("copy"), 0), pa.int64())
        columns = {
            "source": batch.column("source"),
            "copies": pa.array(np.ones(batch.num_rows, np.int64)),
            "tokens": sizes,
            "documents": first,
            "once": pc.multiply(sizes, first),
        }
        table = pa.table(columns).group_by("source").aggregate([(name, "sum") for name in Figures._fields])
        for row in table.to_pylist():
            found.append({row["source"]: Figures(*(row[f"{name}_sum"] for name in Figures._fields))})
    return added(found)


def added(tables: Iterable[Mapping[str, Figures]]) -> dict[str, Figures]:
    """Figures of sources, added up."""
    found: dict[str, Figures] = {}
    for table in tables:
        for name, one in table.items():
            found[name] = Figures(*(a + b for a, b in zip(found.get(name, Figures(0, 0, 0, 0)), one, strict=True)))
    return found


def refreshed(mixture: Mapping[str, Any], now: Mapping[str, Figures], lost: Mapping[str, Figures]) -> dict[str, Any]:
    """The `mixture` of `corpus.json`, by source, with what is reached now, and without documents that were lost. What
    the mixture had left out of the shards stays counted."""
    made = {}
    none = Figures(0, 0, 0, 0)
    for name, facts in mixture.items():
        here, gone = now.get(name, none), lost.get(name, none)
        documents, tokens = facts["documents"] - gone.documents, facts["tokens"] - gone.once
        made[name] = dict(facts) | {
            "documents": documents,
            "tokens": tokens,
            "tokens_reached": here.tokens,
            "epochs": round(here.tokens / tokens, 6) if tokens > 0 else 0.0,
            "copies": here.copies,
        }
    return made


def by_source(meta: Mapping[str, Any]) -> bool:
    """Whether the groups of a mixture are sources, and so can be counted in the tables of documents."""
    return list(meta.get("mixture_by") or ["source"]) == ["source"]


def write_plan(plan: Mapping[str, Any], shards: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Writes `mixture.json` for the groups that these shards of the training split hold; its entry for `files`.

    A group that is gone leaves its share to the others.
    """
    tokens: dict[str, int] = {}
    for shard in shards:
        tokens[shard["group"]] = tokens.get(shard["group"], 0) + shard["tokens"]
    left = {name: one for name, one in plan["groups"].items() if tokens.get(name)}
    whole = sum(one["share"] for one in left.values())
    gone = len(left) < len(plan["groups"])
    groups = {}
    for name, one in left.items():
        groups[name] = dict(one) | {"tokens": tokens[name]}
        if gone and whole:
            groups[name]["share"] = one["share"] / whole
        if one.get("tokens_asked") is not None:
            groups[name]["epochs"] = round(one["tokens_asked"] / tokens[name], 6)
    (folder / MIXTURE_FILE).write_text(
        json.dumps(dict(plan) | {"groups": groups}, indent=1, ensure_ascii=False) + "\n", "utf-8"
    )
    return {MIXTURE_FILE: file_sha256(folder / MIXTURE_FILE)}
