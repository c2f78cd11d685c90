"""`corpusmill run --dry-run`: what a run would read, do and need, estimated from a few records; writes nothing."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import zstandard
from rich.console import Console

from pipeline import __version__, listing
from pipeline.hostlines import RECORD
from pipeline.phases import PHASES
from pipeline.phases.clean import Chain
from pipeline.readers import READERS
from pipeline.readers.base import Piece, Read, Tally, batches
from pipeline.readers.fileobj import FileObject
from pipeline.readers.sources import File
from pipeline.recipe import Recipe
from pipeline.show import duration_text, size_text
from pipeline.sources import InputFile, input_files
from pipeline.work import Context, Trial
from stages.minhash import MinHashSettings, signatures

FILES = 5
"""Files of each source that the estimate looks into, spread over their order."""
RECORDS = 20
"""Records of each of these that go through the stages."""
COUNTED = 500
"""Records of each of these that are read on, only to see how many bytes they take."""


@dataclass
class Probe:
    """What a few records of a source cost and gave, and what that makes for all of it."""

    looked: int = 0
    """Records that went through the stages."""
    kept: int = 0
    read_seconds: float = 0.0
    seconds: float = 0.0
    """CPU time in the stages, and for signatures."""
    text_bytes: int = 0
    packed_bytes: int = 0
    lines: int = 0
    """Lines that phase `lines` would write down; 0 where it has nothing to do."""
    records: float = 0.0
    """Estimated records of the source."""
    bytes: float = 0.0
    """Size of its files; estimated, too, where a list names them."""


def dry_run(context: Context, workers: int, console: Console) -> None:
    """Prints inputs, stages with versions, and estimated time and disk. Raises RecipeError for broken inputs."""
    recipe = context.recipe
    by_source: dict[str, list[InputFile]] = {}
    for file in input_files(recipe):
        by_source.setdefault(file.source, []).append(file)
    _say(console, f"recipe '{recipe.name}' with corpusmill {__version__}; nothing is written")
    chain = Chain(context)
    for label, stage in context.chain:
        packages = " ".join(f"{name} {version(name)}" for name in stage.packages)
        _say(console, f"  stage {label} (version {stage.version}{', ' + packages if packages else ''})")
    seconds = disk = 0.0
    for source, members in by_source.items():
        probe = _probe(members, chain, recipe)
        limit = context.trial.limit
        read = min(probe.records, limit) if limit is not None else probe.records
        through = read * (context.trial.sample or 1.0)  # a sample is read whole, and chosen from
        each = through / max(1, probe.looked)
        seconds += probe.seconds * each + probe.read_seconds * read / max(1, probe.looked)
        disk += 2 * probe.packed_bytes * each  # before and after deduplication
        disk += RECORD * probe.lines * each
        if recipe.dedup and recipe.dedup.substrings:
            disk += probe.text_bytes * each / 2  # fingerprints and stretches
        if recipe.shards:  # about 4 bytes of text a token, 2 bytes each, in tokens and in shards
            disk += probe.text_bytes * each / 4 * 2 * 2
        kept = f"{probe.kept / probe.looked:.0%} kept" if probe.looked else "no records"
        part = f", of which this trial takes about {through:,.0f}" if context.trial != Trial() else ""
        _say(
            console,
            f"  source {source}: {len(members)} files, {size_text(probe.bytes)}, "
            f"about {probe.records:,.0f} records{part}; of {probe.looked} looked at: {kept}, "
            f"{1000 * (probe.seconds + probe.read_seconds) / max(1, probe.looked):.1f} ms CPU each",
        )
    place = context.ledger.store.scratch if isinstance(context.out, str) else context.out
    free = shutil.disk_usage(_existing(place)).free
    counted = "reading, stages and signatures" if recipe.dedup and recipe.dedup.near else "reading and stages"
    train = recipe.tokenizer.train if recipe.tokenizer else None
    rest = f", and training a tokenizer on up to {size_text(train.sample_bytes)} of text" if train else ""
    _say(
        console,
        f"estimate: {duration_text(seconds / workers)} on {workers} worker{'s' if workers > 1 else ''} for {counted}; "
        f"not in it: writing{rest}",
    )
    _say(console, f"disk for the whole run: about {size_text(disk)} ({size_text(free)} free at {place})")
    _say(console, _state(context))


def _probe(files: list[InputFile], chain: Chain, recipe: Recipe) -> Probe:
    """Puts the first records of some of a source's files through the stages, and scales their number up by bytes."""
    probe = Probe()
    number = min(FILES, len(files))
    sizes = {file.path: listing.look(file.path, listed=False).size for file in files if not file.listed}
    spread = [files[place * len(files) // number] for place in range(number)]
    looks = {file.path: listing.look(file.path, listed=file.listed) for file in spread}
    chosen = [file for file in spread if looks[file.path].why is None]
    if not chosen:
        return probe
    # models are loaded and patterns compiled at the first use
    _measure(list(itertools.islice(_read(chosen[0], Tally()), 1)), chosen[0], chain, recipe, Probe())
    found = sum(_look(file, chain, recipe, probe) for file in chosen)
    looked = sum(looks[file.path].size for file in chosen)
    probe.bytes = sum(sizes.values()) + (len(files) - len(sizes)) * looked / len(chosen)
    probe.records = found * probe.bytes / max(1, looked)
    return probe


def _read(file: InputFile, tally: Tally) -> Iterator[Read]:
    size = listing.look(file.path, listed=False).size
    piece = Piece(file.source, file.format, file.path, file.name, 0, size, file.fields, file.options)
    return READERS[file.format].read(piece, tally)


def _look(file: InputFile, chain: Chain, recipe: Recipe, probe: Probe) -> float:
    """Adds the first records of a file to the probe; returns about how many records the file has."""
    size = listing.look(file.path, listed=False).size
    tally = Tally()
    reads = _read(file, tally)
    begun = time.process_time()
    first = list(itertools.islice(reads, RECORDS))
    probe.read_seconds += time.process_time() - begun
    _measure(first, file, chain, recipe, probe)
    if file.format == "parquet" and first:
        with File(file.path) as opened:
            return float(pq.read_metadata(FileObject(opened)).num_rows)
    count = booked = len(first)
    covered = _covered(tally)
    for _ in itertools.islice(reads, COUNTED):
        count += 1
        if _covered(tally) != covered:
            covered, booked = _covered(tally), count - 1
    if count < RECORDS + COUNTED:  # that was all of the file
        return float(count)
    if not covered:  # a single frame over the file: its bytes are booked at its end
        packed = len(zstandard.compress(b"".join(read.payload or (read.text or "").encode() for read in first)))
        return len(first) * size / max(1, packed)
    return booked * size / covered


def _covered(tally: Tally) -> int:
    return tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)


def _measure(reads: list[Read], file: InputFile, chain: Chain, recipe: Recipe, probe: Probe) -> None:
    near = recipe.dedup.near if recipe.dedup else None
    begun = time.process_time() - chain.child_seconds
    for batch, rejected in batches(reads, file.source):
        probe.looked += batch.num_rows + len(rejected)
        kept, _, _ = chain.run(batch, chain.books())
        if near:
            signatures(kept.column("text"), MinHashSettings(permutations=near.permutations, ngram=near.ngram))
        probe.kept += kept.num_rows
        text = "\n".join(value or "" for value in kept.column("text").to_pylist()).encode()
        probe.text_bytes += len(text)
        probe.lines += text.count(b"\n") + 2 * kept.num_rows if recipe.host else 0  # a host is a line, too
        probe.packed_bytes += len(zstandard.compress(text))
    probe.seconds += time.process_time() + chain.child_seconds - begun


def _state(context: Context) -> str:
    """What of this is done already in the output folder."""
    ledger = context.ledger
    if not ledger.store.exists("ledger/run.json"):
        return f"{context.out} holds nothing yet, so all of it would be done"
    ledger.check(context.recipe.name)
    for phase in PHASES.values():
        tasks = phase.tasks(context)
        todo = [task for task in tasks if ledger.valid_row(phase.name, task.key, removed_is_fine=True) is None]
        if todo:
            return (
                f"in {context.out}, phase {phase.name} would do {len(todo)} of its {len(tasks)} units, and the phases "
                "behind it what depends on them"
            )
    return f"in {context.out} all of it is done, so nothing would be redone"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
