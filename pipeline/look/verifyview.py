"""What `corpusmill verify` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.look.verify import Report
from pipeline.show import size_text


def as_facts(report: Report) -> dict[str, Any]:
    """A report as JSON."""
    facts = asdict(report) | {"whole": not report.damage}
    del facts["mended_by"]  # each damage has it
    return facts


def print_report(report: Report, console: Console) -> None:
    """What was checked, each damage, and the verdict."""
    say = [f"{report.parts:,} {'parts' if report.rows else 'files'} ({size_text(report.bytes)})"]
    if report.rows:
        say.insert(0, f"{report.rows:,} manifest rows")
    if report.shards:
        say.append(f"{report.shards:,} shards with {report.tokens:,} tokens of {report.documents:,} documents")
    if report.identities:
        say.append("both identities")
    console.print(f"checked: {', '.join(say)}", highlight=False)
    if report.removed:
        console.print(
            f"not there, as the run or `corpusmill clean` was done with them: {report.removed:,} parts", highlight=False
        )
    if report.inner:
        text = f"{report.inner:,} boundary tokens stand inside documents: readers that split there see more documents"
        console.print(text, style="yellow", highlight=False)
    for note in report.notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    if not report.complete:
        text = "the run is not complete, so its books and what is missing were not judged; run it again to go on"
        console.print(text, style="yellow", highlight=False)
    for damage in report.damage:
        line = f"damaged: {damage.file}: {damage.reason} (mended by {damage.mended_by})"
        console.print(line, style="red", markup=False, highlight=False)
    if report.damage:
        marked = "; the damaged parts are marked, so the next run redoes them" if report.marked else ""
        console.print(f"{len(report.damage)} damaged{marked}", style="red", highlight=False)
    else:
        console.print("everything is as it was written", style="green", highlight=False)
