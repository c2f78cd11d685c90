"""Memory and shares of work on one large WARC file: split by members, and as one stream that nothing can split.

`python -m tests.bench.warc_splits` makes files of over 200 MB out of the bundled crawl and prints, for each way of
packing, the splits, the largest share of a worker, and the peak memory of processes that plan and read it whole,
beside that of one that has only imported the reader.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

from pipeline.readers import READERS
from pipeline.readers.base import Piece, Tally

ROOT = Path(__file__).parents[2]
CRAWL = ROOT / "tests" / "data" / "crawl" / "web-000.warc.gz"
LARGE = 220 << 20


def records() -> list[bytes]:
    """The decoded members of the bundled crawl."""
    from pipeline.readers.codecs import GZIP
    from pipeline.readers.frames import Frame, Frames
    from pipeline.readers.sources import File, Held

    with File(CRAWL) as file:
        parts = Frames(file, GZIP, lambda head: True).walk(0, file.size)
        return [part.source.data for part in parts if isinstance(part, Frame) and isinstance(part.source, Held)]


def repeated(pack: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Packed records until there are LARGE bytes."""
    once = [pack(each) for each in records()]
    size = 0
    while size < LARGE:
        yield from once
        size += sum(map(len, once))


def one_gzip(path: Path) -> None:
    """One gzip member over the whole file."""
    plain = b"".join(records())
    with gzip.open(path, "wb", compresslevel=1) as file:
        while path.stat().st_size < LARGE // 8:
            for _ in range(8):
                file.write(plain)


def write(name: str, path: Path) -> None:
    """Makes the file of that name."""
    if name == "one gzip member":
        one_gzip(path)
        return
    packs = {
        "gzip members": lambda data: gzip.compress(data, 6, mtime=0),
        "zstd frames": zstandard.ZstdCompressor().compress,
        "plain": bytes,
    }
    with path.open("wb") as file:
        file.writelines(repeated(packs[name]))


NAMES = ("gzip members", "zstd frames", "plain", "one gzip member")


def read(path: Path, start: int, end: int) -> int:
    """Records of a range, none of them kept."""
    tally = Tally()
    found = sum(1 for _ in READERS["warc"].read(Piece("web", "warc", str(path), path.name, start, end), tally))
    assert end - start == tally.spans + tally.structure + sum(gap.length for gap in tally.gaps)
    return found


def peak(*arguments: str) -> tuple[int, int]:
    """What a process of its own prints: a number, and its peak bytes."""
    command = [sys.executable, "-m", "tests.bench.warc_splits", *arguments]
    number, memory = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    return int(number), int(memory)


def child(arguments: list[str]) -> None:
    """Plans a file, or reads a range of it, and says the peak."""
    path = Path(arguments[1])
    if arguments[0] == "plan":
        number = len(READERS["warc"].plan(str(path), int(arguments[2])))
    else:
        number = read(path, int(arguments[2]), int(arguments[3]))
    memory = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    print(number, 1024 * int(memory))


def main() -> None:
    """Prints a line for each way of packing."""
    from pipeline.work import SPLIT_BYTES  # brings Beam, which the measured processes do without

    _, bare = peak("read", str(CRAWL), "0", "0")
    print(f"peak without any work: {bare / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            path = Path(folder) / "large.warc"
            write(name, path)
            size = path.stat().st_size
            ranges = READERS["warc"].plan(str(path), SPLIT_BYTES)
            _, planning = peak("plan", str(path), str(SPLIT_BYTES))
            whole, reading = peak("read", str(path), "0", str(size))
            parts = sum(read(path, start, end) for start, end in ranges) if len(ranges) > 1 else whole
            share = max(end - start for start, end in ranges) / size
            print(
                f"{name:<16} {size / 1e6:4.0f} MB  {len(ranges):3} splits, the largest {share:6.1%} of the file",
                end="  ",
            )
            print(f"{whole} records, in splits {parts}", end="  ")
            print(f"peak {planning / 1e6:.0f} MB to plan, {reading / 1e6:.0f} MB to read")
            path.unlink()


if __name__ == "__main__":
    child(sys.argv[1:]) if len(sys.argv) > 1 else main()
