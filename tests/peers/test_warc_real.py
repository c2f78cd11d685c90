"""Other projects' WARC and ARC files: what we read of each, and what warcio reads, in a golden table beside this file.

`python -m tests.peers.test_warc_real` writes the table again; each difference in the number of records needs a reason.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from pipeline.formats import by_ending
from pipeline.readers import CUTS, READERS
from pipeline.readers.base import Piece, Read, Tally

SHARED = Path(__file__).parents[3] / "shared" / "data"
TABLE = Path(__file__).with_name("warc_real.tsv")
HEAD = (
    "file",
    "format",
    "records",
    f"of warcio {version('warcio')}",
    "documents",
    "others by reason",
    "remarks",
    "gaps",
    "why not equal",
)
THEIRS = 3
WHY = {
    "cc_1.warc.wet": "warcio stops where the first Content-Length is larger than its block",
    "transfer_compression_brotli.warc.gz": "warcio fails inside its Brotli decoder",
    "example-bad-non-chunked.warc.gz": "warcio refuses several records in one gzip member",
}
"""Why warcio iterates fewer records than we frame."""

needs_files = pytest.mark.skipif(
    not (SHARED / "warc-real").is_dir(), reason="the shared folder with other projects' WARC files is not here"
)


def files() -> list[Path]:
    return sorted((SHARED / "warc-real").glob("*/*arc*")) + sorted((SHARED / "peers").glob("*/*.warc*"))


def load(path: Path, kind: str, ranges: list[tuple[int, int]]) -> tuple[list[Read], Tally]:
    """The records of a file, read in these ranges, with the books of each range checked."""
    total = Tally()
    reads: list[Read] = []
    for start, end in ranges:
        tally = Tally()
        found = list(READERS[kind].read(Piece("web", kind, str(path), path.name, start, end), tally))
        assert len(found) == tally.framed
        assert end - start == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps), path
        reads += found
        total.gaps += tally.gaps
        total.counts.update(tally.counts)
    return reads, total


def kind_of(path: Path) -> str:
    """By its ending; whirlwind's WET is called `.warc.wet.gz`, its WAT holds metadata in a WARC."""
    return by_ending(path.name) or "warc"


def warcio_count(path: Path) -> int:
    """Records that warcio reads to their end before it stops."""
    count = 0
    with path.open("rb") as file, suppress(ArchiveLoadFailed, AttributeError):
        for each in ArchiveIterator(file):
            each.content_stream().read()
            count += 1
    return count


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "-"


def row(path: Path) -> tuple[str, ...]:
    """A file's line of the table."""
    kind = kind_of(path)
    reads, tally = load(path, kind, [(0, path.stat().st_size)])
    reasons = Counter(read.reason for read in reads if read.reason is not None)
    gaps = ", ".join(f"{gap.reason} {gap.offset}+{gap.length}" for gap in tally.gaps) or "-"
    theirs = warcio_count(path)
    why = "-" if theirs == len(reads) else WHY.get(path.name, "?")
    return (
        f"{path.parent.name}/{path.name}", kind, str(len(reads)), str(theirs), str(len(reads) - reasons.total()),
        listed(reasons), listed(tally.counts), gaps, why,
    )  # fmt: skip


def table() -> str:
    """The whole table: tab-separated, a line a file."""
    return "".join("\t".join(cells) + "\n" for cells in (HEAD, *map(row, files())))


@needs_files
def test_every_file_gives_what_the_table_says() -> None:
    """Archives of Heritrix, wget, ClueWeb and others would lose records that other readers find, unnoticed."""
    found = [line.split("\t") for line in table().splitlines()]
    golden = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    if golden[0][THEIRS] != HEAD[THEIRS]:  # another warcio may find other records; ours must be the same
        for cells in (*found, *golden):
            del cells[THEIRS]
    assert found == golden


def test_each_difference_in_the_table_has_its_reason() -> None:
    """A difference would be written down and never looked into; we would read less than warcio."""
    lines = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    assert len(lines[0]) == len(HEAD)
    assert len(lines) > 20
    for cells in lines[1:]:
        ours, theirs, why = int(cells[2]), int(cells[THEIRS]), cells[8]
        assert ours >= theirs, cells[0]
        assert (why == "-") == (ours == theirs), cells[0]
        assert why != "?", cells[0]


@needs_files
@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_splits_and_cuts_give_the_same_records(path: Path) -> None:
    """A large file would give other records to two workers than to one, or a record could not be shown again."""
    kind = kind_of(path)
    whole, _ = load(path, kind, [(0, path.stat().st_size)])
    parts, _ = load(path, kind, READERS[kind].plan(str(path), max(1, path.stat().st_size // 5)))
    assert parts == whole
    for read in whole[:: max(1, len(whole) // 4)]:
        assert CUTS[kind](str(path), read.origin, Piece("web", kind, str(path), path.name, 0, 0)) == read


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
