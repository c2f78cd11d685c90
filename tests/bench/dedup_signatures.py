"""MinHash signatures a second on one core, beside datasketch and rensa: `make bench-dedup`.

Documents of 500 words, 5-grams, 128 permutations. All three get the same texts as Python strings or Arrow. The peers
take shingles ready made, so that splitting and joining in Python is what their users pay (at blanks here, which is the
least one can do; ours splits by Unicode's rules and folds). What the sketch alone costs, of shingles that are there
already, is told beside it. Then our own figures by script, for 2,500 characters. Rensa is installed into an environment
of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from datasketch import MinHash

from stages.keys import text_keys
from stages.minhash import MinHashSettings, signatures
from stages.shingles import shingle_sets
from tests.bench.clean_stages import peer_python
from tests.bench.extract_report import environment

ROOT = Path(__file__).parents[2]
TEXTS = ROOT.parent / "shared" / "data" / "text"
WORDS, NGRAM, PERMUTATIONS = 500, 5, 128
GOALS = {"datasketch": 20, "rensa": 8}
"""How many times as fast this must be."""
RENSA = """
import json, sys, time
from rensa import RMinHash
texts = json.load(sys.stdin)
def shingles(text):
    words = text.split()
    return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]
def seconds(texts, prepared):
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        for text in texts:
            sketch = RMinHash(num_perm=128, seed=1)
            sketch.update(text if prepared else shingles(text))
            sketch.digest()
        best = min(best, time.process_time() - begun)
    return best
ready = [shingles(text) for text in texts[:1000]]
print(seconds(texts, False), seconds(ready, True) * len(texts) / len(ready))
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


def shingled(text: str) -> list[bytes]:
    """What a user of datasketch makes of a text."""
    words = text.split()
    return [" ".join(words[at : at + NGRAM]).encode() for at in range(len(words) - NGRAM + 1)]


def sketched(shingles: list[bytes]) -> None:
    """What datasketch makes of that."""
    MinHash(num_perm=PERMUTATIONS, scheme="affine32").update_batch(shingles)


def by_script(settings: MinHashSettings) -> None:
    """Prints what signatures and keys cost for texts of 2,500 characters of several languages."""
    texts: dict[str, str] = defaultdict(str)
    for name in ("encyclopedia_12", "docs_ja", "science_zh", "code_python"):
        with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                texts[row["lang"]] += row["text"] + "\n"
    print("\nCPU µs a text of 2,500 characters: signature, key of the text, set of shingles")
    for language, text in sorted(texts.items()):
        column = pa.array([text[at : at + 2_500] for at in range(0, min(len(text), 500_000) - 2_500, 2_500)])
        made: list[Callable[[], object]] = [
            lambda column=column: signatures(column, settings),
            lambda column=column: text_keys(column),
            lambda column=column: shingle_sets(column, NGRAM),
        ]
        print(f"{language:<4}" + "".join(f"{best(work, 5) / len(column) * 1e6:8.1f}" for work in made))


def main() -> int:
    """Prints documents a second; 1 where a goal is missed, 2 where the texts are not here."""
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
    }
    few = texts[:500]
    ready = [shingled(text) for text in few]
    scale = len(texts) / len(few)
    seconds["datasketch"] = best(lambda: [sketched(shingled(text)) for text in few], 3) * scale
    seconds["datasketch, sketch alone"] = best(lambda: [sketched(shingles) for shingles in ready], 3) * scale
    python = peer_python(options.peer, ("rensa==0.5.0",))
    told = subprocess.run(
        [str(python), "-c", RENSA], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    seconds["rensa"], seconds["rensa, sketch alone"] = map(float, told.stdout.split())
    print(f"{len(texts)} documents of {WORDS} words, {PERMUTATIONS} permutations, one core")
    for name, one in seconds.items():
        print(f"{name:<26}{len(texts) / one:10,.0f} documents/s   this / corpusmill: {one / seconds['corpusmill']:.1f}")
    missed = 0
    keys = best(lambda: text_keys(column), 5)
    print(f"{'text keys':<26}{len(texts) / keys:10,.0f} documents/s")
    by_script(settings)
    print(json.dumps(environment()))
    for name, goal in GOALS.items():
        if seconds[name] < goal * seconds["corpusmill"]:
            print(f"missed: {goal} times {name}")
            missed = 1
    return missed


if __name__ == "__main__":
    sys.exit(main())
