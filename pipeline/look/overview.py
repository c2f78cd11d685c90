"""What `inspect` says of a run, as one JSON value; `overviewview` prints it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline import accounts, pins
from pipeline.corpora import checks
from pipeline.errors import DamageError
from pipeline.ledger import Ledger, Row
from pipeline.look import content
from pipeline.look.runfolder import RunFolder
from pipeline.planning.share import serial_share

HOST_LINES = 10
"""Lines of hosts that are shown."""
HOSTS = 10
"""Hosts that are shown."""
QUICK = 2_000_000
"""Documents whose hosts are counted unasked."""


def overview(folder: Path) -> dict[str, Any]:
    """`of_run` of the run in a folder. Raises UserError where there is none."""
    return of_run(RunFolder(folder))


def of_run(run: RunFolder) -> dict[str, Any]:
    """Everything about a run that its ledger and `corpus.json` say."""
    folder, ledger = run.folder, run.ledger
    head = ledger.head()
    rows = ledger.rows("clean")
    steps = accounts.funnel(ledger)
    framed = sum(row.body["framed"] for row in rows)
    kept = sum(row.body["documents"] for row in ledger.rows("documents"))
    reasons: Counter[str] = Counter()
    for step in steps:
        reasons.update(step.dropped)
    corpus = _corpus(folder)
    return {
        "name": head["name"],
        "folder": run.title,
        "complete": ledger.complete() is not None,
        "trial": _trial(ledger),
        "records": {
            "framed": framed,
            "kept": kept,
            "dropped": sum(reasons.values()),
            "not_sampled": sum(row.body["not_sampled"] for row in rows),
            "balanced": framed == kept + sum(reasons.values()) + sum(row.body["not_sampled"] for row in rows),
        },
        "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "funnel": [_step(step) for step in steps],
        "inputs": _inputs(rows),
        "gaps": accounts.gaps(rows),
        "sources": _sums(ledger.rows("documents"), "sources", ("documents", "characters")),
        "languages": _sums(ledger.rows("documents"), "languages", ("documents", "characters")),
        "pins": len(pins.of_rows(ledger)),
        "host_lines": _host_lines(ledger),
        "clusters": next((row.body["clusters"] for row in ledger.rows("clusters")), {}),
        "bands": _band_facts(ledger),
        "tokenizer": next((_untimed(row.body) for row in ledger.rows("tokenizer")), None),
        "tokens": {
            "sources": _sums(ledger.rows("tokenise"), "sources", ("documents", "characters", "tokens")),
            "languages": _sums(ledger.rows("tokenise"), "languages", ("documents", "characters", "tokens")),
            "prefix": sum(row.body["prefix_tokens"] for row in ledger.rows("tokenise")),
            "not_reversible": sum(row.body["not_reversible"] for row in ledger.rows("tokenise")),
        },
        "mixture": corpus["mixture"] if corpus else None,
        "mixture_by": corpus["mixture_by"] if corpus else None,
        "layout": corpus["layout"] if corpus else None,
        "held_out": corpus["held_out"] if corpus else {},
        "splits": {
            name: {"documents": split["documents"], "tokens": split["tokens"], "shards": len(split["shards"])}
            for name, split in corpus["splits"].items()
        }
        if corpus
        else None,
        "cpu_seconds": _cpu(ledger),
        "peak_bytes": max((row.body["timing"].get("peak_rss", 0) for row in rows), default=0),
    }  # fmt: skip


def inspection(folder: Path, *, hosts: bool) -> dict[str, Any]:
    """`overview`, and what is counted in the documents' columns: `lengths`, and `hosts` where there are not more than
    QUICK documents, or `hosts` is asked for; and what share of its CPU time one process alone could spend."""
    run = RunFolder(folder)
    facts = of_run(run)
    facts["lengths"] = content.lengths(run)
    counted = hosts or facts["records"]["kept"] <= QUICK
    facts["hosts"] = content.hosts(run, HOSTS) if counted else None
    facts["hosts_counted"] = counted
    facts["serial"] = serial_share(run.ledger)
    facts["tokenizer_report"] = tokenizer_report(folder)
    return facts


def tokenizer_report(folder: Path) -> dict[str, Any] | None:
    """What the training or checking of the tokenizer found, where it left a report."""
    path = folder / "tokenizer" / "report.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


def _trial(ledger: Ledger) -> dict[str, Any] | None:
    """What a trial run was limited to, or None for a run over the whole."""
    path = ledger.folder / "context.json"
    trial = json.loads(path.read_text("utf-8"))["trial"] if path.exists() else {}
    return trial if any(value is not None for value in trial.values()) else None


def _host_lines(ledger: Ledger) -> list[dict[str, Any]]:
    """The lines that were cut from the pages of a host, those on most pages, with how many pages have them."""
    shown = {tuple(sorted(one.items())) for row in ledger.rows("host") for one in row.body["examples"]}
    found = [dict(one) for one in shown]
    return sorted(found, key=lambda one: (-one["pages"], one["host"], one["line"]))[:HOST_LINES]


def _untimed(body: dict[str, Any]) -> dict[str, Any]:
    """What of a row's body is the same in every run."""
    return {name: value for name, value in body.items() if name != "timing"}


