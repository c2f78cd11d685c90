"""A figure of `make bench-extract`, and the table of them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.extract_scoring import Difference, paired_bootstrap

_COLUMNS = ("ours", "trafilatura", "resiliparse", "trafilatura fast", "warcio", "mean by page")


@dataclass(frozen=True)
class Row:
    """One figure of each contestant on the same pages, and whether ours reaches its goal (None: no goal)."""

    name: str
    pages: int
    scores: Mapping[str, float]
    difference: Difference | None = None
    """Ours less `against`."""
    against: str = ""
    target: str = ""
    met: bool | None = None


def compared(
    goal: str,
    scores: Mapping[str, Sequence[float]],
    target: str,
    *,
    against: str | None = "trafilatura",
    mean: float | None = None,
    low: float | None = None,
) -> Row:
    """A row of means, ours against one peer (None: whichever of trafilatura and resiliparse is better)."""
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    against = against or max(("trafilatura", "resiliparse"), key=lambda name: means[name])
    difference = paired_bootstrap(scores["ours"], scores[against])
    met = None
    if mean is not None:
        met = difference.mean >= mean
    if low is not None:
        met = difference.low > low
    return Row(goal, len(scores["ours"]), means, difference, against, target, met)


def show(rows: Sequence[Row]) -> None:
    """Prints the table, as wide as it needs to be; figures without a goal are indented or have no verdict."""
    names = [name for name in _COLUMNS if any(name in row.scores for row in rows)]
    table = Table("figure", "pages", *names, "ours less", "difference [95 %]", "goal", "", box=None, pad_edge=False)
    for column in table.columns[1 : 2 + len(names)]:
        column.justify = "right"
    for row in rows:
        scores = [_spelled(row.scores[name]) if name in row.scores else "" for name in names]
        difference = row.difference and "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row.difference)
        verdict = "" if row.met is None else "met" if row.met else "NOT MET"
        against = row.against if row.difference else ""
        table.add_row(row.name, str(row.pages), *scores, against, difference or "", row.target, verdict)
    Console(width=220, highlight=False, markup=False).print(table)
    goals = [row.met for row in rows if row.met is not None]
    print(f"{sum(goals)} of {len(goals)} goals met; {', '.join(f'{k} {v}' for k, v in environment().items())}")


def _spelled(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value > 1 else f"{value:.4f}"


def environment() -> dict[str, str]:
    """What the figures depend on."""
    packages = ("trafilatura", "resiliparse", "htmldate", "warcio", "selectolax")
    return {
        "machine": f"{platform.machine()} {os.cpu_count()} cores",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }
