"""What each phase scales with, what it reads and holds: the table behind a plan. README.md says each in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.hostlines import RECORD
from pipeline.lsh import bands_and_rows, ranges_of
from pipeline.phases.host import RANGE as HOST_RANGE
from pipeline.phases.host import RANGES as HOST_RANGES
from pipeline.phases.substrings import COLUMNS
from pipeline.phases.substrings import RANGE as RECORDS_RANGE
from pipeline.planning.measured import Amounts, Kind
from pipeline.recipe import Recipe
from pipeline.stars import bits_for

# Measured by `python -m tests.bench.plan_constants` and on the runs that README.md names; 2 cores of an x86-64 cloud
# machine. Where the run that a plan goes by shows the same thing, its own figure is taken.
LOOK_S = 51e-6
"""CPU seconds to look into one more part for a unit's own range of keys: open, map, search."""
ROW_S = 65e-6
"""CPU seconds to read one more manifest row."""
OPEN_TABLES_S = 3.5e-3
"""CPU seconds of phase exact to open one more part: four columns' worth of a Parquet file, and one of names."""
PLAN_UNIT_S = 1.0e-3
"""Seconds of the working process for one more unit of a phase: its key, its row, its place in the queue."""
START_CPU_S = 0.22
"""CPU seconds of one worker for one pipeline beside its units: a fork, Beam's harness, what it imports late."""
COMMIT_CPU_S = 2.9e-3
"""CPU seconds of a worker for one more unit beside its work: claim, report, digests, manifest row."""
WORKER_S = 0.15
"""Seconds that a pipeline on the local runner starts later for each further worker."""
PIPELINE_S = 0.45
"""Seconds of a pipeline with one worker beside its units."""
HERE_S = 0.1
"""Seconds of a pipeline that the working process does itself, beside its units."""
ROUND_S = 4e-3
"""Seconds between two units of a worker: claim, report, digests, syncs, manifest row."""
JOB_S = 5.0
"""Seconds to start a pipeline on a cluster, at least: a guess until the run that is planned by was made on one."""
READ_TEXT_S = 2e-9
"""CPU seconds to read a byte of text out of a part of documents."""
JOIN_FIXED_S = 0.01
JOIN_CPU_S = 0.2e-6
"""CPU seconds of the join for a document in a band."""
STARS_CPU_S = 4e-7
"""CPU seconds of all rounds of phase stars for a document."""
STARS_ROUNDS = 17
"""Rounds of phase stars, each a pipeline of its own."""
EDGE_BYTES, EDGE_PACKED = 8, 4
"""Bytes of an edge in a file of phase stars, and in a part of the join, where numbers lie packed."""
STARS_MEMORY = 100e6
"""Bytes of a unit of phase stars: 4 bytes for each of 16.8 million nodes, and pieces of edges."""
MANY_UNITS = 2_000
"""Units from which on a run itself tells what planning one takes."""


UNIT_S = {
    "clean": 5e-3, "lines": 1.5e-3, "host": 4e-3, "signatures": 3.5e-3, "losers": 5e-3, "fingerprints": 2.5e-3,
    "spans": 1.5e-3, "documents": 5e-3, "tokenise": 3e-3,
}  # fmt: skip
"""CPU seconds of a unit beside its documents: files opened and closed, tables of nothing."""
FIRST_S = {
    "clean": 0.05, "lines": 0.6, "host": 0.25, "signatures": 0.8, "join": 0.1, "losers": 0.05, "fingerprints": 0.45,
    "tokenise": 0.1,
}  # fmt: skip
"""CPU seconds of a worker before its first unit: kernels and lists that it reads."""


@dataclass(frozen=True)
class Whole:
    """A phase that sees all documents in one process, measured at a million of them and more."""

    cpu_s: float
    """CPU seconds a document."""
    memory: float
    """Bytes of memory a document at its peak."""
    fixed_s: float
    """CPU seconds of an empty one."""


WHOLE = {
    "exact": Whole(6.1e-6, 165, 0.03),
    "clusters": Whole(0.45e-6, 87, 0.06),
    "plan": Whole(0.7e-6, 81, 0.01),
    "tokenizer": Whole(2.0e-6, 108, 0.0),
}
LARGE = 500_000
"""Documents from which on a run's own figures are taken for these."""


@dataclass(frozen=True)
class Sizes:
    """What the number of units follows from."""

    amounts: Amounts
    files: float
    splits: float
    parts: float
    written: dict[Kind, float]
    recipe: Recipe

    def of(self, kinds: tuple[Kind, ...]) -> float:
        """Bytes of all files of these kinds."""
        return sum(self.written.get(kind, 0.0) for kind in kinds)


@dataclass(frozen=True)
class Law:
    """One phase."""

    scales: str
    """The amount that CPU time, bytes and memory of the phase follow; how it is called in the tables."""
    units: Callable[[Sizes], float]
    single: bool = False
    """One unit, whatever the size: one process on one machine."""
    own: tuple[Kind, ...] = ()
    """Files of which each unit reads its own: once over the network in all."""
    every: tuple[Kind, ...] = ()
    """Files of which any unit may read a part of any: each machine needs all of them."""
    looks: tuple[str, ...] = ()
    """Phases whose every part each unit looks into."""
    rows_each: tuple[str, ...] = ()
    """Phases of which each unit reads all manifest rows."""
    rows_worker: tuple[str, ...] = ()
    """Phases of which each worker reads all manifest rows, once."""


