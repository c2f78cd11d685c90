"""CPU a row and peak memory of reading tables of one size in every format: `python -m tests.bench.table_reading [MB]`.

The same rows (2 KB of text each) are written in each format, planned, and read in a child process of its own, from
bytes to Arrow batches.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROW = 2048
FILES = ("a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.csv.gz", "a.parquet", "a.arrow")


def rows(number: int) -> Iterator[dict[str, Any]]:
    """Rows of a URL and a text, one in four with a quote and a line end in it."""
    line = "The river ran by the old town, and 河水向东流去. "
    for place in range(number):
        start = f'He said "{place}".\n' if place % 4 == 0 else f"Row {place}. "
        yield {"url": f"http://e.org/{place}", "text": start + line * (ROW // len(line.encode()))}


def write(folder: Path, number: int) -> None:
    """The files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        open(folder / "a.jsonl", "w") as lines,
        open(folder / "a.json", "w") as array,
        open(folder / "a.csv", "w", newline="") as table,
    ):
        writer = csv.DictWriter(table, ["url", "text"])
        writer.writeheader()
        array.write("[\n")
        for place, row in enumerate(rows(number)):
            text = json.dumps(row, ensure_ascii=False)
            lines.write(text + "\n")
            array.write((",\n" if place else "") + text)
            writer.writerow(row)
        array.write("\n]\n")
    for name in ("a.jsonl", "a.csv"):
        with open(folder / name, "rb") as plain, gzip.open(folder / f"{name}.gz", "wb", 1) as packed:
            while block := plain.read(1 << 20):
                packed.write(block)
    schema = pa.schema([("url", pa.string()), ("text", pa.string())])
    with (
        pq.ParquetWriter(folder / "a.parquet", schema) as tables,
        pa.ipc.new_file(folder / "a.arrow", schema) as batches,
    ):
        held: list[dict[str, Any]] = []
        for row in rows(number):
            held.append(row)
            if len(held) == 4096:
                tables.write_table(pa.Table.from_pylist(held, schema))
                batches.write_table(pa.Table.from_pylist(held, schema), max_chunksize=1024)
                held = []
        tables.write_table(pa.Table.from_pylist(held, schema))
        batches.write_table(pa.Table.from_pylist(held, schema), max_chunksize=1024)


def _peak() -> int:
    """Most memory of this process so far, in KiB; what `getrusage` says includes the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def read(path: Path) -> None:
    """Prints what planning and reading a file took."""
    from pipeline.formats import by_ending
    from pipeline.readers import READERS
    from pipeline.readers.base import Piece, Tally, batches

    kind = by_ending(path.name) or ""
    before = _peak()
    begun = time.process_time()
    splits = len(READERS[kind].plan(str(path), 64 << 20))
    planned = time.process_time()
    piece = Piece("s", kind, str(path), path.name, 0, path.stat().st_size)
    number = sum(batch.num_rows for batch, _ in batches(READERS[kind].read(piece, Tally()), "s", 64))
    done = time.process_time()
    print(
        f"{path.name:12} {path.stat().st_size / 1e6:8.1f} MB  {number:8} rows  {splits:3} splits  "
        f"plan {1e6 * (planned - begun) / number:6.2f} us a row  read {1e6 * (done - planned) / number:6.1f} us a row  "
        f"memory + {(_peak() - before) / 1024:6.1f} MiB"
    )


def main() -> int:
    """All formats in turn."""
    if len(sys.argv) > 2:
        read(Path(sys.argv[2]))
        return 0
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(size * 1e6 / ROW))
        for name in FILES:
            subprocess.run(
                [sys.executable, "-m", "tests.bench.table_reading", "read", str(Path(folder) / name)], check=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
