"""MinHash signatures a second on one core, beside datasketch and rensa: `make bench-dedup`.

Documents of 500 words, 5-grams, 128 permutations. All three get the same texts as Python strings or Arrow; the peers
split them at blanks, ours by Unicode's rules, folded. Rensa is installed into an environment of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from datasketch import MinHash

from stages.keys import text_keys
from stages.minhash import MinHashSettings, signatures
from tests.bench.clean_stages import peer_python
from tests.bench.extract_report import environment

ROOT = Path(__file__).parents[2]
TEXTS = ROOT.parent / "shared" / "data" / "text"
WORDS, NGRAM, PERMUTATIONS = 500, 5, 128
RENSA = """
import json, sys, time
from rensa import RMinHash
texts = json.load(sys.stdin)
best = float("inf")
for _ in range(3):
    begun = time.process_time()
    for text in texts:
        words = text.split()
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update([" ".join(words[i : i + 5]) for i in range(len(words) - 4)])
        sketch.digest()
    best = min(best, time.process_time() - begun)
print(best)
"""


def documents(most: int) -> list[str]:
    """Texts of `WORDS` words between blanks."""
    found: list[str] = []
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                words = str(json.loads(line).get("text") or "").split()
                found += [" ".join(words[at : at + WORDS]) for at in range(0, len(words) - WORDS + 1, WORDS)]
        if len(found) >= most:
            break
    return found[:most]


def best(work: Callable[[], object], turns: int) -> float:
    """Least CPU seconds of so many turns."""
    least = float("inf")
    for _ in range(turns):
        begun = time.process_time()
        work()
        least = min(least, time.process_time() - begun)
    return least


def with_datasketch(texts: list[str]) -> None:
    for text in texts:
        words = text.split()
        sketch = MinHash(num_perm=PERMUTATIONS, scheme="affine32")
        sketch.update_batch([" ".join(words[at : at + NGRAM]).encode() for at in range(len(words) - NGRAM + 1)])


def main() -> int:
    """Prints documents a second; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=4_000)
    parser.add_argument(
        "--peer", type=Path, help="folder of rensa's environment",
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corpusmill" / "bench-rensa",
    )  # fmt: skip
    options = parser.parse_args()
    texts = documents(options.documents)
    if not texts:
        print("the texts (../shared/data/text) are not here", file=sys.stderr)
        return 2
    column = pa.array(texts)
    settings = MinHashSettings(permutations=PERMUTATIONS, ngram=NGRAM)
    signatures(column[:10], settings), text_keys(column[:10])  # compiled before the clock runs
    seconds = {
        "corpusmill": best(lambda: signatures(column, settings), 5),
        "datasketch": best(lambda: with_datasketch(texts[:500]), 3) * len(texts) / len(texts[:500]),
    }
    python = peer_python(options.peer, ("rensa==0.5.0",))
    told = subprocess.run(
        [str(python), "-c", RENSA], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    seconds["rensa"] = float(told.stdout)
    print(f"{len(texts)} documents of {WORDS} words, {PERMUTATIONS} permutations, one core")
    for name, one in seconds.items():
        print(f"{name:<12}{len(texts) / one:10,.0f} documents/s   this / corpusmill: {one / seconds['corpusmill']:.1f}")
    keys = best(lambda: text_keys(column), 5)
    print(f"text keys   {len(texts) / keys:10,.0f} documents/s")
    print(json.dumps(environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
