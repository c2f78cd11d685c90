"""`corpusmill dropped`: the records that a run did not keep, each with its reason, read part by part."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import accounts
from pipeline.errors import RecipeError, UserError, nearest
from pipeline.look.runfolder import RunFolder, as_json, one_line, origin_text
from pipeline.parts import read_batches

COLUMNS = ("id", "stage", "reason", "value", "limit", "source", "url", "origin", "survivor", "survivor_url")


@dataclass(frozen=True)
class Chosen:
    """Which dropped records are meant; None: all."""

    reasons: list[str] | None = None
    stage: str | None = None
    source: str | None = None


def counts(run: RunFolder) -> dict[str, Counter[str]]:
    """Dropped records by stage and reason, from the ledger."""
    return {step.stage: step.dropped for step in accounts.funnel(run.ledger)}


def choose(run: RunFolder, reason: str | None, stage: str | None, source: str | None) -> Chosen:
    """The records asked for. `reason` may be a full one (`gopher_quality.few_words`), its last part, or a stage.

    Raises RecipeError for a name that the run does not have, with the nearest one.
    """
    by_stage = counts(run)
    present = sorted({name for dropped in by_stage.values() for name in dropped})
    reasons = None
    if reason is not None:
        reasons = [name for name in present if reason in (name, name.partition(".")[2])]
        if not reasons and reason in by_stage:
            reasons, stage = sorted(by_stage[reason]), stage or reason
        elif not reasons:
            hint = nearest(reason, [*present, *(name.partition(".")[2] for name in present), *by_stage])
            raise RecipeError(
                f"--reason {reason}: nothing was dropped for that.{hint if 'Did you' in hint else ''} "
                f"The run's reasons: {', '.join(present) or 'none'}."
            )
    if stage is not None and stage not in by_stage:
        raise RecipeError(f"--stage {stage}: the run has no such stage.{nearest(stage, by_stage)}")
    sources = {row.body["input"]["source"] for row in run.of("clean")}
    if source is not None and source not in sources:
        raise RecipeError(f"--source {source}: the run has no such source.{nearest(source, sources)}")
    return Chosen(reasons, stage, source)


def records(run: RunFolder, chosen: Chosen) -> Iterator[dict[str, Any]]:
    """The dropped records, in the order of the parts' names and of the rows inside; duplicates last.

    A row group at a time is in memory. Each has the columns of DROPPED, and `survivor_url`.
    """
    if run.removed("dropped"):
        raise UserError(
            f"`corpusmill clean` took the dropped records out of {run.folder}; only their counts are left: "
            f"`corpusmill inspect {run.folder}`"
        )
    for path in [path for phase in ("clean", "host", "spans") for path in run.parts("dropped", f"{phase}-")]:
        for batch in read_batches(path):
            for row in batch.filter(_mask(batch, chosen)).to_pylist():
                yield row | {"survivor_url": None}
    for path in run.parts("dropped", "dedup-"):
        yield from _duplicates(run, path, chosen)


def _duplicates(run: RunFolder, path: Path, chosen: Chosen) -> Iterator[dict[str, Any]]:
    """Duplicates with the URLs of their survivors, which stand in the same order in the table of duplicates.

    That also has those that stay (`mode: mark`), which all but equal records do.
    """
    key = path.name.removeprefix("dedup-")
    beside = run.folder / "duplicates" / key
    urls: Iterator[Any] = itertools.repeat(None)
    if beside.exists():
        some = pq.read_metadata(path).num_rows < pq.read_metadata(beside).num_rows
        urls = itertools.chain.from_iterable(
            (batch.filter(pc.equal(batch.column("reason"), "same_record")) if some else batch)
            .column("survivor_url")
            .to_pylist()
            for batch in read_batches(beside, ["survivor_url", "reason"])
        )
    for batch in read_batches(path):
        here = pa.array(list(itertools.islice(urls, batch.num_rows)), pa.string())
        batch = batch.append_column("survivor_url", here)
        yield from batch.filter(_mask(batch, chosen)).to_pylist()


def _mask(batch: pa.RecordBatch, chosen: Chosen) -> pa.Array:
    mask = pa.array([True] * batch.num_rows, pa.bool_())
    if chosen.reasons is not None:
        mask = pc.and_(mask, pc.is_in(batch.column("reason"), pa.array(chosen.reasons, pa.string())))
    for name, value in (("stage", chosen.stage), ("source", chosen.source)):
        if value is not None:
            mask = pc.and_(mask, pc.equal(batch.column(name), value))
    return mask


def print_counts(run: RunFolder, console: Console) -> None:
    """How many records were dropped for each reason, most first."""
    rows = sorted(
        ((count, stage, reason) for stage, dropped in counts(run).items() for reason, count in dropped.items()),
        key=lambda row: (-row[0], row[1], row[2]),
    )
    if not console.is_terminal:
        for count, stage, reason in rows:
            print(f"{count}\t{stage}\t{reason}")
        print()
        return
    table = Table(title=f"Dropped records: {sum(count for count, _, _ in rows):,}", title_justify="left")
    table.add_column("records", justify="right")
    table.add_column("stage")
    table.add_column("reason")
    for count, stage, reason in rows:
        table.add_row(f"{count:,}", stage, reason)
    console.print(table)


def print_records(run: RunFolder, chosen: Chosen, most: int | None, console: Console, *, json_lines: bool) -> None:
    """At most `most` records: blocks on a terminal, else a line each with tabs between; or JSON lines."""
    found = records(run, chosen)
    for row in itertools.islice(found, most):
        if json_lines:
            print(json.dumps(as_json(row), ensure_ascii=False))
        elif console.is_terminal:
            _print_block(row, console)
        else:
            print("\t".join(_cell(row, name) for name in COLUMNS))
    if not json_lines and most is not None and next(found, None) is not None:
        text = f"more than these {most} match; -n 0 lists all"
        print(text, file=sys.stdout if console.is_terminal else sys.stderr)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if name == "origin":
        return origin_text(value)
    if isinstance(value, float):
        return f"{value:g}"
    return value.hex() if isinstance(value, bytes) else one_line(value)


def _print_block(row: dict[str, Any], console: Console) -> None:
    figure = f"  {row['value']:g}" if row["value"] is not None else ""
    limit = f" (limit {row['limit']:g})" if row["limit"] is not None else ""
    head = Text.assemble((row["id"].hex(), "bold"), "  ", (row["reason"], "yellow"), figure, limit)
    console.print(head, highlight=False)
    console.print(f"    {row['source']}: {one_line(row['url']) or 'no URL'}", markup=False, highlight=False)
    console.print(f"    {origin_text(row['origin'])}", markup=False, highlight=False, style="dim")
    if row["survivor"] is not None:
        text = f"    lost to {row['survivor'].hex()} {one_line(row['survivor_url'])}"
        console.print(text, markup=False, highlight=False)
