"""The phases of a run, each a module of the same form.

`tasks(context)` are its units of work, known once the phases before it are done; `work(task, context, folder,
reporter)` does one of them: it writes files into the attempt's folder and returns them with the body of the manifest
row. Of a phase in rounds, which is one that has `spent`, the tasks are asked for again after they were done, until all
of them are; `spent(context)` are the rows whose files nothing reads any more, which are then deleted. `parallel_from`
is the amount of work in bytes below which one worker does it, since a second would start longer than it works. A unit
of a silent phase is one long step that reports nothing before its end. What a phase writes has a version: see
`pipeline.versions`.

In the order of a run: index, clean, lines, host_lines, host, signatures, exact, bands, join, stars, clusters, losers,
fingerprints, repeats, stretches, matches, spans, documents, tokenizer, tokenise, plan, shard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.ledger import Row, Staged
from pipeline.progress import Reporter
from pipeline.work import Context, Task


class Phase(NamedTuple):
    """A phase as the engine sees it."""

    name: str
    reads: tuple[str, ...]
    parallel_from: int
    tasks: Callable[[Context], list[Task]]
    work: Callable[[Task, Context, Path, Reporter], tuple[Sequence[Staged], dict[str, Any]]]
    silent: bool = False
    spent: Callable[[Context], list[Row]] | None = None


def _phases() -> dict[str, Phase]:
    from pipeline.phases import (
        bands,
        clean,
        clusters,
        documents,
        exact,
        host,
        index,
        plan,
        shard,
        signatures,
        spans,
        stars,
        substrings,
        tokenise,
        tokenizer,
    )  # fmt: skip

    megabyte = 1 << 20
    row = [
        Phase("index", (), 1 << 30, index.tasks, index.work, silent=True),
        Phase("clean", ("index",), 0, clean.tasks, clean.work),
        Phase("lines", ("clean",), 32 * megabyte, host.line_tasks, host.line_work),
        Phase("host_lines", ("lines",), 64 * megabyte, host.range_tasks, host.range_work, silent=True),
        Phase("host", ("clean", "host_lines"), 32 * megabyte, host.tasks, host.work),
        Phase("signatures", ("clean", "host"), 16 * megabyte, signatures.tasks, signatures.work),
        Phase("exact", ("signatures",), 1 << 40, exact.tasks, exact.work, silent=True),
        Phase("bands", ("signatures",), 64 * megabyte, bands.tasks, bands.work),
        Phase("join", ("signatures", "exact", "bands"), 64 * megabyte, bands.join_tasks, bands.join_work, silent=True),
        Phase(
            "stars", ("exact", "join", "stars"), 64 * megabyte, stars.tasks, stars.work, silent=True, spent=stars.spent
        ),
        Phase("clusters", ("exact", "join", "stars"), 1 << 40, clusters.tasks, clusters.work, silent=True),
        Phase("losers", ("signatures", "exact", "clusters"), 32 * megabyte, clusters.loser_tasks, clusters.losers_work),
        Phase(
            "fingerprints",
            ("clean", "host", "losers"),
            16 * megabyte,
            substrings.fingerprint_tasks,
            substrings.fingerprint_work,
        ),
        Phase(
            "repeats",
            ("fingerprints", "exact"),
            64 * megabyte,
            substrings.repeat_tasks,
            substrings.range_work,
            silent=True,
        ),
        Phase(
            "stretches", ("clean", "host", "repeats"), 64 * megabyte, substrings.stretch_tasks, substrings.stretch_work
        ),
        Phase(
            "matches", ("stretches", "exact"), 64 * megabyte, substrings.match_tasks, substrings.range_work, silent=True
        ),
        Phase("spans", ("clean", "host", "repeats", "matches"), 32 * megabyte, spans.tasks, spans.work),
        Phase("documents", ("clean", "host", "losers", "spans"), 16 * megabyte, documents.tasks, documents.work),
        Phase("tokenizer", ("documents",), 1 << 40, tokenizer.tasks, tokenizer.work, silent=True),
        Phase("tokenise", ("documents", "tokenizer"), 4 * megabyte, tokenise.tasks, tokenise.work),
        Phase("plan", ("tokenise",), 1 << 40, plan.tasks, plan.work, silent=True),
        Phase("shard", ("tokenise", "plan"), 32 * megabyte, shard.tasks, shard.work),
    ]
    return {phase.name: phase for phase in row}


PHASES = _phases()
SMALL = 4 << 20
"""Bytes of work below which the working process does a phase of one worker itself: another would start for longer."""
