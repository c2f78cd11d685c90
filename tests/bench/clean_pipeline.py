"""From WARC files to documents with FineWeb's steps, beside datatrove's FineWeb example: `make bench-pipeline`.

The same files, CPU of all processes (user and system) over the pages, peak memory of all processes together (what
several share counts once). Ours runs with its own extractor and with trafilatura. What a run costs whatever it reads is
measured on a handful of pages, with kernels compiled, and reported apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.resources import locate
from stages.language.stage import LID_176
from tests.bench.clean_stages import PEER_CACHE, peer_python
from tests.bench.extract_report import environment

ROOT = Path(__file__).parents[2]
CRAWL = ROOT.parent / "shared" / "data" / "crawl"
FEW = ROOT / "tests" / "data" / "crawl" / "odd.warc.gz"
RECIPE = ROOT / "configs" / "fineweb.yaml"


def measured(command: list[str]) -> dict[str, float]:
    """CPU seconds of a command and its children, wall seconds, and the peak of the memory that they hold together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        parent = psutil.Process(process.pid)
        while not done.wait(0.2):
            total = 0
            try:
                for each in (parent, *parent.children(recursive=True)):
                    try:
                        total += each.memory_full_info().pss
                    except psutil.Error:
                        continue
            except psutil.Error:
                return
            peak = max(peak, total)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    if status:
        raise subprocess.CalledProcessError(status, command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": time.monotonic() - begun, "peak": peak}


def ours(folder: Path, out: Path, workers: int, engine: str) -> dict[str, float]:
    """Our run, cut off behind the clean phase: no deduplication, no shards."""
    recipe = yaml.safe_load(RECIPE.read_text("utf-8"))
    recipe["inputs"] = [{"source": "web", "format": "warc", "path": f"{folder}/*.warc.gz"}]
    recipe.pop("dedup")
    settings: dict[str, Any] = {"engine": engine}
    if engine == "trafilatura":
        settings["mode"] = "precision"
    recipe["stages"] = [{"extract": settings} if "extract" in stage else stage for stage in recipe["stages"]]
    path = out / f"{engine}.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path), "--out", str(out / engine)]
    return measured([*command, "--workers", str(workers)])


def contest(folder: Path, out: Path, workers: int, python: Path) -> dict[str, dict[str, float]]:
    """Every contestant over the WARC files of a folder."""
    out.mkdir()
    found = {engine: ours(folder, out, workers, engine) for engine in ("blocks", "trafilatura")}
    script = Path(__file__).with_name("datatrove_fineweb.py")
    arguments = (script, folder, out / "theirs", locate(LID_176, ROOT), workers)
    return found | {"datatrove": measured([str(python), *map(str, arguments)])}


def pages_of(run: Path) -> int:
    """Pages that a run read."""
    command = [sys.executable, "-m", "pipeline.cli", "inspect", str(run), "--json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return int(json.loads(told)["funnel"][1]["entered"])


def main() -> int:
    """Prints the table; 2 where the pages are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=9, help="of the crawl's, of about 300 pages each")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--peer", type=Path, default=PEER_CACHE, help="folder of datatrove's environment")
    options = parser.parse_args()
    files = sorted(CRAWL.glob("*.warc.gz"))[: options.files]
    if not files:
        print("the pages (../shared/data/crawl) are not here", file=sys.stderr)
        return 2
    python = peer_python(options.peer)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        few, many = scratch / "few", scratch / "many"
        few.mkdir()
        many.mkdir()
        for number in range(options.workers):
            shutil.copy(FEW, few / f"{number}.warc.gz")
        for file in files:
            shutil.copy(file, many)
        for engine in ("blocks", "trafilatura"):  # compiles the kernels
            (scratch / engine).mkdir()
            ours(few, scratch / engine, options.workers, engine)
        starts = contest(few, scratch / "start", options.workers, python)
        found = contest(many, scratch / "all", options.workers, python)
        some, pages = pages_of(scratch / "start" / "blocks"), pages_of(scratch / "all" / "blocks")
    print(f"{len(files)} files, {pages} pages, {options.workers} workers; CPU")
    theirs = found["datatrove"]["cpu"]
    slope = {name: (one["cpu"] - starts[name]["cpu"]) / (pages - some) for name, one in found.items()}
    for name, one in found.items():
        print(
            f"{name:<12}{1000 * one['cpu'] / pages:7.1f} ms a page in all (1/{theirs / one['cpu']:.1f}); "
            f"{starts[name]['cpu']:5.1f} s to start, then {1000 * slope[name]:6.1f} ms "
            f"(1/{slope['datatrove'] / slope[name]:.1f}){one['wall']:8.1f} s{one['peak'] / 1e6:8.0f} MB at most"
        )
    print(json.dumps(environment() | {"cores": os.cpu_count()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
