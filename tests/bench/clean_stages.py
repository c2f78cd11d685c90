"""CPU of cleaning and filtering by step, beside datatrove's on the same texts: `make bench-clean`.

The texts are the main texts of real pages in English (WCXB, CC-BY-4.0). Each step sees every text, for a
pipeline that drops early would hide what its later steps cost. datatrove gets an environment of its own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from pipeline.resources import load, locate
from stages.language.stage import LID_176
from stages.quality.statistics import counted
from stages.registry import STAGES, make
from stages.schema import READ
from tests.bench.extract_report import environment

ROOT = Path(__file__).parents[2]
GOLD = ROOT.parent / "shared" / "data" / "crawl" / "gold.jsonl.gz"
PEER = (
    "datatrove[processing]==0.10.1", "spacy==3.8.18", "emoji", "ftfy", "fasttext-numpy2-wheel", "faust-cchardet",
    "python-magic", "warcio", "trafilatura", "lxml[html_clean]", "tldextract", "pyahocorasick", "orjson", "fasteners",
)  # fmt: skip
PEER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corpusmill" / "bench-datatrove"
SAME = {
    "normalize": "ftfy", "emoji": "emoji", "language": "language", "gopher_repetition": "gopher_repetition",
    "gopher_quality": "gopher_quality", "c4": "c4", "fineweb_quality": "fineweb_quality", "pii": "pii",
    "toxicity": "bad_words",
}  # fmt: skip
"""Our steps and datatrove's."""
SETTINGS: dict[str, dict[str, Any]] = {"c4": {"thresholds": "datatrove"}, "language": {"passages": 0}}
BATCH = 64


def texts(most: int) -> list[str]:
    """English main texts, in the order of their ids."""
    with gzip.open(GOLD, "rt", encoding="utf-8") as lines:
        rows = sorted((row for row in map(json.loads, lines) if row.get("gold_text")), key=lambda row: str(row["id"]))
    found = [row["gold_text"] for row in rows if row["gold_text"].isascii() or " the " in row["gold_text"]]
    return found[:most]


def batches(found: list[str]) -> list[pa.RecordBatch]:
    rows = [
        {"id": xxhash.xxh3_128_digest(text.encode()), "source": "web", "text": text, "language": "en"} for text in found
    ]
    return [pa.RecordBatch.from_pylist(rows[at : at + BATCH], schema=READ) for at in range(0, len(rows), BATCH)]


def ours(found: list[str], rounds: int) -> dict[str, float]:
    """CPU seconds of each step, the best of several rounds; `count` is the pass that quality rules share."""
    whole = batches(found)
    steps: dict[str, Callable[[pa.RecordBatch], Any]] = {"count": counted}
    for name in SAME:
        stage = make(STAGES[name], SETTINGS.get(name, {}))
        steps[name] = stage.bind(load(stage.files(), ROOT))
    spent: dict[str, float] = {}
    given = whole
    for name, step in steps.items():
        for batch in whole[:2]:
            step(batch)
        for _ in range(rounds):
            begun = time.process_time()
            results = [step(batch) for batch in given]
            spent[name] = min(spent.get(name, float("inf")), time.process_time() - begun)
        if name == "count":
            given = [batch for batch, _ in results]  # the counts lie beside the text from here on
    return spent


def peer_python(folder: Path, packages: Sequence[str] = PEER) -> Path:
    """The interpreter of a peer's environment (datatrove's), which is made where it is absent."""
    python = folder / "bin" / "python"
    if not python.exists():
        uv = shutil.which("uv")
        if uv:
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
            subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
        else:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def theirs(found: list[str], folder: Path) -> dict[str, Any]:
    """The same of datatrove."""
    python = peer_python(folder)
    model = locate(LID_176, ROOT)
    words = locate("builtin:ldnoobw/en", ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in found), "utf-8")
        script = Path(__file__).with_name("datatrove_steps.py")
        command = [str(python), str(script), str(path), str(model), str(words)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    result: dict[str, Any] = json.loads(done.stdout[done.stdout.index('{"seconds"') :])
    return result


def main() -> int:
    """Prints the table; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", type=Path, default=PEER_CACHE, help="folder of datatrove's environment")
    options = parser.parse_args()
    if not GOLD.exists():
        print("the pages (../shared/data/crawl) are not here", file=sys.stderr)
        return 2
    found = texts(options.texts)
    mine, peer = ours(found, options.rounds), theirs(found, options.peer)
    scale = 1e6 / len(found)
    print(f"{len(found)} texts of {sum(map(len, found)) / len(found):.0f} characters; CPU microseconds a text")
    print(f"{'':<20}{'ours':>10}{'datatrove':>12}{'ratio':>8}")
    print(f"{'counts of all rules':<20}{mine['count'] * scale:10.1f}")
    for name, other in SAME.items():
        ratio = peer["seconds"][other] / mine[name]
        print(f"{name:<20}{mine[name] * scale:10.1f}{peer['seconds'][other] * scale:12.1f}{ratio:8.1f}")
    total, sum_ = sum(mine.values()), sum(peer["seconds"].values())
    print(f"{'all':<20}{total * scale:10.1f}{sum_ * scale:12.1f}{sum_ / total:8.1f}  (goal: at least 20)")
    print(json.dumps(environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