def _parts(sizes: Sizes) -> float:
    return sizes.parts


def _one(_: Sizes) -> float:
    return 1.0


def _up(value: float) -> float:
    return float(-(-value // 1))


def _host_ranges(sizes: Sizes) -> float:
    size = sizes.of((("lines", "host"),))
    return min(_up(size / (HOST_RANGE * RECORD)), HOST_RANGES)


def _record_ranges(phase: str) -> Callable[[Sizes], float]:
    return lambda sizes: _up(sizes.of(((phase, "substrings"),)) / (8 * COLUMNS[phase] * RECORDS_RANGE))


def bands_of(recipe: Recipe) -> int:
    """Bands of a signature; 0 where the recipe asks for no near duplicates."""
    near = recipe.dedup.near if recipe.dedup else None
    if near is None:
        return 0
    return near.bands or bands_and_rows(near.threshold, near.permutations)[0]


def _stars_units(sizes: Sizes) -> float:
    return float(STARS_ROUNDS * (1 << bits_for(int(sizes.amounts.signed))))


def _join_units(sizes: Sizes) -> float:
    return float(bands_of(sizes.recipe) * ranges_of(int(sizes.amounts.signed)))


def _shards(sizes: Sizes) -> float:
    shards = sizes.recipe.shards
    if shards is None:
        return 0.0
    splits = 1 + sum(share > 0 for share in shards.held_out.values())
    return max(splits, _up(sizes.amounts.shard_tokens / shards.tokens_per_shard))


CLEAN: tuple[Kind, ...] = (("clean", "clean"), ("host", "edits"))
"""What phases that read texts read: the documents, and what host lines cut of them."""
SIGNATURES: tuple[Kind, ...] = (("signatures", ".bin"), ("signatures", ".offsets"), ("signatures", ".sets"))
OUTCOME: tuple[Kind, ...] = (("exact", "dedup"), ("clusters", ".bin"))

LAWS: dict[str, Law] = {
    "index": Law("crawl bytes", lambda sizes: sizes.files),
    "clean": Law("pages", lambda sizes: sizes.splits),
    "lines": Law("documents", _parts, own=(("clean", "clean"),)),
    "host_lines": Law(
        "lines", _host_ranges, every=(("lines", "host"),), looks=("lines",), rows_each=("lines",)
    ),
    "host": Law(
        "documents", _parts, own=(("clean", "clean"),), every=(("host_lines", "host"),),
        looks=("host_lines",), rows_each=("host_lines",),
    ),
    "signatures": Law("documents", _parts, own=CLEAN),
    "exact": Law("documents", _one, single=True, own=(("signatures", ".parquet"), ("signatures", ".names"))),
    "bands": Law("documents", _parts, own=(("signatures", ".bin"),)),
    "join": Law(
        "documents", _join_units, every=(("bands", "dedup"), *SIGNATURES, ("exact", "dedup")), looks=("bands",),
        rows_worker=("bands",),
    ),
    "stars": Law("documents", _stars_units, own=(("join", "dedup"),)),
    "clusters": Law(
        "documents", _one, single=True, own=(("join", "dedup"), ("exact", "dedup")), rows_worker=("bands",)
    ),
    "losers": Law(
        "documents", _parts, own=(("signatures", ".parquet"),),
        every=(("signatures", ".names"), *SIGNATURES, *OUTCOME),
    ),
    "fingerprints": Law("documents", _parts, own=(*CLEAN, ("losers", "dedup"))),
    "repeats": Law(
        "documents", _record_ranges("fingerprints"), every=(("fingerprints", "substrings"), ("exact", "dedup")),
        looks=("fingerprints",),
    ),
    "stretches": Law("documents", _parts, own=CLEAN, every=(("repeats", "substrings"),), looks=("repeats",)),
    "matches": Law(
        "documents", _record_ranges("stretches"), every=(("stretches", "substrings"), ("exact", "dedup")),
        looks=("stretches",),
    ),
    "spans": Law(
        "documents", _parts, own=CLEAN, every=(("repeats", "substrings"), ("matches", "substrings")),
        looks=("repeats", "matches"),
    ),
    "documents": Law("documents", _parts, own=(*CLEAN, ("losers", "dedup"), ("spans", "edits"))),
    "tokenizer": Law("survivors", _one, single=True, own=(("documents", "documents"), ("documents", "documents"))),
    "tokenise": Law("tokens", _parts, own=(("documents", "documents"),)),
    "plan": Law("survivors", _one, single=True, own=(("tokenise", ".arrow"),)),
    "shard": Law("tokens", _shards, every=(("tokenise", ".arrow"), ("tokenise", ".bin"), ("plan", "plan"))),
}  # fmt: skip
"""By phase, in the order of a run."""


def _records(kind: Kind, width: int, of: str) -> Callable[[Sizes], float]:
    """Records of a unit of a phase, that many bytes each."""
    return lambda sizes: sizes.of((kind,)) / width / max(1.0, LAWS[of].units(sizes))


CHUNKS: dict[str, tuple[Callable[[Sizes], float], float, float]] = {
    "host_lines": (_records(("lines", "host"), RECORD, "host_lines"), 1 << 20, 6 * RECORD),
    "repeats": (_records(("fingerprints", "substrings"), 32, "repeats"), 1 << 21, 4 * 32),
    "matches": (_records(("stretches", "substrings"), 24, "matches"), 1 << 21, 4 * 24),
}
"""Phases that sort records in pieces: records of a unit, most of a piece, bytes of memory that each of these takes."""
