"""What a finished run cost: the sums of its ledger that the formulas of a plan go by."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow.parquet as pq

from pipeline import spent
from pipeline.errors import UserError
from pipeline.ledger import Ledger, Row
from pipeline.phases import PHASES
from pipeline.recipe import Recipe
from pipeline.spent import PhaseSpent, RunSpent, Working
from pipeline.work import Context, Trial

Kind = tuple[str, str]
"""A phase, and the folder or the ending of files that it writes: ("signatures", ".names"), ("clean", "dropped")."""


@dataclass(frozen=True)
class PhaseCost:
    """What the units of one phase took."""

    units: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    longest_s: float = 0.0
    """Wall seconds of the longest unit."""
    peak: int = 0
    """Most bytes of memory of a worker in one of them; what workers share counts as well."""
    outside: PhaseSpent | None = None

    @property
    def skew(self) -> float:
        """The longest unit in means; 1 for equal ones."""
        return self.longest_s * self.units / self.wall_s if self.wall_s else 1.0


@dataclass(frozen=True)
class Amounts:
    """How much there was, or will be, at each step."""

    size: float
    """Bytes of the crawl files."""
    pages: float
    """Records that are documents, as read: what reached the first stage, or would have without a sample."""
    documents: float
    """What the clean phase kept."""
    signed: float
    """What deduplication looked at: documents without those that host lines left too short."""
    survivors: float
    """What was left of them in the end."""
    clustered: float
    """Share of the signed documents that lost to another."""
    text: float
    """Bytes of text of the survivors."""
    tokens: float
    """Of the survivors."""
    shard_tokens: float
    """As the mixture has them."""


@dataclass(frozen=True)
class Measured:
    """A finished run."""

    folder: Path
    recipe: Recipe
    trial: Trial
    phases: dict[str, PhaseCost]
    amounts: Amounts
    stage_cpu_s: float
    """CPU seconds of the clean phase in stages; the rest of it is reading and writing."""
    sampled: float
    """Share of the pages that went through the stages: below 1 with --sample."""
    splits: int
    parts: int
    files: int
    indexed: float
    """Bytes of these files, which phase index reads whole: with --limit more than `amounts.size`."""
    written: dict[Kind, float]
    """Bytes by phase and folder, and again by phase and ending."""
    committed: dict[str, float]
    """Bytes of all parts by phase."""
    rows_size: float
    """Bytes of the ledger's rows."""
    run: RunSpent | None
    working: Working | None

    @property
    def units(self) -> int:
        """Of all phases."""
        return sum(cost.units for cost in self.phases.values())


def read(folder: Path) -> Measured:
    """The costs of the run in this folder. Raises UserError where there is none, or it says too little."""
    ledger = Ledger(folder)
    ledger.head()
    if ledger.complete() is None:
        raise UserError(f"{folder} holds no finished run; run it to its end first, then plan by it")
    context = Context.from_json(json.loads(ledger.store.read("ledger/context.json")))
    rows = {name: ledger.rows(name) for name in PHASES}
    if not rows["clean"] or any("wall_s" not in row.body["timing"] for of in rows.values() for row in of):
        raise UserError(
            f"{folder} is a run of an older corpusmill, which did not note how long units took: run it anew into a "
            "fresh folder"
        )
    clean = rows["clean"]
    looked = sum(_looked(row) for row in clean)
    framed = sum(row.body["framed"] for row in clean)
    sampled = 1 - sum(row.body["not_sampled"] for row in clean) / max(1, framed)
    if not looked:
        raise UserError(f"{folder}: the run read no document, so nothing can be planned by it")
    losers = sum(row.body["losers"] for row in rows["losers"])
    signed = sum(row.body["documents"] for row in rows["signatures"])
    amounts = Amounts(
        size=sum(_size(row) for row in clean),
        pages=looked / sampled,
        documents=sum(row.body["kept"] for row in clean),
        signed=signed,
        survivors=sum(row.body["documents"] for row in rows["documents"]),
        clustered=losers / signed if signed else 0.0,
        text=sum(_text(folder, row) for row in rows["documents"]),
        tokens=sum(row.body["tokens"] for row in rows["tokenise"]),
        shard_tokens=sum(row.body["tokens"] for row in rows["shard"]),
    )
    written: Counter[Kind] = Counter()
    for of in rows.values():
        for row in of:
            for part in row.parts:
                place = PurePosixPath(part.path)
                written[row.phase, place.parts[0]] += part.bytes
                written[row.phase, place.suffix] += part.bytes
    return Measured(
        folder=folder,
        recipe=context.recipe,
        trial=context.trial,
        phases={name: _cost(of, spent.of_phase(ledger.store, name)) for name, of in rows.items()},
        amounts=amounts,
        stage_cpu_s=sum(sum(row.body["timing"]["stages"].values()) for row in clean),
        sampled=sampled,
        splits=len(clean),
        parts=sum(part.path.startswith("clean/") for row in clean for part in row.parts),
        files=len(rows["index"]),
        indexed=float(sum(row.body["bytes"] for row in rows["index"])),
        written=dict(written),
        committed={name: float(sum(part.bytes for row in of for part in row.parts)) for name, of in rows.items()},
        rows_size=float(sum(path.stat().st_size for path in (ledger.folder / "rows").rglob("*.json"))),
        run=spent.of_run(ledger.store),
        working=spent.of_working(ledger.store),
    )


def _cost(rows: list[Row], outside: PhaseSpent | None) -> PhaseCost:
    times = [row.body["timing"] for row in rows]
    if not times:
        return PhaseCost()
    return PhaseCost(
        units=len(rows),
        cpu_s=sum(time["cpu_s"] for time in times),
        wall_s=sum(time["wall_s"] for time in times),
        longest_s=max(time["wall_s"] for time in times),
        peak=max(time["peak_rss"] for time in times),
        outside=outside,
    )


def _text(folder: Path, row: Row) -> float:
    """Bytes of text in the part of a unit of phase documents; characters where the part was taken away."""
    path = folder / row.part("documents").path
    if not path.exists():
        return float(sum(figures[1] for figures in row.body["sources"].values()))
    meta = pq.read_metadata(path)
    place = meta.schema.names.index("text")
    groups = (meta.row_group(number).column(place) for number in range(meta.num_row_groups))
    return float(sum(group.total_uncompressed_size for group in groups))


def _looked(row: Row) -> int:
    """Documents of a unit that reached the stages: not requests and what else a crawl holds beside its pages."""
    read = row.body["funnel"][0]
    return int(read["entered"] - sum(read["dropped"].values()) - row.body["not_sampled"])


def _size(row: Row) -> int:
    """Bytes that a unit read: those behind the last record of a trial with --limit are a gap."""
    place = row.body["input"]
    unread = sum(length for _, length, reason in row.body["gaps"] if reason == "limit")
    return int(place["end"] - place["start"] - unread)
