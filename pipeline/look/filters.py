"""Whether stages drop more documents of one group than of another: a filter's bias that nobody asked for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from pipeline.look.runfolder import RunFolder
from pipeline.look.tables import percent, table

_SURE = 3.0
"""Standard errors by which a rate must differ from that of all others to be marked."""
_MUCH = 0.01
"""And by so much."""


def rates(run: RunFolder, label: str, order: Sequence[str], base: str | None = None) -> list[dict[str, Any]]:
    """For each stage from `label` on that dropped any: what of each group of this stage reached it, and was dropped.

    Groups are set against all documents, or those of the group `base`; a rate is marked where it differs from that of
    the others (two shares, by their standard error).
    """
    found: dict[str, dict[str, list[int]]] = {}
    for row in run.of("clean"):
        for step in row.body["funnel"]:
            if label not in step["groups"]:
                continue
            sums = found.setdefault(step["stage"], defaultdict(lambda: [0, 0]))
            everyone = {"": [step["entered"], sum(step["dropped"].values())]}
            for name, figures in (everyone | step["groups"][label]).items():
                sums[name] = [a + b for a, b in zip(sums[name], figures, strict=True)]
    made = []
    for stage, sums in found.items():
        whole = sums[base or ""]
        if not sums[""][1]:
            continue
        groups = {
            name: {
                "reached": sums[name][0],
                "dropped": sums[name][1],
                "rate": round(sums[name][1] / sums[name][0], 5),
                "marked": _differs(sums[name], whole),
            }
            for name in order
            if name in sums
        }
        made.append({"stage": stage, "reached": whole[0], "dropped": whole[1], "groups": groups})
    return made


def _differs(group: list[int], whole: list[int]) -> bool:
    """Whether [reached, dropped] of a group are another share than of the documents outside it."""
    reached, dropped = whole[0] - group[0], whole[1] - group[1]
    if not reached or not group[0]:
        return False
    mean = whole[1] / whole[0]
    error = math.sqrt(mean * (1 - mean) * (1 / reached + 1 / group[0]))
    return abs(group[1] / group[0] - dropped / reached) > max(_SURE * error, _MUCH)


def print_rates(found: list[dict[str, Any]], what: str, console: Console) -> None:
    """A row for each group, a column for each stage."""
    if not found:
        console.print(f"No stage behind it dropped a document, so none drops more of one {what}.", highlight=False)
        return
    stages = [facts["stage"] for facts in found]
    made = table(f"Share dropped by {what}, of the documents that reached the stage", what, "reached", *stages)
    made.add_row(
        "all of these", f"{found[0]['reached']:,}",
        *(percent(facts["dropped"], facts["reached"]) + "  " for facts in found), end_section=True,
    )  # fmt: skip
    for name in dict.fromkeys(name for facts in found for name in facts["groups"]):
        here = [facts["groups"].get(name) for facts in found]
        cells = ["" if group is None else f"{group['rate']:.1%}{' *' if group['marked'] else '  '}" for group in here]
        made.add_row(name, f"{here[0]['reached'] if here[0] else 0:,}", *cells)
    console.print(made)
    console.print(
        f"* differs by more than {_SURE:g} standard errors, and {_MUCH:.0%}, from the rate of the others; stages that "
        "come before the tags are not judged", highlight=False,
    )  # fmt: skip
