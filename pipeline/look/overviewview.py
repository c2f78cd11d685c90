"""What `inspect` and `run` print of a run: the tables of `overview`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import pins
from pipeline.look.overview import overview
from pipeline.look.runfolder import one_line
from pipeline.look.tables import bar, percent
from pipeline.look.tables import table as ruled
from pipeline.show import size_text

MOST_GROUPS = 20
"""Groups of the mixture that are shown, those with the most tokens; the others in one line."""
_SUMMED = ("tokens", "tokens_asked", "tokens_reached")


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
    for name, spread in facts.get("lengths", {}).items():
        _print_lengths(name, spread, console)
    if "hosts" in facts:
        _print_hosts(facts, console)
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
        _print_engine(facts, console)
        _print_tokenizer(facts.get("tokenizer_report"), console)
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
    if serial := facts.get("serial"):
        of = ", ".join(f"{name} {value:.1f}" for name, value in list(serial["of"].items())[:5])
        console.print(
            f"serial share: {serial['share']:.1%} of {serial['cpu_seconds']:.1f} s of CPU time is one process's, "
            f"whatever the workers: {of}", highlight=False,
        )  # fmt: skip


def _print_lengths(name: str, spread: dict[str, Any], console: Console) -> None:
    """How long documents are, by powers of two."""
    made = ruled(f"Lengths in {name}", name, "documents", "share", "", text=[""])
    bars = spread["histogram"]
    counts: dict[int, int] = {}
    for edge, count in zip(bars["edges"], bars["passing"], strict=False):
        power = math.floor(math.log2(edge) + 1e-6)
        counts[power] = counts.get(power, 0) + count
    longest = max(counts.values())
    for power, count in counts.items():
        span = f"{1 << power:,} to {(2 << power) - 1:,}" if power else "1"
        made.add_row(span, f"{count:,}", percent(count, spread["documents"]), bar(count, longest))
    console.print(made)
    shown = {
        "least": "0.0",
        "5 %": "0.05",
        "25 %": "0.25",
        "median": "0.5",
        "75 %": "0.75",
        "95 %": "0.95",
        "most": "1.0",
    }
    figures = ", ".join(f"{title} {spread['quantiles'][key]:,}" for title, key in shown.items())
    console.print(f"{name}: {figures}; mean {spread['mean']:,.0f}", highlight=False)


def _print_hosts(facts: dict[str, Any], console: Console) -> None:
    """The largest hosts, and how many there are."""
    found = facts["hosts"]
    if found is None:
        if not facts["hosts_counted"]:
            console.print("hosts: --hosts counts them", highlight=False)
        return
    made = _table("Hosts, the largest by documents", "host", "documents", "share", "characters")
    for one in found["by_documents"]:
        share = percent(one["documents"], found["documents"])
        made.add_row(Text(one_line(one["host"])), f"{one['documents']:,}", share, f"{one['characters']:,}")
    console.print(made)
    first = found["by_characters"][0]
    console.print(
        f"hosts: {found['hosts']:,}, of which {found['with_one_document']:,} have one document; the largest by "
        f"characters is {one_line(first['host'])} with {first['characters']:,}", markup=False, highlight=False,
    )  # fmt: skip


def _print_tokenizer(found: dict[str, Any] | None, console: Console) -> None:
    """What the report on the tokenizer comes to."""
    if not found or not found["sample"]["tokens"]:
        return
    whole, tokens = found["sample"], found["tokens"]
    figures = [f"{whole['characters'] / whole['tokens']:.2f} characters a token"]
    figures += [f"{whole['tokens'] / whole['words']:.2f} tokens a word"] if whole["words"] else []
    figures += [f"unknown {percent(whole['unknown'], whole['tokens'], 2)}", f"{tokens['used']:,} tokens are used"]
    figures += [f"{tokens['unreachable']['count']:,} cannot be reached"] if tokens.get("unreachable") else []
    console.print(
        f"in a sample of {whole['documents']:,} documents: {', '.join(figures)} "
        "(`corpusmill tokenizer report` says more)",
        markup=False, highlight=False,
    )  # fmt: skip


def _print_pins(facts: dict[str, Any], console: Console) -> None:
    if facts["pins"]:
        path = f"{facts['folder']}/{pins.NAME}"
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


def _print_engine(facts: dict[str, Any], console: Console) -> None:
    """By what the tokenizer is run, and why not by what is faster."""
    if facts["tokenizer"]:
        engine = facts["tokenizer"]["engine"]
        why = f"; not by a faster one: {one_line(engine['why'])}" if engine["why"] else ""
        console.print(f"tokens are made by: {engine['name']}{why}", markup=False, highlight=False)


def print_summary(out: Path, done: dict[str, int], console: Console) -> None:
    """What `corpusmill run` says at its end."""
    facts = overview(out)
    title = facts["folder"]
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
    _print_engine(facts, console)
    if facts["mixture"]:
        print_mixture(facts, console)
    console.print(f"run folder: {title}", highlight=False)
    made = "corpus.json" if facts["splits"] else "documents"
    console.print(f"made: {title}/{made}", highlight=False)
    if title != str(out):
        console.print(f"a copy on this machine: `corpusmill fetch {title} DIR`", highlight=False)
    elif facts["splits"]:  # the line itself names every shard
        console.print(f"Megatron-LM's blend line: `corpusmill export {out} --to megatron`", highlight=False)


def _table(title: str, *columns: str) -> Table:
    return ruled(title, *columns, text=("source", "reason", "host"))


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
