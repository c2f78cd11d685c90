"""CPU a record of reading WARC files with their bodies decoded: ours beside warcio and fastwarc, in one run.

`python -m tests.bench.warc_reading [FILE ...]`; without files, the shared crawl of real pages. The contestants take
turns and each keeps its best round, so that another job on the machine spoils a round and not the ratio.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CRAWL = Path(__file__).parents[3] / "shared" / "data" / "crawl"
Counts = tuple[int, int]
"""Records, and decoded bytes of their bodies."""


def ours(path: Path) -> Counts:
    """Every record as the clean phase takes it: framed, tallied, decoded, judged, with its id and origin."""
    from pipeline.readers import READERS
    from pipeline.readers.base import Piece, Tally

    records = size = 0
    piece = Piece("web", "warc", str(path), path.name, 0, path.stat().st_size)
    for read in READERS["warc"].read(piece, Tally()):
        records += 1
        size += len(read.payload or b"")
    return records, size


def warcio(path: Path) -> Counts:
    """`ArchiveIterator` with `content_stream().read()`."""
    from warcio.archiveiterator import ArchiveIterator

    records = size = 0
    with path.open("rb") as file:
        for record in ArchiveIterator(file):
            records += 1
            size += len(record.content_stream().read())
    return records, size


def fastwarc(path: Path) -> Counts:
    """fastwarc's iterator, bodies read as they are stored: nothing is decoded or parsed."""
    from fastwarc.warc import ArchiveIterator

    records = size = 0
    with path.open("rb") as file:
        for record in ArchiveIterator(file, parse_http=False):
            records += 1
            size += len(record.reader.read())
    return records, size


CONTESTANTS: dict[str, Callable[[Path], Counts]] = {"ours": ours, "warcio": warcio, "fastwarc raw": fastwarc}


def measure(files: list[Path], rounds: int) -> dict[str, tuple[float, Counts]]:
    """Best CPU seconds of each contestant over all files, and what it delivered."""
    best: dict[str, tuple[float, Counts]] = {}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            begun = time.process_time()
            found = [contestant(path) for path in files]
            spent = time.process_time() - begun
            counts = (sum(each[0] for each in found), sum(each[1] for each in found))
            best[name] = min(best.get(name, (spent, counts)), (spent, counts))
    return best


def peak(name: str, files: list[Path]) -> int:
    """Peak bytes of a process that does nothing else."""
    command = [sys.executable, "-m", "tests.bench.warc_reading", "--peak-of", name, *map(str, files)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str] | None = None) -> None:
    """Prints CPU ms a record, records, decoded bytes, peak memory, and the ratio to warcio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-of", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    options = parser.parse_args([] if arguments is None else arguments)
    files = options.files or sorted(CRAWL.glob("*.warc.gz"))
    if not files:
        print(f"WARC reading: nothing to read; {CRAWL.name}/ of the shared data is not here")
        return
    if options.peak_of:
        for path in files:
            CONTESTANTS[options.peak_of](path)
        # Not getrusage: its peak is inherited from the process that started this one.
        print(1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]))
        return
    found = measure(files, options.rounds)
    size = sum(path.stat().st_size for path in files)
    print(f"WARC reading with bodies decoded, {len(files)} files, {size / 1e6:.0f} MB, best of {options.rounds} rounds")
    for name, (seconds, (records, decoded)) in found.items():
        print(
            f"  {name:<13} {1000 * seconds / records:6.3f} ms CPU a record   {records} records   "
            f"{decoded / 1e6:.0f} MB of bodies   peak {peak(name, files) / 1e6:.0f} MB"
        )
    print(f"  warcio / ours: {found['warcio'][0] / found['ours'][0]:.2f}  (goal 1.4)")
    print(f"  every record delivered: {found['ours'][1][0] == found['warcio'][1][0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
