"""From signatures to clusters: documents a second, memory, up to 10 million; and the hard buckets: `make bench-dedup`.

Synthetic signatures of 14 × 8 values with planted clusters (`tests.bench.dedup_matrices`), in parts of half a million
as the signatures phase leaves them. What is timed is the work of the phases bands, join (two processes, a unit for each
range of keys of each band) and clusters (union-find), in their functions. Memory is what all processes hold together
and is not the contents of a file (anonymous pages, those shared by several counted once), looked at ten times a second.

`--hard`: 200,000 equal documents, 200,000 nearly equal ones, and 200,000 strangers in one bucket with 100,000 pairs
among them; each must come out right, in time that is linear.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import components, lsh, matching
from pipeline.signed import SignedPart, mapped
from tests.bench import dedup_matrices
from tests.bench.extract_report import environment
from tests.bench.tree_memory import Peaks

BANDS, ROWS = 14, 8
THRESHOLD = 0.75
PART = 500_000
"""Documents of a part."""
RULE = lsh.Rule(THRESHOLD, BANDS * ROWS, BANDS, ROWS, exact=False)
SLOPE_FROM, MOST_SLOPE = 2_500_000, 1.1
"""From so many documents on, the power of their number that CPU time grows by, at most."""
GOALS = "goal: at least 60,000 documents/s on 2 cores, at most 4 GiB, linear"


def write_parts(folder: Path, documents: int, fill: Callable[[int, int], dedup_matrices.Matrix]) -> list[SignedPart]:
    """Signed parts without band tables; `fill` gives the rows from one document up to another."""
    found = []
    for number, start in enumerate(range(0, documents, PART)):
        end = min(start + PART, documents)
        with (folder / f"{number:03d}.bin").open("wb") as file:
            for first in range(start, end, dedup_matrices.BLOCK):
                fill(first, min(first + dedup_matrices.BLOCK, end)).astype("<u4", copy=False).tofile(file)
        found.append(SignedPart(folder / f"{number:03d}", None, end - start, 0, False))
    return found


def timed(unit: Callable[[Any], Any], argument: Any) -> tuple[Any, float]:
    """A unit's result, and its CPU seconds."""
    begun = time.process_time()
    return unit(argument), time.process_time() - begun


def band_table(part: SignedPart) -> SignedPart:
    """A unit of phase bands."""
    values = mapped(part.file("bin"), "<u4").reshape(-1, BANDS * ROWS)
    lsh.write_band_table(values, BANDS, ROWS, part.file("bands"))
    return replace(part, bands=part.file("bands"))


def joined(parts: list[SignedPart], folder: Path, unit: tuple[int, tuple[int, int]]) -> list[int]:
    """A unit of phase join: it writes its edges, and returns the figures of the search."""
    band, piece = unit
    rank = mapped(folder / "rank", "<u4")
    order = lsh.Order(rank, np.zeros(len(rank), bool), np.zeros(0, np.uint32), np.array([0, len(rank)]))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = lsh.join(parts, order, RULE, band, piece, Path(scratch))
    table = pa.table({"left": found.left, "right": found.right})
    pq.write_table(table, folder / f"edges-{band}-{piece[0]}", compression="zstd")
    figures: list[int] = found.figures.tolist()
    return figures


