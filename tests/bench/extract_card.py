"""Writes the scores of `python -m tests.bench.extract --json FILE` into the model card beside the model.

    python -m tests.bench.extract_card FILE

The card keeps everything outside its two marks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CARD = Path(__file__).parents[2] / "stages" / "data" / "extract-blocks.md"
BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"
KEPT = ("token F1", "snippets", "4-gram F1")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each figure once, whatever it is compared with, as a table in Markdown."""
    lines = [
        "| figure | pages | `blocks` | trafilatura | resiliparse | difference [95 %] |",
        "|---|--:|--:|--:|--:|---|",
    ]
    seen = set()
    for row in rows:
        name = row["name"].strip()
        if name in seen or not name.startswith(KEPT):
            continue
        seen.add(name)
        scores = " | ".join(f"{row['scores'][who]:.3f}" for who in ("ours", "trafilatura", "resiliparse"))
        mean, low, high = row["difference"]
        lines.append(
            f"| {name} | {row['pages']:,} | {scores} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] to {row['against']} |"
        )
    return "\n".join(lines)


def filled(card: str, figures: Mapping[str, Any]) -> str:
    """The card with these figures between its marks. Raises ValueError where a mark is missing."""
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the card has no {BEGIN} or no {END} behind it")
    made = ", ".join(f"{name} {version}" for name, version in figures["environment"].items() if name != "machine")
    return f"{before}{BEGIN}\n{table(figures['rows'])}\n\nMeasured with {made}.\n{END}{after}"


if __name__ == "__main__":
    CARD.write_text(filled(CARD.read_text("utf-8"), json.loads(Path(sys.argv[1]).read_text("utf-8"))), "utf-8")
