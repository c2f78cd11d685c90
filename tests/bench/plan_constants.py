"""What `pipeline.planning` cannot learn from a small run: what the phases that are one unit take for a document.

`python -m tests.bench.plan_constants` makes up what exact, clusters, plan and the tokenizer's sample read, of one and
of three million documents, does each unit in a process of its own, and prints the slope between the two sizes: seconds
of CPU time and bytes of memory a document. It also measures what it costs to look into one more part (open, map,
search) and to read one more manifest row. The figures stand in `pipeline.planning.laws`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import lsh, token_parts
from pipeline.ledger import Staged
from pipeline.phases import clusters, exact, plan, signatures, tokenizer
from pipeline.processes import forget_peak, peak_memory
from pipeline.progress import Reporter
from pipeline.recipe import read_recipe
from pipeline.signed import NAMES, SignedPart
from pipeline.work import Context, Task
from stages.schema import ORIGIN
from tests.bench.extract_report import environment

SIZES = (1_000_000, 3_000_000)
PART = 100_000
TEXT = 60
"""Characters of a text, where one is read: what a document costs apart from its text."""
RECIPE = """
name: constants
inputs: [{source: web, path: x.jsonl}]
dedup: {exact: [url, text], near: {threshold: 0.8}}
tokenizer: {train: {sample_bytes: 1_000_000}}
shards: {validation: 0.005}
"""


def context_of(folder: Path) -> Context:
    """A run folder in which units can be done one by one."""
    (folder / "r.yaml").write_text(RECIPE)
    context = Context(folder / "run", folder, read_recipe(folder / "r.yaml"))
    context.ledger.folder.mkdir(parents=True)
    context.ledger.create("constants")
    return context


def ids(rng: np.random.Generator, count: int) -> pa.Array:
    """Random ids."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rng.bytes(16 * count))])


def origins(count: int) -> pa.Array:
    """Where records lie."""
    values = {"file": pa.array(["crawl/CC-MAIN-20240101-00000.warc.gz"] * count)}
    for name in ("offset", "length", "inner_offset", "inner_length"):
        values[name] = pa.array(np.arange(count, dtype=np.int64))
    return pa.StructArray.from_arrays([values[field.name].cast(field.type) for field in ORIGIN], fields=list(ORIGIN))


def of_exact(context: Context, documents: int) -> Task:
    """Signed parts without signatures, every tenth document a duplicate by URL or text."""
    settings = {"exact": ["text", "url"], "near": None, "sets": False, "quality": None}
    schema = signatures.schema_of(settings)
    parts = []
    (context.out / "signatures").mkdir(exist_ok=True)
    for number in range(0, documents, PART):
        rng = np.random.default_rng(number)
        keys = [np.frombuffer(rng.bytes(16 * PART), np.uint8).reshape(-1, 16).copy() for _ in range(2)]
        for each in keys:
            each[::10] = each[1::10][: len(each[::10])]
        columns = {
            "id": ids(rng, PART),
            "origin": origins(PART),
            "date": pa.array(rng.integers(0, 1 << 31, PART)),
            "length": pa.array(rng.integers(100, 10_000, PART)),
            "quality": pa.nulls(PART, pa.float64()),
            "content": ids(rng, PART),
        }
        for name, each in zip(("text_key", "url_key"), keys, strict=True):
            columns[name] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), PART, [None, pa.py_buffer(each)])
        stem = f"signatures/{number:09d}"
        pq.write_table(
            pa.table([columns[name] for name in schema.names], schema=schema), context.out / f"{stem}.parquet"
        )
        names = pa.RecordBatch.from_arrays(
            [columns["id"], pa.array(["web"] * PART), pa.array([f"https://www.example.org/{n}" for n in range(PART)])],
            schema=NAMES,
        )
        with pa.OSFile(str(context.out / f"{stem}.names"), "wb") as file, pa.ipc.new_file(file, NAMES) as out:
            out.write(names)
        parts.append([stem, PART, 0, False])
    return Task("exact", "0", 0, {"parts": parts})


def of_clusters(context: Context, documents: int) -> Task:
    """What exact found, and edges: each third document hangs together with the one before, found in three bands."""
    ledger = context.ledger
    rng = np.random.default_rng(1)
    found = {"rank": rng.permutation(documents), "survivor": np.arange(documents)}
    found |= {"reason": np.full(documents, -1), "known": np.zeros(0)}
    staged = []
    attempt = ledger.attempt()
    for name, kind in exact.FILES.items():
        found[name].astype(kind).tofile(attempt / name)
        staged.append(Staged(attempt / name, f"dedup/{name}-0.bin"))
    body = {"documents": documents, "known": 0, "bounds": [0, documents], "parts": [], "timing": {}}
    ledger.commit("exact", "0" * 32, staged, body)
    paths = []
    left = np.arange(0, documents - 1, 3, dtype=np.uint32)
    for number in range(3):
        path = context.out / "dedup" / f"edges-{number}.parquet"
        pq.write_table(pa.table({"left": left, "right": left + np.uint32(1)}), path, compression="zstd")
        paths.append(f"dedup/{path.name}")
    return Task("clusters", "0", 0, {"edges": paths, "stars": []})


