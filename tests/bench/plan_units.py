"""What a unit costs beside its documents, and a worker before its first one: `python -m tests.bench.plan_units`.

A run over hundreds of files of five documents each, on one worker: the median unit of a phase is nearly all fixed cost,
and the dearest one (of the first that the worker did) holds what a worker reads and imports once. Beside them what the
working process takes to plan a unit, and all processes to commit one. The figures stand in `pipeline.planning.laws`.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import tempfile
from pathlib import Path
from statistics import median

from pipeline import spent
from pipeline.ledger import Ledger
from pipeline.phases import PHASES
from tests.bench.clean_pipeline import measured
from tests.bench.extract_report import environment

RECIPE = """
name: units
inputs: [{source: a, path: "in/*.jsonl", format: jsonl}]
stages: [{normalize: {}}]
host: {repeated_lines: {min_pages: 20}}
dedup: {exact: [url, text], near: {threshold: 0.8}, substrings: {tokens: 50}}
tokenizer: {train: {type: unigram, vocabulary: 400, sample_bytes: 200_000}}
shards: {tokens_per_shard: 10_000, validation: 0}
"""


def write(folder: Path, files: int) -> None:
    """Files of five documents of 150 words."""
    draw = random.Random(1)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9))) for _ in range(3_000)]
    (folder / "in").mkdir()
    (folder / "r.yaml").write_text(RECIPE)
    for number in range(files):
        with (folder / "in" / f"{number:05d}.jsonl").open("w") as out:
            for row in range(5):
                text = " ".join(draw.choices(words, k=150))
                url = f"https://h{number % 50}.example/{number}/{row}"
                out.write(json.dumps({"text": text, "url": url}) + "\n")


def main() -> int:
    """Prints a line for each phase, and what units take outside of themselves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.files)
        command = [sys.executable, "-m", "pipeline.cli", "run", str(folder / "r.yaml"), "--out", str(folder / "run")]
        told = measured([*command, "--workers", "1"])
        ledger = Ledger(folder / "run")
        units, planning, rest, pipelines, in_units = 0, 0.0, 0.0, 0, 0.0
        for phase in PHASES:
            times = [row.body["timing"] for row in ledger.rows(phase)]
            outside = spent.of_phase(ledger.store, phase)
            if not times or outside is None:
                continue
            cpu = sorted(time["cpu_s"] for time in times)
            beside = outside.pipelines[0].wall_s - sum(time["wall_s"] for time in times)
            middle = median(cpu)
            print(
                f"{phase:13}{len(cpu):6} units  median {1e3 * middle:7.1f} ms  "
                f"first {1e3 * (cpu[-1] - middle):7.0f} ms  beside {beside:6.2f} s"
            )
            units += len(cpu)
            pipelines += len(outside.pipelines)
            planning += outside.planning_wall_s
            rest += beside
            in_units += sum(cpu)
        run, working = spent.of_run(ledger.store), spent.of_working(ledger.store)
    assert run is not None
    assert working is not None
    workers = run.cpu_s - run.driver_cpu_s - run.binding_cpu_s - working.cpu_s - in_units
    print(f"{units} units in {pipelines} pipelines; whole {told['cpu']:.1f} s of CPU, {told['wall']:.1f} s")
    print(f"planning {1e3 * planning / units:.2f} ms a unit; workers beside units {workers:.1f} s of CPU")
    print(f"beside units {rest:.1f} s; {run}; {working}")
    print(json.dumps(environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
