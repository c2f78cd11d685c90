"""`corpusmill run --dry-run`: what a run would read, do and need, estimated from a few records; writes nothing."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import zstandard
from rich.console import Console

from pipeline import __version__
from pipeline.phases.clean import Chain
from pipeline.readers import READERS
from pipeline.readers.base import Piece, Tally, batches
from pipeline.show import size_text
from pipeline.sources import InputFile, input_files
from pipeline.work import Context

RECORDS = 40
"""Records of each source that the estimate looks at."""


@dataclass
class Probe:
    """What a few records of a source cost and gave."""

    read_bytes: int = 0
    records: int = 0
    kept: int = 0
    text_bytes: int = 0
    packed_bytes: int = 0
    seconds: float = 0.0


def dry_run(context: Context, workers: int, console: Console) -> None:
    """Prints inputs, stages with versions, and estimated time and disk. Raises RecipeError for broken inputs."""
    files = input_files(context.recipe)
    by_source: dict[str, list[InputFile]] = {}
    for file in files:
        by_source.setdefault(file.source, []).append(file)
    console.print(f"recipe '{context.recipe.name}' with corpusmill {__version__}; nothing is written", highlight=False)
    chain = Chain(context)
    for label, stage in context.chain:
        packages = " ".join(f"{name} {version(name)}" for name in stage.packages)
        console.print(
            f"  stage {label} (version {stage.version}{', ' + packages if packages else ''})", highlight=False
        )
    seconds = disk = 0.0
    for source, members in by_source.items():
        sizes = {file.path: os.path.getsize(file.path) for file in members}
        probe = _probe(members, chain)
        scale = sum(sizes.values()) / probe.read_bytes if probe.read_bytes else 0.0
        seconds += probe.seconds * scale
        packed = probe.packed_bytes * scale
        disk += 2 * packed  # before and after deduplication
        if context.recipe.shards:
            disk += (
                probe.text_bytes * scale / 4 * 2 * 2
            )  # about 4 bytes of text a token, 2 bytes each, tokens and shards
        share = f"{probe.kept / probe.records:.0%} kept" if probe.records else "no records"
        console.print(
            f"  source {source}: {len(members)} files, {size_text(sum(sizes.values()))}, about "
            f"{probe.records * scale:,.0f} records; of the first {probe.records}: {share}, "
            f"{1000 * probe.seconds / max(1, probe.records):.1f} ms CPU each", highlight=False,
        )  # fmt: skip
    free = shutil.disk_usage(_existing(context.out)).free
    console.print(
        f"estimate for the clean phase: {seconds / workers:,.0f} s on {workers} workers; disk for the whole run: "
        f"{size_text(disk)} ({size_text(free)} free at {context.out})", highlight=False,
    )  # fmt: skip


def _probe(files: list[InputFile], chain: Chain) -> Probe:
    """Reads the first records of a source's first file and puts them through the stages."""
    probe = Probe()
    file = files[0]
    size = os.path.getsize(file.path)
    tally = Tally()
    begun = time.process_time()
    reads = READERS[file.format].read(
        Piece(file.source, file.format, file.path, file.name, 0, size, file.fields), tally
    )
    for batch, rejected in batches(itertools.islice(reads, RECORDS), file.source):
        probe.records += batch.num_rows + len(rejected)
        kept, _ = chain.run(batch, chain.books())
        probe.kept += kept.num_rows
        text = "\n".join(value or "" for value in kept.column("text").to_pylist()).encode()
        probe.text_bytes += len(text)
        probe.packed_bytes += len(zstandard.compress(text))
    probe.seconds = time.process_time() - begun
    probe.read_bytes = tally.spans + tally.structure + sum(gap.length for gap in tally.gaps) or size
    return probe


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
