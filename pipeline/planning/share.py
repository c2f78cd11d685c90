"""How much of a run's CPU time one process alone could spend, whatever the number of workers: its serial share."""

from __future__ import annotations

from typing import Any

from pipeline import spent
from pipeline.ledger import Ledger

SINGLE = ("exact", "clusters", "tokenizer", "plan")
"""Phases of one unit by their nature."""


def serial_share(ledger: Ledger) -> dict[str, Any] | None:
    """CPU seconds of the run in all, and of them the serial ones by what spent them; their share.

    Serial are phases of one unit; phases so small that one worker does them; the driver; the working process, which
    plans units; binding the stages. None where the run did not note it, was finished in several goes, or had its
    workers elsewhere.
    """
    run, working = spent.of_run(ledger.store), spent.of_working(ledger.store)
    if run is None or working is None or not run.local or not run.cpu_s:
        return None
    found = {"driver": run.driver_cpu_s, "working process": working.cpu_s, "binding stages": run.binding_cpu_s}
    for name, units in run.units.items():
        rows = ledger.rows(name)
        if len(rows) != units:
            return None
        outside = spent.of_phase(ledger.store, name)
        if not rows or outside is None:
            continue
        if name in SINGLE or all(one.alone for one in outside.pipelines):
            found[name] = sum(row.body["timing"]["cpu_s"] for row in rows)
    serial = sum(found.values())
    return {
        "cpu_seconds": round(run.cpu_s, 3),
        "wall_seconds": run.wall_s,
        "workers": run.workers,
        "serial_seconds": round(serial, 3),
        "share": round(serial / run.cpu_s, 4),
        "of": {name: round(value, 3) for name, value in sorted(found.items(), key=lambda item: -item[1])},
    }
