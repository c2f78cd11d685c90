"""The page on a run of a million documents: CPU time, memory, size. `python -m tests.bench.look_report`.

The run is made by `tests.bench.big_run`, without a crawl beside it, so that the texts of dropped documents, which are
cut from the crawl again, cost nothing here: `--run DIR` measures a run folder of yours. `inspect` is measured too,
and with `--compare` a comparison of two runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from pipeline.look import overview
from pipeline.look.report import compare, single
from pipeline.look.report.facts import Asked
from tests.bench import big_run
from tests.bench.extract_report import environment

GOALS = "goal: a report of a million documents in at most 20 s and 15 MB"


def measured(name: str, started: float, cpu: float, size: int) -> dict[str, float | str]:
    """One row of the result."""
    return {
        "what": name,
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "megabytes": round(size / 1e6, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def main() -> None:
    """Prints a row for each thing that was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--run", type=Path, help="A run folder to measure, instead of one that is made.")
    parser.add_argument("--compare", action="store_true", help="Also compare the run with one made with another seed.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.run or Path(scratch) / "run"
        if asked.run is None:
            big_run.make(folder, asked.documents)
        rows = []
        begun, cpu = time.monotonic(), time.process_time()
        facts = overview.inspection(folder, hosts=True)
        rows.append(measured("inspect", begun, cpu, len(json.dumps(facts))))
        begun, cpu = time.monotonic(), time.process_time()
        page = single.report(folder, Asked(0.04))
        rows.append(measured("report", begun, cpu, len(page.encode())))
        if asked.compare:
            other = Path(scratch) / "other"
            big_run.make(other, asked.documents, seed=2)
            begun, cpu = time.monotonic(), time.process_time()
            page = compare.report(folder, other, Asked(0.04))
            rows.append(measured("report A B", begun, cpu, len(page.encode())))
    documents = facts["records"]["kept"]
    if asked.json:
        print(json.dumps({"documents": documents, "rows": rows, "environment": environment()}))
        return
    print(f"{documents:,} documents; {GOALS}")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
