"""The host phase: what it finds of planted lines, what it costs a page, and its memory over one host of many pages.

`python -m tests.bench.host_lines planted` (needs ../shared/data), `... pages 100000 1000000` (a process of its own for
each phase and number of pages; the pages are those of one host).
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import hostlines
from pipeline.ledger import Ledger, file_digest
from pipeline.parts import PartWriter
from pipeline.phases import host
from pipeline.progress import Reporter
from pipeline.recipe import RepeatedLines, check
from pipeline.work import Context, Task
from stages.schema import DOCUMENTS
from tests.bench.host_planting import HEADS, INSIDE, TAILS, generated_pages, real_pages, scored, spread

PART_ROWS = 100_000
"""Pages of a clean part."""
BATCH = 2_000
OWN = 18
"""Lines of a page that no other page has; 5 more stand on each page."""


def main() -> None:
    """Prints the figures asked for."""
    what, *numbers = sys.argv[1:] or ["planted"]
    if what == "planted":
        planted_lines()
    else:
        one_host([int(number) for number in numbers or ["100000", "1000000"]])


def planted_lines() -> None:
    """Recall of planted characters, and what else is cut, of real pages; each source as hosts of its own as well."""
    sources = real_pages()
    sources["generated"] = generated_pages(3_000, 5)
    print(f"{'pages':24}{'hosts of':>9}{'number':>9}{'planted':>11}{'recall':>9}{'unplanted':>11}")
    prose = [
        name for name in sources if name.partition("_")[0] in ("web", "books", "encyclopedia") and "links" not in name
    ]
    sets = {"all, mixed": list(sources), "prose, mixed": prose} | {name: [name] for name in sources}
    for name, members in sets.items():
        size = min(150, sum(len(sources[member]) for member in members))
        score = scored(spread(sources, members, size, 1), RepeatedLines())
        recall = score.found / max(1, score.planted)
        print(f"{name:24}{size:9,}{score.pages:9,}{score.planted:11,}{recall:9.4f}{score.unplanted:11,}")


def pages(count: int) -> Iterator[pa.RecordBatch]:
    """Pages of one host: lines of their own, of about 90 characters, and the same 5 on each."""
    rng = random.Random(3)
    lines = [line[:90] for text in generated_pages(400, 7) for line in text.split("\n") if len(line) > 60]
    head, inside, tail = "\n".join(HEADS[0]), INSIDE[0], "\n".join(TAILS[0][:1])
    for start in range(0, count, BATCH):
        texts = []
        for number in range(start, min(start + BATCH, count)):
            own = [f"{line} {number}" for line in rng.choices(lines, k=OWN)]
            texts.append("\n".join([head, *own[:9], inside, *own[9:], tail]))
        size = len(texts)
        columns: dict[str, Any] = {
            "id": [number.to_bytes(16, "little") for number in range(start, start + size)],
            "source": ["web"] * size,
            "url": [f"https://www.large.example/{number}" for number in range(start, start + size)],
            "text": texts,
        }
        arrays = [pa.array(columns.get(field.name, [None] * size), field.type) for field in DOCUMENTS]
        yield pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


def one_host(counts: list[int]) -> None:
    """CPU time and bytes on disk a page, and peak memory of each phase: all, and what is not mapped from files."""
    print(
        f"{'pages':>10} {'phase':12}{'units':>6}{'CPU us':>9}{'peak MB':>9}"
        f"{'not mapped':>12}{'at start':>10}{'disk B':>9}"
    )
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = write_parts(folder, count)
            spawn = multiprocessing.get_context("spawn")
            for phase in ("lines", "host_lines", "host"):
                with ProcessPoolExecutor(1, mp_context=spawn) as child:
                    facts = child.submit(measured, phase, folder, paths).result()
                cpu, peak, held, start = (facts[name] for name in ("cpu", "peak", "anonymous", "start"))
                print(
                    f"{count:10,} {phase:12}{facts['units']:6.0f}{1e6 * cpu / count:9.1f}{peak / 1e6:9.0f}"
                    f"{held / 1e6:12.0f}{start / 1e6:10.0f}{facts['bytes'] / count:9.0f}",
                    flush=True,
                )


def write_parts(folder: Path, count: int) -> list[str]:
    """The pages as clean parts; their paths in the run folder."""
    Ledger(folder / "run").folder.mkdir(parents=True)
    Ledger(folder / "run").create("bench")
    made, rows = [], pages(count)
    for number in range(-(-count // PART_ROWS)):
        made.append(f"clean/{number:04d}.parquet")
        with PartWriter(folder / "run" / made[-1], DOCUMENTS) as part:
            while part.rows < PART_ROWS and (batch := next(rows, None)) is not None:
                part.write(batch)
    return made


def context_of(folder: Path) -> Context:
    """A run with the default settings."""
    data = {"name": "bench", "inputs": [{"source": "web", "path": "x.jsonl", "format": "jsonl"}]}
    stages = {"stages": [{"gopher_quality": {}}], "host": {"repeated_lines": {}}}
    return Context(folder / "run", folder, check(data | stages, "bench", folder))


def measured(phase: str, folder: Path, paths: list[str]) -> dict[str, float]:
    """Does a phase, unit by unit, in this process."""
    context = context_of(folder)
    work: Callable[..., Any] = {"lines": host.line_work, "host_lines": host.range_work, "host": host.work}[phase]
    tasks = tasks_of(phase, context, paths)
    if phase == "host_lines":
        hostlines.distinct(hostlines.Records(*np.zeros((3, 4), np.uint64)))  # kernels are loaded at their first call
    else:
        small = Task(phase, "small", 0, {"path": "small.parquet", "digest": ""})
        pq.write_table(pq.ParquetFile(context.out / paths[0]).read_row_group(0).slice(0, 10), folder / "small.parquet")
        work_on(work, small, replace(context, out=folder), folder, warm=True)
    watch = Watch()
    start = memory()[1]
    begun = time.process_time()
    size = sum(work_on(work, task, context, folder) for task in tasks)
    cpu = time.process_time() - begun
    peak, anonymous = watch.stop()
    return {"units": len(tasks), "cpu": cpu, "peak": peak, "anonymous": anonymous, "start": start,
            "bytes": size}  # fmt: skip


def tasks_of(phase: str, context: Context, paths: list[str]) -> list[Task]:
    """The units of a phase, as its `tasks` would have them, without a clean phase ahead."""
    if phase == "host_lines":
        size = sum(part.bytes for row in context.ledger.rows("lines") for part in row.parts)
        count = min(-(-size // (host.RANGE * host.RECORD)), host.RANGES)
        return [Task(phase, f"{number:032d}", 0, {"number": number, "count": count}) for number in range(count)]
    return [
        Task(phase, f"{number:032d}", 0, {"path": path, "digest": file_digest(context.out / path)})
        for number, path in enumerate(paths)
    ]


def work_on(work: Callable[..., Any], task: Task, context: Context, folder: Path, *, warm: bool = False) -> int:
    """Does a unit and commits it: bytes of its parts."""
    desk = context.ledger.attempt()
    (folder / "reports").mkdir(exist_ok=True)
    staged, body = work(task, context, desk, Reporter(folder / "reports"))
    if warm:
        return 0
    row = context.ledger.commit(task.phase, task.key, staged, json.loads(json.dumps(body)) | {"timing": {"cpu_s": 0}})
    return sum(part.bytes for part in row.parts)


def memory() -> tuple[int, int]:
    """Bytes that this process holds: all, and without mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["RssAnon"].split()[0]) * 1024


class Watch:
    """The most memory that this process holds, looked at every few milliseconds."""

    def __init__(self) -> None:
        self.peak = self.anonymous = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.005):
            peak, anonymous = memory()
            self.peak, self.anonymous = max(self.peak, peak), max(self.anonymous, anonymous)

    def stop(self) -> tuple[int, int]:
        """Bytes: all, and without mapped files."""
        self._end.set()
        self._thread.join()
        return self.peak, self.anonymous


if __name__ == "__main__":
    main()
