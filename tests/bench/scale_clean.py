"""How the clean phase scales with workers and with the crawl: `python -m tests.bench.scale_clean`.

The shared crawl (2,519 real pages), `--copies` times, under other URLs in each copy, so that every record has an id of
its own; FineWeb's steps without deduplication. First pairs of runs in turn, on one worker and on two: the speed-up of
the clean phase is the median of the pairs' ratios, beside what two processes that share nothing but the machine reach.
Then the same crawl twice and four times: counts of every stage must grow exactly as the crawl does, CPU time about so,
and the memory of the driver and of the workers not at all. `--runner flink` does the same on the cluster that
`make cluster-up` started, where the number of workers is the parallelism; its own processes are looked at too.

The clock of a phase is the run's own: the start times of phases in the file of `--metrics-file`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import yaml
from isal import igzip
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.clean_pipeline import CRAWL, RECIPE, ROOT
from tests.bench.extract_report import environment
from tests.bench.tree_memory import DRIVER, WORKERS, WORKING, TreeMemory

LEAST_SECONDS = 120.0
"""Of the clean phase on one worker: below, its start is too much of it."""
LEAST_SPEED_UP = 1.6
MOST_MEMORY = 1.15
"""The peak on the largest crawl by that on the smallest; a process' allocator alone moves it by some percent."""
MOST_CPU = 1.1
"""CPU time a page on the largest crawl by that on the smallest, either way."""
URI = re.compile(rb"(?im)^(WARC-Target-URI: *)([^\s#]+)")


@dataclass(frozen=True)
class Run:
    """What was seen of one run."""

    times: int
    workers: int
    seconds: float
    """Wall time of the clean phase."""
    cpu: Mapping[str, float]
    """By stage, and of the whole phase as `clean`."""
    counts: Mapping[tuple[str, ...], float]
    """Records read, kept by stage, dropped by stage and reason."""
    peaks: Mapping[str, int]


def members(data: bytes) -> Iterator[bytes]:
    """The contents of the gzip members that follow one another."""
    while data:
        stream = zlib.decompressobj(31)
        yield stream.decompress(data)
        data = stream.unused_data


def build(folder: Path, copies: int, files: int) -> None:
    """`folder/COPY-NAME.warc.gz`: files of the crawl so many times; their addresses say which copy it is."""
    for source in sorted(CRAWL.glob("*.warc.gz"))[:files]:
        records = list(members(source.read_bytes()))
        for copy in range(copies):
            with (folder / f"{copy:03d}-{source.name}").open("wb") as file:
                for record in records:
                    head, blank, block = record.partition(b"\r\n\r\n")
                    head = URI.sub(lambda found, copy=copy: _renamed(found, copy), head)  # type: ignore[misc]
                    file.write(igzip.compress(head + blank + block, 1))


def _renamed(found: re.Match[bytes], copy: int) -> bytes:
    mark = b"&" if b"?" in found[2] else b"?"
    return found[1] + found[2] + mark + b"copy=%d" % copy


def some(crawl: Path, folder: Path, copies: int) -> None:
    """A folder with the first copies of a crawl, by hard links."""
    folder.mkdir()
    for path in sorted(crawl.iterdir()):
        if int(path.name.partition("-")[0]) < copies:
            os.link(path, folder / path.name)


def recipe(crawl: Path) -> dict[str, Any]:
    """FineWeb's, up to its documents."""
    found: dict[str, Any] = yaml.safe_load(RECIPE.read_text("utf-8"))
    found.pop("dedup")
    return found | {"inputs": [{"source": "web", "format": "warc", "path": f"{crawl}/*.warc.gz"}]}


