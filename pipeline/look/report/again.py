"""Texts of documents that a stage dropped: their records, cut from the crawl once more, up to that stage.

A run does not keep the texts that it drops. Of each record at most the frame that holds it is decoded. What lies in a
store over the network is not fetched, and what lies deep in one long compressed stream is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.look.reextract import record_of
from pipeline.look.runfolder import RunFolder
from pipeline.phases.clean import Chain
from pipeline.readers.base import Read, batches
from pipeline.recipe import READ_LABEL
from stages.decode import decode

DEEP = 64 << 20
"""Bytes of one compressed stream that are decoded at most, to come to a record."""


def texts(run: RunFolder, dropped: Iterable[Mapping[str, Any]], characters: int) -> dict[bytes, str]:
    """The beginnings of the texts of these rows (of DROPPED) as they came to the stage that dropped them.

    Where there was no text yet, that of the raw record; rows whose record cannot be had, or is another one, are left
    out.
    """
    found: dict[bytes, str] = {}
    waiting: dict[str, list[tuple[Read, Mapping[str, Any]]]] = defaultdict(list)
    steps = [label for label, _ in run.context.chain]
    for row in dropped:
        if row["stage"] not in (READ_LABEL, *steps):
            continue
        record = _record(run, row)
        if record is None:
            continue
        if row["stage"] == READ_LABEL:
            raw = _raw(record)
            if raw:
                found[row["id"]] = raw[:characters]
        else:
            waiting[row["source"]].append((record, row))
    if waiting:
        try:
            chain = Chain(run.context)
        except UserError:  # a list or model of a stage is gone
            return found
        for source, rows in waiting.items():
            _through(chain, source, rows, found, characters)
    return found


def _record(run: RunFolder, row: Mapping[str, Any]) -> Read | None:
    origin = row["origin"]
    if origin is None or (origin["length"] is None and origin["inner_offset"] > DEEP):
        return None
    try:
        return record_of(run, row, remote=False)[2]
    except UserError:
        return None


def _raw(record: Read) -> str:
    """What a record holds, as far as it is text."""
    if record.text is not None:
        return record.text
    data = record.payload or b""
    return "" if b"\0" in data[:1024] else decode(data[:8192], record.content_type or "text/plain").text


def _through(
    chain: Chain, source: str, rows: list[tuple[Read, Mapping[str, Any]]], found: dict[bytes, str], characters: int
) -> None:
    """The records of a source through the stages; of each the text is kept that came to the stage that dropped it."""
    stage_of = {row["id"]: row["stage"] for _, row in rows}
    raw = {record.id: record for record, _ in rows}
    for batch, _ in batches([record for record, _ in rows if record.reason is None], source):
        left = {stage_of[one] for one in batch.column("id").to_pylist()}
        for label, _, step in chain.steps:
            if not left:
                break
            left.discard(label)
            ids = batch.column("id").to_pylist()
            for one, text in zip(ids, batch.column("text").to_pylist(), strict=True):
                if stage_of[one] == label:
                    shown = _raw(raw[one]) if text is None else text
                    found[one] = shown[:characters]
            batch = step(batch).batch
