"""From documents to kept ids: CPU of a whole near-deduplication a document, beside peers: `make bench-dedup`.

Documents of about 2,500 characters made of real text (`tests.bench.dedup_generator`). Ours is `corpusmill run` over
Parquet files with `dedup: {near: {}}` alone, once with a tenth of the documents: the slope is what a document costs,
what is left at none is start-up. It is told from the CPU of the whole command (reading, writing the clean parts and the
documents that stay included) and from the ledger, by phase. The peers get the same texts, a tenth: rensa and datasketch
in a loop that keeps a document where no kept one is near, text-dedup by its command line; each starts before its clock
does, and reading JSON is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline import lsh
from pipeline.ledger import Ledger
from pipeline.phases import PHASES
from tests.bench.clean_pipeline import measured
from tests.bench.clean_stages import peer_python
from tests.bench.dedup_generator import documents
from tests.bench.extract_report import environment

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corpusmill"
THRESHOLD, PERMUTATIONS, NGRAM = 0.8, 128, 5
A_FILE = 20_000
"""Documents of an input file."""
BEFORE = ("index", "clean")
"""Phases that read the crawl, before deduplication begins."""
RENSA = """
import json, sys, time
from rensa import RMinHash, RMinHashLSH
threshold, permutations, bands, rows = json.loads(sys.argv[1])
texts = [json.loads(line)["text"] for line in sys.stdin]
begun = time.process_time()
permutations = bands * rows
index = RMinHashLSH(threshold=threshold, num_perm=permutations, num_bands=bands)
kept = {}
for number, text in enumerate(texts):
    words = text.split()
    sketch = RMinHash(num_perm=permutations, seed=1)
    sketch.update([" ".join(words[at : at + 5]) for at in range(max(1, len(words) - 4))])
    if not any(kept[one].jaccard(sketch) >= threshold for one in index.query(sketch)):
        index.insert(number, sketch)
        kept[number] = sketch
