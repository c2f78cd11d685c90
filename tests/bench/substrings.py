"""Substrings that recur across documents: recall, characters cut in excess, CPU and memory, beside a suffix array.

`python -m tests.bench.substrings [--documents 20000] [--notice] [--peer]`. Documents of 2.5k characters are made of
pieces of nine words of real texts in twelve languages, so that chance repeats nothing; into 30 % of them a stretch of
50 to 90 words is planted, some twice, some in thousands (with `--notice` one stretch in all of them). CPU is that of
the five phases, start-up and compilation apart; memory the peak of the process that does them. The peer is
`pydivsufsort` (MIT): the suffix array of the same texts and its common prefixes, as Lee et al. use them, in an
environment of its own.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.engine import do_unit
from pipeline.phases import PHASES
from pipeline.processes import peak_memory
from pipeline.progress import Reporter
from pipeline.recipe import read_recipe
from pipeline.work import Context
from stages.substrings.groups import Sharing
from stages.substrings.repeated import repeated
from stages.words import _WORD as WORD
from tests.bench.clean_stages import peer_python

TEXTS = Path(__file__).parents[3] / "shared" / "data" / "text"
OURS = ("fingerprints", "repeats", "stretches", "matches", "spans")
PEER = """
import json, resource, sys, time
import numpy as np
from pydivsufsort import divsufsort, kasai
import pyarrow.parquet as pq
texts = [text for path in sys.argv[1:] for text in pq.read_table(path).column("full").to_pylist()]
data = np.frombuffer("\\0".join(texts).encode(), np.uint8).copy()
begun = time.process_time()
suffixes = divsufsort(data)
common = kasai(data, suffixes)
repeats = int((common >= 250).sum())
cpu = time.process_time() - begun
print(json.dumps({"cpu": cpu, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "repeats": repeats}))
"""


def pools() -> list[list[str]]:
    """Pieces of about nine words by language."""
    found: dict[str, list[str]] = {}
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                starts = [match.start() for match in WORD.finditer(row["text"])][::9]
                pieces = [" ".join(row["text"][low:high].split()) for low, high in itertools.pairwise(starts)]
                found.setdefault(row["lang"], []).extend(pieces)
    return [pool for pool in found.values() if len(pool) > 2_000]


def write(folder: Path, count: int, notice: bool) -> list[Path]:
    """The documents in files of 20,000: `full`, and `plain` without what is planted, whose number is `planted`."""
    draw = random.Random(7)
    kinds = pools()

    def text(pool: list[str], size: int) -> list[str]:
        pieces: list[str] = []
        while size > 0:
            pieces.append(draw.choice(pool))
            size -= len(pieces[-1]) + 1
        return pieces

    def stretch(number: int) -> str:
        own = random.Random(f"stretch {number}")
        pool = own.choice(kinds)
        pieces = [own.choice(pool) for _ in range(6 + own.randrange(5))]
        return f"s{number}s " + " ".join(pieces) + f" t{number}t"

    paths, rows = [], []
    for number in range(count):
        pieces = text(draw.choice(kinds), 500 if notice else 2_500)
        planted, chance = -1, draw.random()
        if notice or chance < 0.06:
            planted = 0
        elif chance < 0.15:
            planted = 1 + int(1_000 * draw.random() ** 3)
        elif chance < 0.3:
            planted = 2_000 + draw.randrange(max(1, count // 15))
        at = draw.randrange(len(pieces) + 1)
        beside = f"a{number}a", f"b{number}b"
        plain = [*pieces[:at], *beside, *pieces[at:]]
        full = [*pieces[:at], beside[0], stretch(planted), beside[1], *pieces[at:]] if planted >= 0 else plain
        rows.append(
            {"plain": " ".join(plain), "full": " ".join(full), "planted": planted, "link": f"http://x/{number}"}
        )
        if len(rows) == 20_000 or number == count - 1:
            paths.append(folder / f"texts-{len(paths):03d}.parquet")
            pq.write_table(pa.Table.from_pylist(rows), paths[-1])
            rows = []
    return paths


def context_of(folder: Path) -> Context:
    """The run over these documents."""
    recipe = {
        "name": "bench",
        "inputs": [
            {"source": "x", "path": "*.parquet", "format": "parquet", "fields": {"text": "full", "url": "link"}}
        ],
        "dedup": {"exact": ["text"], "substrings": {}},
    }
    (folder / "bench.yaml").write_text(yaml.safe_dump(recipe))
    return Context(folder / "run", folder, read_recipe(folder / "bench.yaml"))


def phases(folder: Path, names: list[str], result: str) -> None:
    """Does the units of these phases; CPU seconds by phase, bytes of records and peak memory go into a file."""
    repeated(pa.array(["a b c d", "ﬁ a b c d", "x b c d"]), Sharing(tokens=2))  # compiles
    context = context_of(folder)
    reporter = Reporter(folder)
    start = peak_memory()
    seconds: Counter[str] = Counter()
    size: Counter[str] = Counter()
    begun = time.process_time()
    for name in names:
        for task in PHASES[name].tasks(context):
            row = do_unit(task, context, reporter)
            seconds[name] += row.body["timing"]["cpu_s"]
            size[name] += sum(part.bytes for part in row.parts if part.path.startswith("substrings/"))
        context.known.clear()
    facts = {"seconds": seconds, "bytes": size, "all": time.process_time() - begun}
    memory = peak_memory()
    Path(result).write_text(json.dumps(facts | {"memory": memory, "start": start}))


def measured(folder: Path, names: list[str]) -> dict[str, Any]:
    """`phases` in a process of its own."""
    result = folder / "result.json"
    process = multiprocessing.get_context("spawn").Process(target=phases, args=(folder, names, str(result)))
    process.start()
    process.join()
    facts: dict[str, Any] = json.loads(result.read_text())
    return facts


def check(folder: Path, paths: list[Path]) -> dict[str, float]:
    """Recall over planted stretches, and the characters of other text that are gone."""
    table = pa.concat_tables([pq.read_table(path) for path in paths]).to_pylist()
    asked = {row["link"]: row for row in table}
    copies: Counter[int] = Counter(row["planted"] for row in table if row["planted"] >= 0)
    still: Counter[int] = Counter()
    excess = 0
    for path in (folder / "run" / "documents").glob("*.parquet"):
        for batch in pq.ParquetFile(path).iter_batches(4_096, columns=["url", "text"]):
            for url, text in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                row = asked.pop(url)
                if text == row["full"]:
                    still[row["planted"]] += 1
                elif text != row["plain"]:
                    excess += abs(len(row["plain"]) - len(text)) or 1
    to_cut = sum(copies.values()) - len(copies)
    stayed = sum(count for number, count in still.items() if number >= 0)
    whole = sum(1 for number in copies if not still[number])
    return {
        "planted": to_cut,
        "cut": sum(copies.values()) - stayed,
        "excess": excess,
        "lost": whole,
        "gone": len(asked),
    }


def main() -> int:
    """Prints the figures; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--notice", action="store_true")
    parser.add_argument("--peer", action="store_true")
    asked = parser.parse_args()
    if not TEXTS.is_dir():
        print("the texts (../shared/data/text) are not here")
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = write(folder, asked.documents, asked.notice)
        context = context_of(folder)
        context.ledger.folder.mkdir(parents=True)
        context.ledger.create("bench")
        names = list(PHASES)
        start = names.index(OURS[0])
        measured(folder, names[:start])
        facts = measured(folder, list(OURS))
        measured(folder, ["documents"])
        for name in OURS:
            each = 1e6 * facts["seconds"][name] / asked.documents
            print(
                f"{name:13} {each:7.1f} us a document, {facts['bytes'][name] / asked.documents:7.0f} bytes of records"
            )
        memory = f"{facts['memory'] / 1e6:.0f} MB, of which {facts['start'] / 1e6:.0f} MB before they began"
        print(f"{'all':13} {1e6 * facts['all'] / asked.documents:7.1f} us; peak memory {memory}")
        found = check(folder, paths)
        recall = found["cut"] / found["planted"]
        print(f"planted beyond the first: {found['planted']}, cut: {found['cut']} (recall {recall:.5f})")
        print(
            f"characters cut in excess: {found['excess']}; lost: {found['lost']} stretches, {found['gone']} documents"
        )
        if asked.peer:
            home = Path.home() / ".cache" / "corpusmill-bench" / "pydivsufsort"
            python = peer_python(home, ["pydivsufsort", "numpy", "pyarrow"])
            command = [str(python), "-c", PEER, *map(str, paths)]
            peer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            each = 1e6 * peer["cpu"] / asked.documents
            print(
                f"suffix array + common prefixes: {each:.0f} us a document, peak memory {peer['memory'] / 1e6:.0f} MB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
