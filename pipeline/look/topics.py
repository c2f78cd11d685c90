"""`corpusmill inspect --topics`: what a corpus is about: coverage, diversity and gaps by the labels of a classifier."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from pipeline.errors import UserError
from pipeline.look.filters import print_rates, rates
from pipeline.look.hosts import Hosts
from pipeline.look.runfolder import RunFolder, one_line
from pipeline.look.tables import percent, table
from pipeline.prefix import hosts_of
from pipeline.resources import load
from stages.classify import Classify

NONE = "no label"
"""Documents without words, which have no likeliest label."""
_THIN = 0.1
"""A topic with less than this part of an equal share is a gap."""
_ROWS = 20
Cells = dict[str, dict[str, list[int]]]


def report(run: RunFolder) -> list[dict[str, Any]]:
    """For each stage `classify` that names the likeliest of several labels: its topics, by source and language too.

    Raises UserError where the run has no such stage.
    """
    stages = {label: stage for label, stage in run.context.recipe.chain() if isinstance(stage, Classify)}
    found = []
    for label, stage in stages.items():
        try:
            labels = stage.labels(load(stage.files(), run.context.folder))
        except (UserError, ValueError):  # the model is gone: the labels that were met are known
            labels = None
        if not stage.label and (labels is None or len(labels) > 1):
            found.append(_of_stage(run, label, stage, labels))
    if not found:
        raise UserError(
            f"the run in {run.folder} gave no topics: add a stage `classify` with a model of several labels to its "
            "recipe (`corpusmill classifier train topics.npz --labelled FILES` makes one)"
        )
    return found


def _of_stage(run: RunFolder, label: str, stage: Classify, labels: tuple[str, ...] | None) -> dict[str, Any]:
    cells: dict[str, Cells] = {
        kind: defaultdict(lambda: defaultdict(lambda: [0, 0])) for kind in ("source", "language")
    }
    hosts = Hosts()
    for batch in run.batches("documents", ["source", "language", "url", "characters", stage.column]):
        topic = pa.compute.fill_null(batch.column(stage.column), NONE)
        columns = {name: pa.compute.fill_null(batch.column(name), "unknown") for name in ("source", "language")}
        parts = pa.table({"topic": topic, "characters": batch.column("characters"), **columns})
        for row in (
            parts.group_by(["topic", *columns]).aggregate([("characters", "sum"), ([], "count_all")]).to_pylist()
        ):
            for kind in columns:
                cell = cells[kind][row[kind]][row["topic"]]
                cell[0] += row["count_all"]
                cell[1] += row["characters_sum"] or 0
        hosts.add(topic, hosts_of(batch.column("url")))
    whole: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for topics in cells["source"].values():
        for name, figures in topics.items():
            whole[name] = [a + b for a, b in zip(whole[name], figures, strict=True)]
    known = list(labels) if labels is not None else sorted(name for name in whole if name != NONE)
    documents = sum(figures[0] for figures in whole.values())
    characters = sum(figures[1] for figures in whole.values())
    order = sorted(known, key=lambda name: (-whole[name][0], name)) + ([NONE] if NONE in whole else [])
    facts: dict[str, dict[str, Any]] = {}
    for name in order:
        one, length = whole[name]
        facts[name] = {"documents": one, "characters": length, **hosts.facts(name)}
    limit = _THIN / max(len(known), 1)
    thin = [name for name in known if 0 < whole[name][0] < limit * documents]
    return {
        "stage": label,
        "column": stage.column,
        "model": stage.model,
        "labels_known": labels is not None,
        "documents": documents,
        "characters": characters,
        "topics": facts,
        "diversity": diversity({name: whole[name][0] for name in known}),
        "diversity_characters": diversity({name: whole[name][1] for name in known}),
        "thin_below": round(limit, 6),
        "missing": [name for name in known if not whole[name][0]],
        "thin": thin,
        "sources": {name: _row(row, known) for name, row in _ordered(cells["source"])},
        "languages": {name: _row(row, known) for name, row in _ordered(cells["language"])},
        "filters": rates(run, label, order),
    }


def diversity(amounts: dict[str, int]) -> dict[str, float]:
    """Shannon's entropy of shares over that of equal ones (0 to 1), and its exponential: how many equally large topics
    would be as diverse (Hill 1973, number of order 1)."""
    shares = np.array(list(amounts.values()), np.float64)
    shares = shares[shares > 0] / max(shares.sum(), 1)
    entropy = abs(float((shares * np.log(shares)).sum()))
    even = entropy / np.log(len(amounts)) if len(amounts) > 1 else 0.0
    return {"entropy": round(float(even), 4), "effective": round(float(np.exp(entropy)), 2) if len(shares) else 0.0}


def _ordered(cells: Cells) -> list[tuple[str, dict[str, list[int]]]]:
    return sorted(cells.items(), key=lambda one: (-sum(figures[0] for figures in one[1].values()), one[0]))


def _row(topics: dict[str, list[int]], known: list[str]) -> dict[str, Any]:
    """A source or a language: its topics, how diverse they are, and which it lacks."""
    documents = Counter({name: figures[0] for name, figures in topics.items()})
    return {
        "documents": sum(documents.values()),
        "characters": sum(figures[1] for figures in topics.values()),
        "diversity": diversity({name: documents[name] for name in known}),
        "topics": dict(sorted(documents.items(), key=lambda one: (-one[1], one[0]))),
        "missing": [name for name in known if not documents[name]],
    }


def print_report(found: list[dict[str, Any]], console: Console) -> None:
    """Topics, how they spread over sources and languages, gaps, and whom filters drop, for each classifier."""
    for facts in found:
        _print_topics(facts, console)
        for title, of in (("source", facts["sources"]), ("language", facts["languages"])):
            rows = table(
                f"Topics by {title}",
                title,
                "documents",
                "effective topics",
                "evenness",
                "largest topics",
                "none of",
                text=["largest topics", "none of"],
            )
            for name, one in list(of.items())[:_ROWS]:
                top = [f"{one_line(topic)} {count / one['documents']:.0%}" for topic, count in one["topics"].items()]
                rows.add_row(
                    one_line(name), f"{one['documents']:,}", f"{one['diversity']['effective']:.1f}",
                    f"{one['diversity']['entropy']:.2f}", ", ".join(top[:3]), _listed(one["missing"], 6),
                )  # fmt: skip
            console.print(rows)
            if len(of) > _ROWS:
                console.print(f"and {len(of) - _ROWS} more (--json lists all)", highlight=False)
        print_rates(facts["filters"], "topic", console)


def _print_topics(facts: dict[str, Any], console: Console) -> None:
    spread, by_text = facts["diversity"], facts["diversity_characters"]
    console.print(
        f"{facts['stage']}: {facts['documents']:,} documents are left, with labels of {facts['model']} in the column "
        f"`{facts['column']}`. They are as diverse as {spread['effective']:.1f} topics of equal size "
        f"(evenness {spread['entropy']:.2f} of 1); by characters {by_text['effective']:.1f} "
        f"({by_text['entropy']:.2f}).",
        markup=False, highlight=False,
    )  # fmt: skip
    topics = table(
        "Topics",
        "topic",
        "documents",
        "share",
        "characters",
        "of characters",
        "hosts",
        "largest host",
        "its share",
        text=["largest host"],
    )
    for name, one in facts["topics"].items():
        about = "" if one["hosts_exact"] else "~"
        topics.add_row(
            one_line(name), f"{one['documents']:,}", percent(one["documents"], facts["documents"]),
            f"{one['characters']:,}", percent(one["characters"], facts["characters"]),
            f"{about}{one['hosts']:,}" if one["with_host"] else "", one_line(one["largest_host"]),
            percent(one["largest_host_documents"], one["with_host"]) if one["with_host"] else "",
        )  # fmt: skip
    console.print(topics)
    if not facts["labels_known"]:
        console.print("The model is not there any more, so labels that no document has are unknown.", style="yellow")
    if facts["missing"]:
        console.print(f"Gaps, no document: {_listed(facts['missing'], 20)}", markup=False, highlight=False)
    if facts["thin"]:
        console.print(
            f"Gaps, below {facts['thin_below']:.2%} of the documents ({_THIN:.0%} of an equal share): "
            f"{_listed(facts['thin'], 20)}", markup=False, highlight=False,
        )  # fmt: skip


def _listed(names: list[str], most: int) -> str:
    shown = ", ".join(one_line(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
