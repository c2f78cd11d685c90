"""What it costs to verify, merge and take documents out of a corpus: `python -m tests.bench.corpora [TOKENS]`.

Makes shards of random tokens (100 M by default, documents of 500 on average, two corpora of half each), and prints CPU
time, speed over the bytes of the corpus, and the peak of memory of each command in a process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpora import merging, new, removal
from pipeline.look.verify_copy import verify_copy
from pipeline.shards import FORMAT, FORMAT_VERSION, ShardWriter, shard_name
from stages.takedown import Request

EOT = 2
VOCABULARY = 32_000
PER_SHARD = 25_000_000
COLUMNS = [("id", pa.binary(16)), ("copy", pa.int32()), ("source", pa.string()), ("url", pa.string())]


def write(folder: Path, tokens: int, seed: int) -> None:
    """A corpus of about so many tokens; each site has a thousand documents."""
    rng = np.random.default_rng(seed)
    count = max(1, round(tokens / PER_SHARD))
    (folder / "shards").mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.model").write_bytes(b"none: nothing is decoded")
    shards = []
    for number in range(count):
        lengths = rng.integers(2, 999, tokens // count // 500)
        values = rng.integers(4, VOCABULARY, int(lengths.sum()), dtype=np.uint16)
        values[np.cumsum(lengths) - 1] = EOT
        ids = rng.bytes(16 * len(lengths))
        rows = pa.table(
            [
                pa.array([ids[place : place + 16] for place in range(0, len(ids), 16)], pa.binary(16)),
                pa.array(np.zeros(len(lengths), np.int32)),
                pa.array(["web"] * len(lengths)),
                pa.array([f"https://site-{row // 1000}.example/page/{seed}/{row}" for row in range(len(lengths))]),
            ],
            schema=pa.schema(COLUMNS),
        )
        stem = f"shards/{shard_name('train', number, count)}"
        with ShardWriter(folder / stem, np.dtype("<u2"), rows.schema) as out:
            out.append(values, lengths, rows)
            shards.append({"stem": stem} | out.close())
    train: dict[str, Any] = {name: sum(shard[name] for shard in shards) for name in ("documents", "tokens")}
    mixture = {"web": train | {"tokens_asked": train["tokens"], "tokens_reached": train["tokens"]}}
    sources = {"web": train | {"characters": 0}}
    meta = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "name": f"bench-{seed}", "dtype": "uint16",
        "vocabulary": VOCABULARY, "boundary": "eot-last", "layout": "mixed",
        "tokenizer": {"file": "tokenizer/tokenizer.model", "digest": "", "special": {"eot": EOT}},
        "mixture": mixture, "sources": sources, "splits": {"train": train | {"shards": shards}},
    }  # fmt: skip
    new.finish(folder, meta)


def measured(name: str, size: int, work: Callable[[], Any]) -> None:
    """Runs work in a process of its own and prints what it cost."""
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def child() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        work()
        theirs.send((time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, before))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    cpu, peak, before = ours.recv()
    process.join()
    speed = size / 1e6 / cpu
    print(f"{name:<28} {cpu:7.2f} s CPU {speed:8.0f} MB/s   peak {peak / 1024:6.0f} MB (before {before // 1024})")


def main(tokens: int) -> None:
    """Prints a line for each command."""
    folder = Path(tempfile.mkdtemp(prefix="corpora-"))
    try:
        for seed in (1, 2):
            write(folder / str(seed), tokens // 2, seed)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(json.dumps({"tokens": tokens, "bytes": size}))
        both = [folder / "1", folder / "2"]
        measured("verify", size, lambda: [verify_copy(one) for one in both])
        measured("merge, side by side", size, lambda: merging.merge(both, folder / "a"))
        measured("merge --shuffle", size, lambda: merging.merge(both, folder / "b", shuffle=True))
        some = [Request("domain", "site-3.example")]

        def take_out() -> None:
            removal.remove(folder / "1", some, folder / "c", date=None, missing_ok=False, with_duplicates=False)

        measured("remove a domain (half)", size // 2, take_out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000_000)
