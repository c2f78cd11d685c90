"""Whether a plan comes true: a crawl on one worker foretells four times the crawl on two, `plan-run`'s promise.

`python -m tests.bench.plan_calibrate` makes a crawl of the shared pages, so many times over: in each copy hosts have
other names and the words of each passage another order, so that no page is a duplicate of another copy's while lengths,
words and shares stay. The demo's recipe runs over it on one worker (two minutes or more), the plan for four times as
much on one machine of two cores is made of that, and that run follows. What was foretold is printed beside what came:
wall and CPU time, disk and the peak of a worker's memory, by phase and in all; and the serial share of either run.

Cores are not alone in a machine: two that work at once do less than twice as much. How much less is measured
beforehand, by two processes that share nothing (`--busy` of plan-run).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from isal import igzip

from pipeline.ledger import Ledger
from pipeline.planning.share import serial_share
from tests.bench.clean_pipeline import CRAWL, ROOT
from tests.bench.extract_report import environment
from tests.bench.scale_clean import URI, ceiling, members

DEMO = ROOT / "configs" / "demo.yaml"
TIMES = 4
WITHIN = 0.15
LEAST_SECONDS = 120.0
SMALL = 0.02
"""Share of the whole below which a phase may miss: its figure is that of starting it."""
PASSAGE = re.compile(rb">([^<>{}]{24,})<")
HOST = re.compile(rb"(://)")


def build(folder: Path, copies: int, files: int, first: int = 0) -> None:
    """`folder/COPY-NAME.warc.gz` for so many copies from `first` on."""
    for source in sorted(CRAWL.glob("*.warc.gz"))[:files]:
        records = list(members(source.read_bytes()))
        for copy in range(first, first + copies):
            draw = random.Random(f"{copy} {source.name}")
            with (folder / f"{copy:03d}-{source.name}").open("wb") as file:
                for record in records:
                    head, blank, block = record.partition(b"\r\n\r\n")
                    head = URI.sub(lambda found, c=copy: found[1] + HOST.sub(b"\\1c%d." % c, found[2], count=1), head)  # type: ignore[misc]
                    http, gap, page = block.partition(b"\r\n\r\n")
                    page = PASSAGE.sub(lambda found, draw=draw: b">" + shuffled(found[1], draw) + b"<", page)
                    file.write(igzip.compress(head + blank + http + gap + page, 1))


def shuffled(passage: bytes, draw: random.Random) -> bytes:
    """The words of a passage in another order; of one without spaces its characters. As long as it was."""
    words = passage.split(b" ")
    if len(words) > 5:
        draw.shuffle(words)
        return b" ".join(words)
    try:
        letters = list(passage.decode("utf-8"))
    except UnicodeDecodeError:
        return passage
    if all(ord(letter) < 0x3000 for letter in letters):
        return passage
    draw.shuffle(letters)
    return "".join(letters).encode()


def corpusmill(*arguments: object) -> str:
    """Standard output of a command. Raises CalledProcessError."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"corpusmill {' '.join(map(str, arguments))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def recipe(folder: Path, name: str) -> Path:
    """The demo's recipe over a crawl, on which its bands need not hold."""
    found: dict[str, Any] = yaml.safe_load(DEMO.read_text("utf-8"))
    for section in ("mixture", "expect"):
        found.pop(section)
    found["inputs"] = [{"source": "web", "format": "warc", "path": f"{folder / name}/*.warc.gz"}]
    found["shards"] = {"tokens_per_shard": 2_000_000, "validation": 0}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(found), "utf-8")
    return path


def seen(folder: Path) -> dict[str, Any]:
    """What a run took, as `plan-run --json` has it."""
    from pipeline.planning import measured

    found = measured.read(folder)
    assert found.run is not None
    phases = {}
    for name, cost in found.phases.items():
        if cost.units and cost.outside is not None:
            phases[name] = {
                "wall": cost.outside.wall_s, "CPU": cost.cpu_s, "disk": found.committed[name], "memory": cost.peak
            }  # fmt: skip
    whole = {
        "wall": found.run.wall_s,
        "CPU": found.run.cpu_s,
        "disk": sum(found.committed.values()) + found.rows_size,
        "memory": max(cost.peak for cost in found.phases.values()),
    }
    return {"phases": phases, "whole": whole, "pages": found.amounts.pages, "documents": found.amounts.survivors}