def clusters(folder: Path, documents: int) -> npt.NDArray[np.uint32]:
    """What phase clusters does with the edges: (documents,) by rank, the least of its cluster."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("edges-*"))]
    edges = [(table.column("left").to_numpy(), table.column("right").to_numpy()) for table in tables if table.num_rows]
    leaders, _ = components.leaders(edges, [0, documents], np.arange(documents, dtype=np.uint32))
    return leaders


def anonymous() -> Iterator[tuple[str, int]]:
    """Memory of this process and its children that is not the contents of a file."""
    mine = psutil.Process()
    for each in (mine, *mine.children(recursive=True)):
        with suppress(OSError):
            lines = Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines()
            kinds = ("Pss_Anon", "Pss_Shmem")
            yield "process", sum(int(line.split()[1]) << 10 for line in lines if line.startswith(kinds))


def measure(folder: Path, parts: list[SignedPart], documents: int, workers: int) -> dict[str, Any]:
    """Wall seconds of each step, the peak of memory, the figures of the search, and what lost."""
    np.random.default_rng(7).permutation(documents).astype("<u4").tofile(folder / "rank")
    with (
        Peaks(anonymous, 0.1) as memory,
        ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=warm, initargs=()) as pool,
    ):
        list(pool.map(abs, range(workers)))
        begun, mine = time.monotonic(), time.process_time()
        tables, first = zip(*pool.map(partial(timed, band_table), parts), strict=True)
        after_bands = time.monotonic()
        pieces = lsh.ranges_of(documents)
        units = [(band, (piece, pieces)) for band in range(BANDS) for piece in range(pieces)]
        told, second = zip(*pool.map(partial(timed, partial(joined, list(tables), folder)), units), strict=True)
        after_join = time.monotonic()
        leaders = clusters(folder, documents)
        end = time.monotonic()
        cpu = time.process_time() - mine + sum(first) + sum(second)
    search = np.array(told)
    figures = dict(zip(matching.NAMES, search.sum(axis=0).tolist(), strict=True))
    figures["largest"] = int(search[:, matching.LARGEST].max())
    return {
        "wall": end - begun,
        "cpu": cpu,
        "bands": after_bands - begun,
        "join": after_join - after_bands,
        "components": end - after_join,
        "peak": memory.peaks["all"],
        "losers": int((leaders != np.arange(documents)).sum()),
        "figures": figures,
    }


def warm() -> None:
    """Compiles the kernels, or reads them, before the clock runs."""
    matrix = dedup_matrices.equal(64, BANDS * ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [band_table(part) for part in write_parts(folder, 64, lambda low, high: matrix[low:high])]
        np.arange(64, dtype="<u4").tofile(folder / "rank")
        joined(parts, folder, (0, (0, 1)))
        clusters(folder, 64)


def planted(options: argparse.Namespace) -> bool:
    """The curve over numbers of documents; whether it is as good as straight."""
    print(f"signatures of {BANDS} x {ROWS}, {options.workers} processes; {GOALS}")
    heads = {"documents": 12, "documents/s": 13, "wall s": 8, "bands": 7, "join": 7, "comp.": 7, "CPU s": 8, "MB": 7}
    print("".join(f"{name:>{width}}" for name, width in heads.items()), " losers")
    spent: list[tuple[int, float]] = []
    for documents in options.documents:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            chosen, keep = dedup_matrices.planted(documents, 1)
            parts = write_parts(folder, documents, lambda low, high, c=chosen, k=keep: _rows(low, high, c, k))  # type: ignore[misc]
            del chosen, keep
            found = measure(folder, parts, documents, options.workers)
        print(
            f"{documents:>12,}{documents / found['wall']:>13,.0f}{found['wall']:>8.1f}{found['bands']:>7.1f}"
            f"{found['join']:>7.1f}{found['components']:>7.1f}{found['cpu']:>8.1f}{found['peak'] / 1e6:>7.0f}  "
            f"{found['losers']:,}  {found['figures']}", flush=True,
        )  # fmt: skip
        spent.append((documents, found["cpu"]))
    large = [one for one in spent if one[0] >= SLOPE_FROM]
    if len(large) < 2:
        return True
    slope = float(np.polyfit(*np.log(np.array(large)).T, 1)[0])
    print(f"CPU grows as documents to the power of {slope:.3f} from {large[0][0]:,} on; goal: at most {MOST_SLOPE}")
    return slope <= MOST_SLOPE


def _rows(low: int, high: int, chosen: npt.NDArray[np.int64], keep: npt.NDArray[np.float64]) -> dedup_matrices.Matrix:
    block = np.empty((high - low, BANDS * ROWS), np.uint32)
    dedup_matrices.fill(block, low, 1, chosen[low:high], keep[low:high])
    return block


def hard(options: argparse.Namespace) -> None:
    """The three buckets that peers fail at, at half the size and at the whole."""
    cases: dict[str, tuple[Callable[[int], dedup_matrices.Matrix], Callable[[int], int]]] = {
        "equal documents": (lambda n: dedup_matrices.equal(n, BANDS * ROWS), lambda n: n - 1),
        "nearly equal ones": (lambda n: dedup_matrices.nearly_equal(n, BANDS * ROWS), lambda n: n - 1),
        "strangers, half of them pairs": (lambda n: dedup_matrices.strangers(n, BANDS * ROWS, ROWS), lambda n: n // 2),
    }
    for title, (make, right) in cases.items():
        for documents in (100_000, 200_000):
            matrix = make(documents)
            with tempfile.TemporaryDirectory(dir=options.folder) as name:
                folder = Path(name)
                parts = write_parts(folder, documents, lambda low, high, m=matrix: m[low:high])  # type: ignore[misc]
                found = measure(folder, parts, documents, options.workers)
            verdict = "right" if found["losers"] == right(documents) else f"WRONG, not {right(documents):,}"
            print(
                f"{documents:>9,} {title:<30}{found['wall']:7.1f} s{found['peak'] / 1e6:7.0f} MB  "
                f"{found['losers']:,} lost: {verdict}  {found['figures']}", flush=True,
            )  # fmt: skip


def main() -> int:
    """Prints both tables; 1 where time grows faster than documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000_000, 2_500_000, 5_000_000, 10_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the matrices go: 450 bytes a document")
    parser.add_argument("--hard", action="store_true", help="only the hard buckets")
    options = parser.parse_args()
    warm()
    straight = options.hard or planted(options)
    hard(options)
    print(json.dumps(environment()))
    return 0 if straight else 1


if __name__ == "__main__":
    sys.exit(main())
