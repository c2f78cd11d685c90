"""What `corpus.json` and `mixture.json` say of shards that were made of others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

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


def reached(folder: Path, shards: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Copies and tokens of each source in these shards."""
    found: dict[str, tuple[int, int]] = {}
    for shard in shards:
        for batch in read_batches(folder / f"{shard['stem']}.docs.parquet", ["source", "token_start", "token_end"]):
            sizes = pa.compute.subtract(batch.column("token_end"), batch.column("token_start"))
            table = pa.table({"source": batch.column("source"), "tokens": sizes})
            for row in table.group_by("source").aggregate([("tokens", "sum"), ("tokens", "count")]).to_pylist():
                copies, tokens = found.get(row["source"], (0, 0))
                found[row["source"]] = (copies + row["tokens_count"], tokens + row["tokens_sum"])
    return found


def refreshed(mixture: Mapping[str, Any], found: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """The `mixture` of `corpus.json` with what is reached now; groups that are no sources stay as they were asked."""
    made = {}
    for name, facts in mixture.items():
        if "tokens_reached" not in facts or not found.keys() <= mixture.keys():
            made[name] = dict(facts)
            continue
        copies, tokens = found.get(name, (0, 0))
        epochs = round(tokens / facts["tokens"], 6) if facts.get("tokens") else 0.0
        made[name] = dict(facts) | {"tokens_reached": tokens, "copies": copies, "epochs": epochs}
    return made


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
