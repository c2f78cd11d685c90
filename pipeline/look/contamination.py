"""`corpusmill inspect --contamination`: which items of which benchmarks the documents of a run hold."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.errors import UserError
from pipeline.look.runfolder import RunFolder, one_line
from pipeline.look.tables import percent, table
from pipeline.measures import FOLDER
from pipeline.resources import digests, load
from stages.decontaminate import Decontaminate

SHOWN = 20
"""Items that the table lists; JSON has them all."""
_EXCERPT = 70


@dataclass
class Met:
    """What documents hold of one item."""

    documents: int = 0
    beyond: int = 0
    """Documents among them beyond the stage's `max_share`."""
    item_share: float = 0.0
    """Most of the item's n-grams that one document holds."""
    document_share: float = 0.0
    """Most of a document's words that lie in n-grams of items, of those documents."""
    example: bytes = b""
    """The document with the highest shares; of equal ones the least id."""


def report(run: RunFolder) -> list[dict[str, Any]]:
    """For each stage `decontaminate` of the run: documents met, items by file and one by one, the worst first.

    Raises UserError where the run has no such stage, or where what it found was taken away.
    """
    stages = {label: stage for label, stage in run.context.recipe.chain() if isinstance(stage, Decontaminate)}
    if not stages:
        raise UserError(f"the run in {run.folder} looked for no benchmarks: add a stage `decontaminate` to its recipe")
    return [_of_stage(run, label, stage) for label, stage in stages.items()]


def _of_stage(run: RunFolder, label: str, stage: Decontaminate) -> dict[str, Any]:
    """Items are few beside documents, so a table of them is all that is held in memory."""
    reached = hit = beyond = 0
    items: dict[str, Met] = defaultdict(Met)
    for batch in run.batches(FOLDER, ["id", f"{label}.contamination", f"{label}.items"]):
        shares, found = batch.column(1), batch.column(2)
        reached += len(shares) - shares.null_count
        for row in np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False)).tolist():
            share, name = shares[row].as_py(), batch.column(0)[row].as_py()
            over = round(share * 1000) > round(stage.max_share * 1000)
            hit, beyond = hit + 1, beyond + over
            for one in found[row].as_py():
                met = items[one["item"]]
                met.documents += 1
                met.beyond += over
                if (-one["share"], -share, name) < (-met.item_share, -met.document_share, met.example):
                    met.item_share, met.document_share, met.example = one["share"], share, name
    sought, why = _sought(run, label, stage)
    files: dict[tuple[str, str], dict[str, Any]] = {}
    texts: dict[str, str] = {}
    places: dict[str, tuple[str, str]] = {}
    if sought is not None:
        for item, name, grams in zip(sought.items, sought.names, sought.table.sizes.tolist(), strict=True):
            key = (item.benchmark, item.file)
            facts = files.setdefault(key, {"benchmark": item.benchmark, "file": item.file, "items": 0, "looked_for": 0})
            facts["items"] += 1
            facts["looked_for"] += grams > 0
            if name in items:
                texts[name], places[name] = one_line(" ".join(item.text.split()))[:300], key
    else:
        for name in items:
            benchmark = name.rpartition(":")[0]
            key = places[name] = (benchmark, "")
            files.setdefault(key, {"benchmark": benchmark, "file": "", "items": None, "looked_for": None})
    for key, facts in files.items():
        mine = [met for name, met in items.items() if places[name] == key]
        never = None if facts["items"] is None else facts["looked_for"] - len(mine)
        facts |= {"met": len(mine), "never_met": never, "whole": sum(met.item_share == 1 for met in mine)}
    return {
        "stage": label,
        "mode": stage.mode,
        "max_share": stage.max_share,
        "reached": reached,
        "with_items": hit,
        "beyond_limit": beyond,
        "unknown": why,
        "files": sorted(files.values(), key=lambda facts: (-facts["met"], facts["benchmark"], facts["file"])),
        "items": [
            {
                "item": name,
                "documents": met.documents,
                "beyond_limit": met.beyond,
                "item_share": round(met.item_share, 3),
                "document_share": round(met.document_share, 3),
                "example": met.example.hex(),
                "text": texts.get(name),
            }
            for name, met in sorted(items.items(), key=lambda one: (-one[1].documents, -one[1].item_share, one[0]))
        ],
    }


def _sought(run: RunFolder, label: str, stage: Decontaminate) -> tuple[Any, str | None]:
    """The items that the run looked for, read again; None, and why, where they are no longer those of the run."""
    try:
        now = digests(stage.files(), run.context.folder)
        place = [name for name, _ in run.context.recipe.chain()].index(label)
        if any(row.body["made_with"]["stages"][place]["files"] != now for row in run.of("clean")):
            return None, "the benchmark files have changed since the run"
        return stage.sought(load(stage.files(), run.context.folder)), None
    except UserError as error:
        return None, str(error)


def print_report(found: list[dict[str, Any]], console: Console) -> None:
    """A table by file, and one of the worst items, for each stage."""
    for facts in found:
        reached = facts["reached"]
        done = {"drop": "dropped", "cut": "cut", "tag": "beyond max_share (tagged only)"}[facts["mode"]]
        console.print(
            f"{facts['stage']}: {reached:,} documents reached it; {facts['with_items']:,} hold items of benchmarks "
            f"({percent(facts['with_items'], reached)}), {facts['beyond_limit']:,} were {done} "
            f"(max_share {facts['max_share']:g}); before deduplication", highlight=False, markup=False,
        )  # fmt: skip
        if facts["unknown"]:
            console.print(f"How many items were never met is unknown: {facts['unknown']}", style="yellow", markup=False)
        files = table(
            "Benchmarks", "benchmark", "file", "items", "looked for", "met", "met whole", "never met", text=["file"]
        )
        for one in facts["files"]:
            figures = [one[name] for name in ("items", "looked_for", "met", "whole", "never_met")]
            files.add_row(one["benchmark"], one["file"], *("" if value is None else f"{value:,}" for value in figures))
        console.print(files)
        if not facts["items"]:
            continue
        worst = table(
            "Items met most", "item", "documents", "beyond", "of item", "of document", "a document", "text",
            text=["a document", "text"],
        )  # fmt: skip
        for one in facts["items"][:SHOWN]:
            worst.add_row(
                one["item"], f"{one['documents']:,}", f"{one['beyond_limit']:,}", f"{one['item_share']:.0%}",
                f"{one['document_share']:.1%}", one["example"][:12], (one["text"] or "")[:_EXCERPT],
            )  # fmt: skip
        console.print(worst)
        more = len(facts["items"]) - SHOWN
        console.print(
            (f"and {more:,} more (--json lists all). " if more > 0 else "")
            + "`corpusmill trace DIR --doc ID` says what became of a document.",
            highlight=False, markup=False,
        )  # fmt: skip