def run(scratch: Path, times: int, workers: int, runner: str, options: Sequence[str]) -> Run:
    """One run over the crawl so many times; ends this process with its output where it fails."""
    path, out, figures = scratch / f"{times}.yaml", scratch / "run", scratch / "run.prom"
    path.write_text(yaml.safe_dump(recipe(scratch / f"x{times}")), "utf-8")
    command = [sys.executable, "-m", "pipeline.cli", "run", path, "--out", out, "--metrics-file", figures]
    command += ["--workers", workers, "--runner", runner, *(["--", *options] if options else [])]
    log = scratch / "log"
    with log.open("wb") as said:
        process = subprocess.Popen([str(word) for word in command], stdout=said, stderr=said, cwd=ROOT)
        with TreeMemory(process.pid, cluster if runner == "flink" else list) as memory:
            status = process.wait()
    if status:
        sys.exit(f"the run ended with {status}:\n{log.read_text('utf-8')}")
    seen = samples(figures.read_text("utf-8"))
    shutil.rmtree(out)
    starts = {key[1]: value for key, value in seen.items() if key[0] == "corpusmill_phase_start_time_seconds"}
    after = min(value for value in starts.values() if value > starts["clean"])
    cpu = {key[1]: value for key, value in seen.items() if key[0] == "corpusmill_stage_cpu_seconds_total"}
    cpu["clean"] = seen["corpusmill_cpu_seconds_total", "clean"]
    counts = {key: value for key, value in seen.items() if re.search("documents_(read|kept|dropped)_total", key[0])}
    return Run(times, workers, after - starts["clean"], cpu, counts, dict(memory.peaks))