def _step(step: accounts.Step) -> dict[str, Any]:
    return {
        "stage": step.stage,
        "entered": step.entered,
        "kept": step.kept,
        "dropped": dict(step.dropped.most_common()),
        "counts": dict(step.counts),
        "characters": step.characters,
        "seconds": round(step.seconds, 3),
    }


def _corpus(folder: Path) -> dict[str, Any] | None:
    path = folder / "corpus.json"
    if not path.exists():
        return None
    try:
        return checks.read_meta(folder).meta
    except DamageError as error:
        raise DamageError(f"{path} {error}") from error


def _inputs(rows: list[Row]) -> list[dict[str, Any]]:
    """Each input file with its bytes and records."""
    files: dict[str, dict[str, Any]] = {}
    for row in rows:
        place = row.body["input"]
        facts = files.setdefault(
            place["path"],
            {
                "source": place["source"],
                "format": place["format"],
                "bytes": 0,
                "framed": 0,
                "spans": 0,
                "structure": 0,
                "gaps": 0,
            },
        )
        facts["bytes"] += place["end"] - place["start"]
        facts["framed"] += row.body["framed"]
        facts["spans"] += row.body["spans"]
        facts["structure"] += row.body["structure"]
        facts["gaps"] += sum(length for _, length, _ in row.body["gaps"])
    return [{"path": path} | files[path] for path in sorted(files)]


def _sums(rows: list[Row], name: str, figures: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Figures by source or language, summed over units, largest first."""
    found: dict[str, list[int]] = {}
    for row in rows:
        for key, values in row.body[name].items():
            found[key] = [a + b for a, b in zip(found.get(key, [0] * len(values)), values, strict=True)]
    order = sorted(found, key=lambda key: (-found[key][-1], key))
    return {key: dict(zip(figures, found[key], strict=True)) for key in order}


def _band_facts(ledger: Ledger) -> dict[str, int]:
    rows = ledger.rows("join")
    if not rows:
        return {}
    return {
        "bands": len({row.body["band"] for row in rows}),
        "edges": sum(row.body["edges"] for row in rows),
        "largest_bucket": max(row.body["largest"] for row in rows),
        "unresolved": sum(row.body["unresolved"] for row in rows),
    }


def _cpu(ledger: Ledger) -> dict[str, float]:
    """CPU seconds of the committed units by phase."""
    found: dict[str, float] = {}
    for row in ledger.rows():
        found[row.phase] = round(found.get(row.phase, 0.0) + row.body["timing"]["cpu_s"], 3)
    return found
