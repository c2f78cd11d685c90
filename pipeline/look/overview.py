"""What `inspect`, `run` and `stages` print: facts of a run as one JSON value, and tables of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import accounts, pins
from pipeline.errors import UserError
from pipeline.ledger import Ledger, Row
from pipeline.limited import SETTING as SOURCES
from pipeline.limited import TEXT as SOURCES_TEXT
from pipeline.look.runfolder import one_line
from pipeline.show import size_text
from stages.registry import STAGES, describe, find

HOST_LINES = 10
"""Lines of hosts that are shown."""
MOST_GROUPS = 20
"""Groups of the mixture that are shown, those with the most tokens; the others in one line."""
_SUMMED = ("tokens", "tokens_asked", "tokens_reached")


def overview(folder: Path) -> dict[str, Any]:
    """Everything about a run that its ledger and `corpus.json` say. Raises UserError where there is no run."""
    ledger = Ledger(folder)
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
        "folder": str(folder),
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
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else None


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


def print_funnel(facts: dict[str, Any], console: Console) -> None:
    """The funnel: what each stage let in, kept and dropped, and why."""
    table = Table(title="Funnel", title_justify="left")
    for name in ("stage", "in", "kept", "dropped"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("why, and what else it counted")
    for step in facts["funnel"]:
        lost = sum(step["dropped"].values())
        why = [f"{reason.split('.', 1)[1]} {count:,}" for reason, count in step["dropped"].items()]
        more = [f"{name.replace('_', ' ')} {count:,}" for name, count in step["counts"].items() if count]
        text = ", ".join(why) + (f"{' ' if why else ''}({', '.join(more)})" if more else "")
        table.add_row(step["stage"], f"{step['entered']:,}", f"{step['kept']:,}", f"{lost:,}", text)
    console.print(table)
    records = facts["records"]
    sampled = f" + {records['not_sampled']:,} not sampled" if records["not_sampled"] else ""
    sign = "=" if records["balanced"] else "≠ (the run is not complete)"
    parts = f"kept {records['kept']:,} + dropped {records['dropped']:,}{sampled}"
    console.print(f"records framed {records['framed']:,} {sign} {parts}", highlight=False)


def print_overview(facts: dict[str, Any], console: Console) -> None:
    """The tables of `corpusmill inspect`."""
    state = "complete" if facts["complete"] else "not complete; run it again to go on"
    console.print(f"run '{facts['name']}' in {facts['folder']}: {state}", highlight=False)
    _print_trial(facts, console)
    print_funnel(facts, console)
    _print_pins(facts, console)
    inputs = _table("Inputs", "file", "source", "records", "bytes", "in records", "structure", "in gaps")
    for item in facts["inputs"]:
        sizes = [f"{item[name]:,}" for name in ("framed", "bytes", "spans", "structure", "gaps")]
        inputs.add_row(item["path"], item["source"], *sizes)
    console.print(inputs)
    if facts["gaps"]:
        table = _table(
            "Gaps: damaged stretches; how many records lay inside is unknown", "file", "offset", "bytes", "reason"
        )
        for gap in facts["gaps"]:
            table.add_row(gap["file"], f"{gap['offset']:,}", f"{gap['length']:,}", gap["reason"], style="yellow")
        console.print(table)
    for title, of in (("Sources", "sources"), ("Languages", "languages")):
        console.print(_shares(title, facts[of], facts["tokens"][of]))
    if facts["host_lines"]:
        lines = _table("Lines cut because many pages of their host have them", "line", "host", "pages")
        for one in facts["host_lines"]:
            lines.add_row(Text(one_line(one["line"])), Text(one_line(one["host"])), f"{one['pages']:,}")
        console.print(lines)
    if facts["clusters"]:
        counts = {int(size): count for size, count in facts["clusters"].items()}
        console.print(
            f"duplicates: {sum(counts.values()):,} clusters, the largest of {max(counts):,} documents "
            "(--clusters shows them)", highlight=False,
        )  # fmt: skip
    if facts["tokenizer"]:
        one = facts["tokenizer"]
        console.print(
            f"tokenizer: {one['vocabulary']:,} pieces, digest {one['digest']}; texts that do not come back from their "
            f"tokens: {facts['tokens']['not_reversible']}", highlight=False,
        )  # fmt: skip
        if facts["tokens"]["prefix"]:
            console.print(
                f"prefixes: {facts['tokens']['prefix']:,} tokens, counted with the others; where, says "
                "`prefix_tokens` of a shard's documents", highlight=False,
            )  # fmt: skip
    if facts["mixture"]:
        print_mixture(facts, console)
    seconds = ", ".join(f"{phase} {value:.1f}" for phase, value in facts["cpu_seconds"].items())
    console.print(
        f"CPU seconds by phase: {seconds}; peak memory of a worker {size_text(facts['peak_bytes'])}", highlight=False
    )


def _print_pins(facts: dict[str, Any], console: Console) -> None:
    if facts["pins"]:
        path = Path(facts["folder"]) / pins.NAME
        console.print(
            f"{facts['pins']:,} documents met a limit on time or memory, which is measured: the run is reproducible "
            f"only with its pins, {path} (in a recipe: `pins: FILE`)", style="yellow", highlight=False,
        )  # fmt: skip


def _print_trial(facts: dict[str, Any], console: Console) -> None:
    if facts["trial"]:
        limits = ", ".join(f"--{name} {value}" for name, value in facts["trial"].items() if value is not None)
        console.print(
            f"a trial run ({limits}): a budget of tokens is not applied, a validation split may be empty and a "
            "vocabulary smaller than asked", highlight=False,
        )  # fmt: skip


def print_mixture(facts: dict[str, Any], console: Console) -> None:
    """Mixture asked and reached, and the splits."""
    groups = facts["mixture"]
    by = " / ".join(facts["mixture_by"])
    asked = sum(one["tokens_asked"] for one in groups.values()) or 1
    reached = sum(one["tokens_reached"] for one in groups.values()) or 1
    if facts["layout"] == "mixed":
        title = "Mixture of the training split"
        table = _table(title, by, "tokens once", "asked", "reached", "share asked", "reached", "epochs")
    else:
        title = "Groups of the training split, each document once; the loader weighs them by mixture.json"
        table = _table(title, by, "tokens once", "asked", "share asked", "epochs asked")
    shown = sorted(groups, key=lambda name: (-groups[name]["tokens_asked"], name))[:MOST_GROUPS]
    rest = {name: one for name, one in groups.items() if name not in set(shown)}
    rows = [(name, groups[name]) for name in groups if name not in rest]
    if rest:
        rows.append((f"{len(rest):,} more", {key: sum(one[key] for one in rest.values()) for key in _SUMMED}))
    for name, one in rows:
        once, wanted, got = one["tokens"], one["tokens_asked"], one["tokens_reached"]
        if facts["layout"] == "mixed":
            table.add_row(
                name, f"{once:,}", f"{wanted:,}", f"{got:,}", f"{wanted / asked:.2%}", f"{got / reached:.2%}",
                f"{got / max(1, once):.3f}",
            )  # fmt: skip
        else:
            table.add_row(name, f"{once:,}", f"{wanted:,}", f"{wanted / asked:.2%}", f"{wanted / max(1, once):.3f}")
    console.print(table)
    table = _table("Splits", "split", "documents", "tokens", "shards")
    for name, one in facts["splits"].items():
        table.add_row(name, f"{one['documents']:,}", f"{one['tokens']:,}", f"{one['shards']:,}")
    console.print(table)
    for name, one in facts["held_out"].items():
        if left := one["left_out"]["domains"]:
            named = ", ".join(f"{each['domain']} {each['tokens']:,}" for each in one["left_out"]["largest"][:5])
            console.print(
                f"left out of {name}: {left:,} domains above a quarter of it, {one['left_out']['tokens']:,} tokens "
                f"({named}{', …' if left > 5 else ''})", highlight=False,
            )  # fmt: skip


def print_summary(out: Path, done: dict[str, int], console: Console) -> None:
    """What `corpusmill run` says at its end."""
    facts = overview(out)
    if not any(done.values()):
        console.print("nothing had changed, so nothing was redone", highlight=False)
    _print_trial(facts, console)
    print_funnel(facts, console)
    _print_pins(facts, console)
    for gap in facts["gaps"]:
        console.print(
            f"damaged: {gap['file']}: {gap['length']:,} bytes from {gap['offset']:,} ({gap['reason']}); "
            "records inside unknown", style="yellow", highlight=False,
        )  # fmt: skip
    if facts["mixture"]:
        print_mixture(facts, console)
    console.print(f"run folder: {out}", highlight=False)
    made = "corpus.json" if facts["splits"] else "documents"
    console.print(f"made: {out / made}", highlight=False)


def _table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 or name in ("source", "reason", "host") else "right")
    return table


def _shares(title: str, documents: dict[str, dict[str, int]], tokens: dict[str, dict[str, int]]) -> Table:
    table = _table(title, title[:-1].lower(), "documents", "characters", "share", "tokens", "characters a token")
    total = sum(one["characters"] for one in documents.values()) or 1
    for name, one in documents.items():
        amount = tokens.get(name, {}).get("tokens", 0)
        table.add_row(
            name, f"{one['documents']:,}", f"{one['characters']:,}", f"{one['characters'] / total:.1%}",
            f"{amount:,}" if amount else "", f"{tokens[name]['characters'] / amount:.2f}" if amount else "",
        )  # fmt: skip
    return table


def print_stages(name: str | None, console: Console) -> None:
    """Every stage (or one) with its settings. Raises UserError for an unknown one."""
    try:
        kinds = [find(name)] if name else list(STAGES.values())
    except ValueError as error:
        raise UserError(str(error)) from error
    for kind in kinds:
        console.print(f"\n{kind.name}", style="bold", highlight=False)
        console.print("  " + " ".join((kind.__doc__ or "").split()), highlight=False, markup=False)
        for setting in describe(kind):
            default = "required" if setting.default is MISSING else f"default {setting.default!r}"
            console.print(f"    {setting.name}: {setting.kind} ({default})", highlight=False, markup=False)
            if setting.text:
                console.print(f"        {setting.text}", highlight=False, markup=False)
    console.print(f"\nEvery stage has `{SOURCES}`: {SOURCES_TEXT}", highlight=False, markup=False)