print(json.dumps([time.process_time() - begun, len(kept)]))
"""
DATASKETCH = """
import json, sys, time
from datasketch import MinHash, MinHashLSH
threshold, permutations, bands, rows = json.loads(sys.argv[1])
texts = [json.loads(line)["text"] for line in sys.stdin]
begun = time.process_time()
index = MinHashLSH(threshold=threshold, num_perm=permutations, params=(bands, rows))
kept = {}
for number, text in enumerate(texts):
    words = text.split()
    sketch = MinHash(num_perm=permutations, scheme="affine32")
    sketch.update_batch([" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))])
    if not any(kept[one].jaccard(sketch) >= threshold for one in index.query(sketch)):
        index.insert(number, sketch)
        kept[number] = sketch
print(json.dumps([time.process_time() - begun, len(kept)]))
"""


def write(folder: Path, count: int, seed: int) -> None:
    """The documents as Parquet files, and the first tenth as JSON lines for the peers."""
    folder.mkdir(parents=True)
    rows = enumerate(documents(count, seed))
    with (folder / "few.jsonl").open("w", encoding="utf-8") as few:
        for number in range(-(-count // A_FILE)):
            columns: dict[str, list[str]] = {"text": [], "url": []}
            for place, (name, text) in itertools.islice(rows, A_FILE):
                columns["text"].append(text)
                columns["url"].append(f"https://example.org/{name}")
                if place < count // 10:
                    few.write(json.dumps({"text": text}) + "\n")
            pq.write_table(pa.table(columns), folder / f"{number:04d}.parquet", compression="zstd")


def ours(folder: Path, files: str, workers: int) -> dict[str, float]:
    """CPU seconds of the whole command, of each phase, documents that stay."""
    recipe = {
        "inputs": [{"source": "a", "path": files, "format": "parquet"}],
        "stages": [],
        "dedup": {"near": {"threshold": THRESHOLD, "permutations": PERMUTATIONS, "ngram": NGRAM}},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "pipeline.cli", "run", str(folder / "r.yaml"), "--out", f"{out}/run"]
        found = measured([*command, "--workers", str(workers)])
        rows = Ledger(Path(out) / "run").rows()
    spent = {name: sum(row.body["timing"]["cpu_s"] for row in rows if row.phase == name) for name in PHASES}
    kept = sum(row.body["documents"] for row in rows if row.phase == "documents")
    return found | spent | {"kept": kept}


def peer(script: str, folder: Path, packages: tuple[str, ...], path: Path) -> tuple[float, int]:
    """CPU seconds and documents kept of a script that reads the texts from its input."""
    python = peer_python(folder, packages)
    bands, rows = lsh.bands_and_rows(THRESHOLD, PERMUTATIONS)
    settings = json.dumps([THRESHOLD, PERMUTATIONS, bands, rows])
    with path.open() as texts:
        told = subprocess.run(
            [str(python), "-c", script, settings], stdin=texts, capture_output=True, text=True, check=True
        )
    seconds, kept = json.loads(told.stdout)
    return float(seconds), int(kept)


def text_dedup(path: Path, folder: Path) -> tuple[float, str]:
    """CPU seconds a document more that the command line of text-dedup takes for all than for a few."""
    python = peer_python(folder, ("text-dedup==0.4.0",))
    lines = path.read_text("utf-8").splitlines(keepends=True)
    spent = []
    counts = (len(lines) // 20, len(lines))
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            Path(name, "t.jsonl").write_text("".join(lines[:count]), "utf-8")
            command = [
                str(python), "-m", "text_dedup.minhash", "--path", "json", "--data_files", f"{name}/t.jsonl",
                "--split", "train", "--cache_dir", f"{name}/cache", "--output", f"{name}/out", "--column", "text",
                "--num_perm", str(PERMUTATIONS), "--threshold", str(THRESHOLD), "--ngram", str(NGRAM),
                "--hash_func", "xxh3", "--hash_bits", "32", "--num_proc", "1",
            ]  # fmt: skip
            os.environ["HF_HOME"] = f"{name}/home"
            spent.append(measured(command)["cpu"])
    return (spent[1] - spent[0]) / (counts[1] - counts[0]), f"start-up {spent[0]:.0f} s with {counts[0]} documents"


def main() -> int:
    """Prints milliseconds of CPU a document; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    count = options.documents
    try:
        next(documents(1, 1))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "in", count, options.seed)
        few = pq.read_table(folder / "in" / "0000.parquet").slice(0, count // 10)
        (folder / "few").mkdir()
        pq.write_table(few, folder / "few" / "0.parquet", compression="zstd")
        ours(folder, "few/*.parquet", options.workers)  # kernels are compiled, files are in memory
        small = ours(folder, "few/*.parquet", options.workers)
        large = ours(folder, "in/*.parquet", options.workers)
        more = count - len(few)
        slope = {key: 1e3 * (large[key] - small[key]) / more for key in (*PHASES, "cpu")}
        dedup = [phase for phase in PHASES if phase not in BEFORE and phase != "documents"]
        length = sum(map(len, few.column("text").to_pylist())) / len(few)
        print(f"{len(few):,} and {count:,} documents of {length:.0f} characters; kept {large['kept']:,.0f}")
        print("CPU milliseconds a document, slope from the one to the other")
        for phase in PHASES:
            if large[phase]:
                print(f"  {phase:<12}{slope[phase]:8.4f}")
        print(f"corpusmill, documents to kept ids   {sum(slope[phase] for phase in dedup):8.4f}  (goal: at most 0.15)")
        print(f"  and writing those that stay       {sum(slope[phase] for phase in (*dedup, 'documents')):8.4f}")
        start = small["cpu"] - slope["cpu"] * len(few) / 1e3
        print(f"  the whole command                 {slope['cpu']:8.4f}  and {start:.1f} s to start", flush=True)
        print(f"  wall {large['wall']:.0f} s, peak {large['peak'] / 1e6:.0f} MB, {options.workers} workers", flush=True)
        if not options.no_peers:
            path = folder / "in" / "few.jsonl"
            for title, script, packages in (
                ("rensa", RENSA, ("rensa==0.5.0",)),
                ("datasketch", DATASKETCH, ("datasketch==2.0.0",)),
            ):
                begun = time.monotonic()
                seconds, kept = peer(script, CACHE / f"bench-{title}", packages, path)
                wall = time.monotonic() - begun
                print(f"{title:<36}{1e3 * seconds / len(few):8.4f}  kept {kept:,}; {wall:.0f} s", flush=True)
            seconds, told = text_dedup(path, CACHE / "bench-text-dedup")
            print(f"{'text-dedup':<36}{1e3 * seconds:8.4f}  {told}", flush=True)
    print(json.dumps(environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