def of_plan(context: Context, documents: int) -> Task:
    """Parts of tokens, of two tokens a document."""
    (context.out / "tokens").mkdir(exist_ok=True)
    paths = []
    for number in range(0, documents, PART):
        rng = np.random.default_rng(number)
        columns = {
            "id": ids(rng, PART),
            "source": pa.array(["web"] * PART),
            "url": pa.array([f"https://www.site-{n % 20_000}.com/{number + n}" for n in range(PART)]),
            "origin": origins(PART),
            "prefix_tokens": pa.array(np.zeros(PART, np.int32)),
            "n_tokens": pa.array(np.full(PART, 2)),
        }
        path = context.out / "tokens" / f"{number:09d}"
        token_parts.write(path, pa.table(columns), [np.zeros(2 * PART, np.uint16)], seed=0)
        paths.append(f"tokens/{path.name}.arrow")
    return Task("plan", "0", 0, {"paths": paths})


def of_sample(context: Context, documents: int) -> Task:
    """Parts of documents with short texts."""
    paths = []
    for number in range(0, documents, PART):
        rng = np.random.default_rng(number)
        digits = rng.integers(0, 10**9, PART)
        texts = [f"{digit:09d} ".ljust(TEXT, "x") for digit in digits.tolist()]
        columns = {"id": ids(rng, PART), "source": ["web"] * PART, "language": ["en"] * PART, "text": texts}
        path = context.out / f"{number:09d}.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=16_384)
        paths.append(path.name)
    return Task("tokenizer", "0", 0, {"paths": paths})


def sample(task: Task, context: Context, folder: Path, reporter: Reporter) -> Any:
    """The part of phase tokenizer that sees all documents."""
    return tokenizer.sample(context, [context.out / path for path in task.spec["paths"]], 1_000_000)


UNITS: dict[str, tuple[Callable[[Context, int], Task], Callable[..., Any]]] = {
    "exact": (of_exact, exact.work),
    "clusters": (of_clusters, clusters.work),
    "plan": (of_plan, plan.work),
    "tokenizer": (of_sample, sample),
}


def one(name: str, documents: int) -> dict[str, float]:
    """CPU seconds and peak memory of a unit, in this process."""
    make, work = UNITS[name]
    with tempfile.TemporaryDirectory() as place:
        context = context_of(Path(place))
        task = make(context, documents)
        folder = context.ledger.attempt()
        reporter = Reporter(folder)
        forget_peak()
        begun = time.process_time()
        work(task, context, folder, reporter)
        return {"cpu": time.process_time() - begun, "peak": peak_memory()}


def looked_into(parts: int = 4_000, rows: int = 16) -> float:
    """CPU seconds to look for one range of one band in one more part."""
    rule = lsh.Rule(0.8, 128, 9, 13, exact=False)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        values = np.random.default_rng(0).integers(0, 1 << 32, (rows, rule.permutations), np.uint32)
        found = []
        for number in range(parts):
            values.tofile(folder / f"{number}.bin")
            path = folder / f"{number}.bands"
            lsh.write_band_table(values + np.uint32(number), rule.bands, rule.rows, path)
            found.append(SignedPart(folder / f"{number}", path, rows, 0, False))
        count = parts * rows
        order = lsh.Order(
            np.arange(count, dtype=np.uint32), np.zeros(count, bool), np.zeros(0, np.uint32), np.array([0, count])
        )
        lsh.join(found[:10], order, rule, 0, (0, 1), folder)  # compiles
        begun = time.process_time()
        for band in range(3):
            lsh.join(found, order, rule, band, (0, 4096), folder)
        return (time.process_time() - begun) / 3 / parts


def read_row(rows: int = 4_000) -> float:
    """CPU seconds to read one more manifest row."""
    with tempfile.TemporaryDirectory() as place:
        context = context_of(Path(place))
        for number in range(rows):
            (Path(place) / "a").write_bytes(b"x")
            body = {"documents": number, "timing": {"cpu_s": 1.0, "wall_s": 1.0, "peak_rss": 1 << 29}}
            context.ledger.commit("bands", f"{number:032d}", [Staged(Path(place) / "a", f"dedup/{number}.bin")], body)
        begun = time.process_time()
        assert len(context.ledger.rows("bands")) == rows
        return (time.process_time() - begun) / rows


def main() -> int:
    """Prints the slopes; with a name and a number the figures of one unit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit", nargs="?", choices=list(UNITS))
    parser.add_argument("documents", nargs="?", type=int)
    options = parser.parse_args()
    if options.unit is not None:
        print(json.dumps(one(options.unit, options.documents)))
        return 0
    for name in UNITS:
        found = []
        for documents in SIZES:
            command = [sys.executable, "-m", "tests.bench.plan_constants", name, str(documents)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(told.splitlines()[-1]))
        step = SIZES[1] - SIZES[0]
        cpu, memory = ((found[1][key] - found[0][key]) / step for key in ("cpu", "peak"))
        print(f"{name:10} {1e6 * cpu:6.2f} µs and {memory:5.0f} bytes a document   {found}", flush=True)
    print(f"one more part looked into: {1e6 * looked_into():.0f} µs; one more row read: {1e6 * read_row():.0f} µs")
    print(json.dumps(environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
