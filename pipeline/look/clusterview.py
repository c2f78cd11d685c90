"""How `corpusmill inspect --clusters` looks."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pipeline.look.runfolder import one_line
from pipeline.look.tables import bar, percent, table


def print_report(facts: dict[str, Any], console: Console) -> None:
    """Sizes as bars, reasons, the largest clusters and the chains, with the beginnings of their texts."""
    if not facts["removed"]:
        console.print(f"no duplicates among {facts['entered']:,} documents", highlight=False)
        return
    stay = ", and stay nevertheless (`mode: mark`)" if facts["mode"] == "mark" else ""
    console.print(
        f"{facts['clusters']:,} clusters: {facts['removed']:,} of {facts['entered']:,} documents "
        f"({percent(facts['removed'], facts['entered'])}) lost to another one{stay}", highlight=False,
    )  # fmt: skip
    _print_sizes(facts["sizes"], console)
    reasons = table("Why they lost", "reason", "documents", "share")
    for name, count in facts["reasons"].items():
        reasons.add_row(name, f"{count:,}", percent(count, facts["removed"]))
    console.print(reasons)
    if facts["largest"]:
        console.print("\nLargest clusters", style="bold")
        for one in facts["largest"]:
            _print_cluster(one, console)
    if facts["chained_clusters"]:
        console.print(
            f"\nChains: in {facts['chained_clusters']:,} clusters ({facts['chained_removed']:,} documents lost) one "
            f"is less similar to its survivor than {facts['threshold']:g}, for pairs of others led there. The lowest:",
            style="bold", highlight=False,
        )  # fmt: skip
        for one in facts["chains"]:
            _print_cluster(one, console)


def _print_sizes(sizes: list[dict[str, int]], console: Console) -> None:
    made = table("Sizes of clusters", "documents", "clusters", "lost", "", text=[""])
    longest = max(one["removed"] for one in sizes)
    for one in sizes:
        span = str(one["from"]) if one["from"] == one["to"] else f"{one['from']:,} to {one['to']:,}"
        made.add_row(span, f"{one['clusters']:,}", f"{one['removed']:,}", bar(one["removed"], longest))
    console.print(made)


def _print_cluster(one: dict[str, Any], console: Console) -> None:
    lowest = "" if one["lowest"] is None else f", lowest similarity {one['lowest']:.3g}"
    console.print(f"\n{one['size']:,} documents, {one['removed']:,} lost{lowest}", style="bold", highlight=False)
    origin = "" if one["in_run"] in (True, None) else " (of an earlier crawl, not in this run)"
    _line("kept", one["survivor"], one["source"], one["url"], f"{origin}", console)
    _text(one["text"], None if one["in_run"] is False else "its text is not there any more", console)
    for member in one["members"]:
        figure = "" if member["similarity"] is None else f" {member['similarity']:.3g}"
        _line("lost", member["id"], member["source"], member["url"], f" ({member['reason']}{figure})", console)
        _text(member["text"], "its text is not there any more", console)
    rest = one["removed"] - len(one["members"])
    if rest:
        console.print(f"  and {rest:,} more lost", style="dim", highlight=False)


def _line(word: str, id_: str, source: str | None, url: str | None, more: str, console: Console) -> None:
    name = f"{one_line(source)}: " if source else ""
    console.print(f"  {word} {id_} {name}{one_line(url) or 'no URL'}{more}", markup=False, highlight=False)


def _text(text: str | None, otherwise: str | None, console: Console) -> None:
    shown = otherwise if text is None else one_line(text)
    if shown:
        console.print(f"       {shown}", markup=False, highlight=False, style="dim")