def foretold(plan: dict[str, Any]) -> dict[str, Any]:
    """The same out of a plan."""
    phases = {
        line["phase"]: {
            "wall": line["wall_seconds"], "CPU": line["cpu_seconds"], "disk": line["written_bytes"],
            "memory": line["worker_memory_bytes"],
        }
        for line in plan["phases"]
    }  # fmt: skip
    whole = {
        "wall": plan["wall_seconds"],
        "CPU": plan["cpu_seconds"],
        "disk": plan["disk_bytes"],
        "memory": max(phase["memory"] for phase in phases.values()),
    }
    return {"phases": phases, "whole": whole}


def table(told: dict[str, Any], came: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Prints what was foretold beside what came; name, ratio and whether it counts, for each figure."""
    verdicts = []
    figures = {"wall": 1.0, "CPU": 1.0, "disk": 1e6, "memory": 1e6}
    print(
        f"{'':13}"
        + "".join(f"{name + unit:>29}" for name, unit in zip(figures, (" s", " s", " MB", " MB"), strict=True))
    )
    for name in (*came["phases"], "whole"):
        one, other = (told["whole"], came["whole"]) if name == "whole" else (told["phases"][name], came["phases"][name])
        line = f"{name:13}"
        for figure, unit in figures.items():
            ratio = one[figure] / other[figure] if other[figure] else 1.0
            line += f"{one[figure] / unit:11.1f} /{other[figure] / unit:9.1f} {ratio:5.2f} "
            large = other[figure] > SMALL * came["whole"][figure]
            verdicts.append((f"{figure} of {name}", ratio, large))
        print(line)
    return verdicts


def main() -> int:
    """Prints the table and the verdicts; 1 where one is missed, 2 where the pages are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=6, help="of the shared crawl, which are 1x")
    parser.add_argument("--files", type=int, default=9, help="of the shared crawl, of about 300 pages each")
    parser.add_argument("--folder", type=Path, help="where crawl and runs go: 0.7 GB for each copy")
    parser.add_argument("--busy", type=float, help="instead of measuring it")
    parser.add_argument("--keep", type=Path, help="a folder to which the two runs are moved")
    options = parser.parse_args()
    if not list(CRAWL.glob("*.warc.gz")):
        print("the pages (../shared/data/crawl) are not here", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for size, copies in (("x0", 1), ("x1", options.copies), (f"x{TIMES}", options.copies * TIMES)):
            (folder / size).mkdir()
            build(folder / size, copies, 1 if size == "x0" else options.files, 900 if size == "x0" else 0)
        recipes = {size: recipe(folder, size) for size in ("x0", "x1", f"x{TIMES}")}
        corpusmill("run", recipes["x0"], "--out", folder / "r0", "--workers", 2)  # kernels are compiled, files read
        busy = options.busy or 2 / ceiling(folder / "x0", 15.0)
        runs = [folder / "one", folder / "four"]
        corpusmill("run", recipes["x1"], "--out", runs[0], "--workers", 1)
        one = seen(runs[0])
        print(
            f"1x: {one['pages']:,.0f} pages, {one['whole']['wall']:.0f} s on one worker; cores at once {busy:.2f}",
            flush=True,
        )
        crawl = f"{sum(path.stat().st_size for path in (folder / f'x{TIMES}').iterdir())}B"
        asks = [recipes[f"x{TIMES}"], "--from", runs[0], "--crawl", crawl, "--machines", "1x2", "--busy", f"{busy:.3f}"]
        plan = json.loads(corpusmill("plan-run", *asks, "--json"))
        corpusmill("run", recipes[f"x{TIMES}"], "--out", runs[1], "--workers", 2)
        came = seen(runs[1])
        print(f"{TIMES}x: {came['pages']:,.0f} pages, {came['documents']:,.0f} documents; foretold / came, ratio")
        verdicts = table(foretold(plan), came)
        shares = [serial_share(Ledger(run)) for run in runs]
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for run in runs:
                shutil.move(run, options.keep / run.name)
    missed = [(what, round(ratio, 2)) for what, ratio, large in verdicts if large and not abs(ratio - 1) <= WITHIN]
    verdict = "NOT MET" if missed else "met    "
    print(f"  {verdict} within {WITHIN:.0%}, phases above {SMALL:.0%} of the whole; missed: {missed or 'none'}")
    long = one["whole"]["wall"] >= LEAST_SECONDS
    print(f"  {'met    ' if long else 'NOT MET'} 1x takes {one['whole']['wall']:.0f} s, at least {LEAST_SECONDS:.0f}")
    low = True
    for times, share in zip((1, TIMES), shares, strict=True):
        assert share is not None
        low = low and share["share"] <= 0.1
        print(f"  serial share of {times}x: {share['share']:.1%} of {share['cpu_seconds']:.0f} s: {share['of']}")
    print(f"  {'met    ' if low else 'NOT MET'} serial shares at most 10 %")
    print(json.dumps(environment()))
    return 0 if long and low and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
