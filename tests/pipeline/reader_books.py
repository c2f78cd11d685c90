"""What every reader owes, checked on one file: two identities, splits that agree, records that can be cut out again."""

from __future__ import annotations

import itertools
from pathlib import Path

from pipeline.formats import FORMATS
from pipeline.readers import CHECKS, READERS
from pipeline.readers.base import Piece, Read, Tally, batches
from pipeline.readers.cut import cut

Pairs = tuple[tuple[str, str], ...]


def load(
    path: Path, kind: str, fields: Pairs = (), options: Pairs = (), ranges: list[tuple[int, int]] | None = None
) -> tuple[list[Read], Tally]:
    """Reads a file (in pieces) and checks both identities in each."""
    total = Tally()
    reads: list[Read] = []
    for start, end in ranges or [(0, path.stat().st_size)]:
        mine = Tally()
        piece = Piece("web", kind, str(path), path.name, start, end, fields, options)
        found = list(READERS[kind].read(piece, mine))
        assert mine.framed == len(found)
        assert end - start == mine.spans + mine.structure + sum(gap.length for gap in mine.gaps), mine
        assert min(mine.spans, mine.structure) >= 0
        assert all(start <= gap.offset and gap.offset + gap.length <= end for gap in mine.gaps)
        reads += found
        total.framed += mine.framed
        total.spans += mine.spans
        total.structure += mine.structure
        total.gaps += mine.gaps
        total.counts.update(mine.counts)
    return reads, total


def books(
    path: Path, kind: str, fields: Pairs = (), options: Pairs = (), targets: tuple[int, ...] = (1, 300)
) -> tuple[list[Read], Tally]:
    """`load`, and: every way to split the file gives the same, each record can be cut out, batches hold all."""
    if kind in CHECKS:
        CHECKS[kind](str(path), path.name, fields, options)
    reads, tally = load(path, kind, fields, options)
    given = [options] if FORMATS[kind].options else []
    for target in targets:
        ranges = READERS[kind].plan(str(path), target, *given)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == path.stat().st_size
        assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
        assert load(path, kind, fields, options, ranges) == (reads, tally)
    for read in reads[:: max(1, len(reads) // 12)]:
        assert cut(str(path), kind, read.origin._asdict(), "web", fields, options) == read
    assert sum(batch.num_rows + len(rejected) for batch, rejected in batches(reads, "web")) == len(reads)
    return reads, tally