def samples(text: str) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels but for `run`, these in the order of their names."""
    return {
        (one.name, *(value for name, value in sorted(one.labels.items()) if name != "run")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def cluster() -> list[tuple[str, int]]:
    """The processes of the cluster on this machine by role: its pools are the workers."""
    from pipeline.cluster import local

    facts = local.running()
    if facts is None:
        return []
    return [(WORKERS if name.startswith("pool") else name, pid) for name, pid in facts.parts.items() if pid is not None]


def ceiling(crawl: Path, seconds: float) -> float:
    """How much more work two processes that share nothing do than one: a batch of pages through the stages, again and
    again, each on its own."""
    spawn = multiprocessing.get_context("spawn")
    rates = []
    for count in (1, 2):
        barrier, told = spawn.Barrier(count), spawn.Queue()
        each = [spawn.Process(target=_busy, args=(crawl, seconds, barrier, told)) for _ in range(count)]
        for process in each:
            process.start()
        rates.append(sum(told.get() for _ in each))
        for process in each:
            process.join()
    return rates[1] / rates[0]


def _busy(crawl: Path, seconds: float, barrier: Barrier, told: Any) -> None:
    from pipeline.phases.clean import BATCH_ROWS, chain_of
    from pipeline.readers import READERS
    from pipeline.readers.base import Piece, Tally, batches
    from pipeline.recipe import Recipe
    from pipeline.work import Context

    context = Context(crawl.parent / "none", RECIPE.parent, Recipe.model_validate(recipe(crawl)))
    path = sorted(crawl.iterdir())[-1]
    piece = Piece("web", "warc", str(path), path.name, 0, path.stat().st_size, ())
    pages = [batch for batch, _ in batches(READERS["warc"].read(piece, Tally()), "web", BATCH_ROWS)]
    chain = chain_of(context)
    chain.run(pages[0], chain.books())
    barrier.wait()
    begun, done = time.monotonic(), 0
    while time.monotonic() - begun < seconds:
        chain.run(pages[done % len(pages)], chain.books())
        done += 1
    told.put(done / (time.monotonic() - begun))


def shown(one: Run) -> str:
    """A line of the table."""
    pages = sum(value for key, value in one.counts.items() if key[0] == "corpusmill_documents_read_total")
    held = ", ".join(f"{role} {size / 1e6:,.0f}" for role, size in sorted(one.peaks.items()))
    spent = f"clean {one.seconds:7.1f} s, CPU {one.cpu['clean']:7.1f} s"
    return f"{one.times}x {pages:>9,.0f} records, {one.workers} workers: {spent}; MB: {held}"


def grown(runs: Sequence[Run]) -> list[tuple[str, bool]]:
    """What must be so of runs over more and more of the crawl on as many workers, and whether it is."""
    first, last = runs[0], runs[-1]
    more = last.times / first.times
    exact = all(
        one.counts == {key: value * one.times / first.times for key, value in first.counts.items()} for one in runs
    )
    found = [(f"counts of all stages {more:g} times over {last.times}x", exact)]
    for stage, spent in first.cpu.items():
        ratio = last.cpu[stage] / spent / more if spent > 1 else 1.0
        if stage == "clean" or not 1 / MOST_CPU <= ratio <= MOST_CPU:
            found.append((f"CPU of {stage} a page: {ratio:.2f}", 1 / MOST_CPU <= ratio <= MOST_CPU))
    for role in (DRIVER, WORKING, WORKERS):
        ratio = last.peaks[role] / first.peaks[role]
        found.append((f"memory of {role}: {ratio:.2f}, goal at most {MOST_MEMORY}", ratio <= MOST_MEMORY))
    return found


def main() -> int:
    """Prints all runs and the verdicts; 1 where one is missed, 2 where the pages are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=6, help="of the shared crawl, which are 1x")
    parser.add_argument("--files", type=int, default=9, help="of the shared crawl, of about 300 pages each")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--workers", type=int, nargs=2, default=[1, 2])
    parser.add_argument("--runner", default="local")
    parser.add_argument("--folder", type=Path, help="where crawl and runs go: 90 MB a copy, four times, and the runs")
    parser.add_argument("options", nargs="*", help="of the runner, behind --")
    asked = parser.parse_args()
    if not list(CRAWL.glob("*.warc.gz")):
        print("the pages (../shared/data/crawl) are not here", file=sys.stderr)
        return 2
    few, many = asked.workers
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        scratch = Path(name)
        (scratch / "crawl").mkdir()
        build(scratch / "crawl", asked.copies * max(asked.times), asked.files)
        some(scratch / "crawl", scratch / "x0", 1)
        for times in asked.times:
            some(scratch / "crawl", scratch / f"x{times}", asked.copies * times)

        def go(times: int, workers: int) -> Run:
            found = run(scratch, times, workers, asked.runner, asked.options)
            print(shown(found), flush=True)
            return found

        above = [ceiling(scratch / "x0", 15.0)]
        run(scratch, 0, many, asked.runner, asked.options)  # kernels are compiled, files of Python read
        pairs = [(go(asked.times[0], few), go(asked.times[0], many)) for _ in range(asked.pairs)]
        above.append(ceiling(scratch / "x0", 15.0))
        grows = {
            workers: [_median([pair[place] for pair in pairs]), *(go(times, workers) for times in asked.times[1:])]
            for place, workers in enumerate((few, many))
        }
    verdicts = []
    ratios = sorted(one.seconds / other.seconds for one, other in pairs)
    alone = statistics.median(one.seconds for one, _ in pairs)
    speed_up = statistics.median(ratios)
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    verdicts.append((f"one worker is at work for {alone:.0f} s, at least {LEAST_SECONDS:.0f}", alone >= LEAST_SECONDS))
    verdicts.append((f"speed-up {speed_up:.2f}, goal {LEAST_SPEED_UP} (pairs: {told})", speed_up >= LEAST_SPEED_UP))
    for workers, runs in grows.items():
        if len(runs) > 1:
            verdicts += [(f"{workers} workers: {text}", met) for text, met in grown(runs)]
    print(f"two processes that share nothing: {' and '.join(f'{one:.2f}' for one in above)} of one's work")
    for text, met in verdicts:
        print(f"  {'met    ' if met else 'NOT MET'} {text}")
    print(json.dumps(environment() | {"threads of a core": _threads()}))
    return 0 if all(met for _, met in verdicts) else 1


def _median(runs: Sequence[Run]) -> Run:
    """A run with the median of the peaks and of CPU; counts must be the same in all."""
    assert all(one.counts == runs[0].counts for one in runs), "the same crawl gave other counts"
    peaks = {role: int(statistics.median(one.peaks.get(role, 0) for one in runs)) for role in runs[0].peaks}
    cpu = {stage: statistics.median(one.cpu[stage] for one in runs) for stage in runs[0].cpu}
    return replace(runs[0], peaks=peaks, cpu=cpu)


def _threads() -> str:
    """Which logical cores the system says share the first one's."""
    path = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return path.read_text().strip() if path.exists() else "unknown"


if __name__ == "__main__":
    sys.exit(main())
