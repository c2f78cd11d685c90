"""Candidates of 50 million documents from the band tables alone, inside 8 GiB: `python -m tests.bench.dedup_bands`.

Signatures of 14 × 8 values with planted clusters (`tests.bench.dedup_matrices`) are made a part at a time and cut into
band tables as phase bands does; the signatures are not kept. For each range of keys of each band a unit finds the
buckets as phase join does, without the comparison of signatures: every member is joined with the first of its bucket.
Union-find makes clusters of the edges as phase clusters does. The members of a planted cluster differ in 1 % of their
values, so that what buckets join is the clusters themselves, which is checked for every document.

Memory is that of all processes together at its highest, ten times a second, without the pages of files; above the
bound the bench fails, and no process may ask for more by itself. 170 bytes of disk a document.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import lsh
from pipeline.mapping import mapped
from pipeline.signed import SignedPart
from tests.bench import dedup_matrices
from tests.bench.dedup_join import BANDS, PART, ROWS, anonymous, clusters, timed, warm
from tests.bench.extract_report import environment
from tests.bench.tree_memory import Peaks

KEEP = 0.99
"""Share of its cluster's values that a document keeps: two of a cluster have no band in common once in 10^11."""
BOUND = 8 << 30
DISK = 200
"""Bytes a document that must be free."""
SEED = 1


def band_table(folder: Path, documents: int, number: int) -> SignedPart:
    """A unit of phase bands, over signatures that it makes itself."""
    start = number * PART
    named = mapped(folder / "clusters", "<u4")[start : min(start + PART, documents)].astype(np.int64)
    values = np.empty((len(named), BANDS * ROWS), np.uint32)
    dedup_matrices.fill(values, start, SEED, named, np.full(len(named), KEEP))
    stem = folder / f"{number:03d}"
    part = SignedPart(stem, None, len(named), 0, False)
    lsh.write_band_table(values, BANDS, ROWS, part.file("bands"))
    return replace(part, bands=part.file("bands"))


def joined(parts: list[SignedPart], folder: Path, unit: tuple[int, tuple[int, int]]) -> int:
    """A unit of phase join up to the buckets: it writes an edge from each member to the first; how many."""
    band, piece = unit
    rank = mapped(folder / "rank", "<u4")
    order = lsh.Order(rank, np.zeros(len(rank), bool), np.zeros(0, np.uint32), np.array([0, len(rank)]))
    found = lsh.buckets(parts, order, BANDS, band, piece)
    left = np.repeat(found.rank[found.bounds[:-1]], np.diff(found.bounds))
    others = left != found.rank
    table = pa.table({"left": left[others], "right": found.rank[others]})
    pq.write_table(table, folder / f"edges-{band}-{piece[0]}", compression="zstd")
    return table.num_rows


def planted(folder: Path, documents: int) -> None:
    """Writes the cluster of each document, and its rank; memory is given back."""
    named, _ = dedup_matrices.planted(documents, SEED)
    named.astype("<u4").tofile(folder / "clusters")
    np.random.default_rng(7).permutation(np.arange(documents, dtype="<u4")).tofile(folder / "rank")


def right(folder: Path, leaders: npt.NDArray[np.uint32]) -> bool:
    """Whether the leader of each document is the least rank of its planted cluster."""
    named, rank = mapped(folder / "clusters", "<u4"), mapped(folder / "rank", "<u4")
    first = np.full(2 * len(rank), len(rank), np.uint32)
    np.minimum.at(first, named, rank)
    return bool((leaders[rank] == first[named]).all())


def main() -> int:
    """Prints seconds, edges and memory; 1 where a document is in a wrong cluster or the bound is broken, 2 where the
    disk is too small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=50_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the band tables go: 170 bytes a document")
    options = parser.parse_args()
    documents: int = options.documents
    resource.setrlimit(resource.RLIMIT_DATA, (BOUND, BOUND))
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if (free := shutil.disk_usage(folder).free) < documents * DISK:
            print(f"{folder} has {free / 1e9:.0f} GB free, {documents * DISK / 1e9:.0f} GB are needed", file=sys.stderr)
            return 2
        maker = spawn.Process(target=planted, args=(folder, documents))
        maker.start()
        maker.join()
        assert maker.exitcode == 0
        with Peaks(anonymous, 0.1) as memory, ProcessPoolExecutor(options.workers, spawn, initializer=warm) as pool:
            list(pool.map(abs, range(options.workers)))
            begun = time.monotonic()
            work = partial(timed, partial(band_table, folder, documents))
            tables, first = zip(*pool.map(work, range(-(-documents // PART))), strict=True)
            after_bands, held_bands = time.monotonic(), memory.peaks["all"]
            pieces = lsh.ranges_of(documents)
            units = [(band, (piece, pieces)) for band in range(BANDS) for piece in range(pieces)]
            counts, second = zip(*pool.map(partial(timed, partial(joined, list(tables), folder)), units), strict=True)
            after_join, held_join = time.monotonic(), memory.peaks["all"]
            leaders = clusters(folder, documents)
            end = time.monotonic()
        disk = sum(path.stat().st_size for path in folder.iterdir())
        sound = right(folder, leaders)
    lost = int((leaders != np.arange(documents)).sum())
    told = f"{documents:,} documents, {BANDS} bands of {ROWS} rows, {options.workers} processes"
    print(f"{told}; {disk / 1e9:.1f} GB of disk")
    print(f"  bands {after_bands - begun:7.1f} s, {sum(first):7.1f} s CPU; up to {held_bands / 1e6:,.0f} MB")
    print(f"  join  {after_join - after_bands:7.1f} s, {sum(second):7.1f} s CPU; up to {held_join / 1e6:,.0f} MB")
    print(f"  comp. {end - after_join:7.1f} s; {sum(counts):,} edges, {lost:,} lost")
    print(f"  every document in its cluster: {sound}")
    most = memory.peaks["all"]
    fits = most <= BOUND
    print(f"  most memory {most / 2**30:.2f} GiB, bound {BOUND / 2**30:.0f} GiB: {'met' if fits else 'NOT MET'}")
    print(json.dumps(environment()))
    return 0 if sound and fits else 1


if __name__ == "__main__":
    sys.exit(main())
