"""Memory of a run's clean phase over very many documents: `python -m tests.bench.clean_memory --documents 1000000`.

Texts of about 2,500 characters, cut from the shared corpora (encyclopedias, documentation, books, code, in six
languages), each with its number behind it, go through every cleaning stage by two workers; the peak is that of all
processes together. Once with a tenth of the documents, once with all.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.bench.clean_pipeline import ROOT, measured
from tests.bench.extract_report import environment

TEXTS = ROOT.parent / "shared" / "data" / "text"
PIECE = 2_500
A_FILE = 25_000
"""Documents of an input file."""
STAGES: list[dict[str, object]] = [
    {"url": {}}, {"normalize": {}}, {"emoji": {"mode": "name"}}, {"language": {}},
    {"gopher_repetition": {}}, {"gopher_quality": {}}, {"c4": {"end_marks": False}}, {"fineweb_quality": {}},
    {"pii": {}}, {"secrets": {}}, {"toxicity": {}}, {"toxicity_model": {}}, {"bias": {}},
]  # fmt: skip


def pieces() -> list[str]:
    """The texts, cut."""
    found = []
    for path in sorted(TEXTS.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = str(json.loads(line).get("text") or "")
                found += [text[start : start + PIECE] for start in range(0, len(text) - PIECE // 2, PIECE)]
    return found


def write(folder: Path, texts: list[str], documents: int) -> None:
    """That many documents, in files of `A_FILE`."""
    folder.mkdir()
    rows: Iterator[tuple[int, str]] = enumerate(itertools.islice(itertools.cycle(texts), documents))
    for number in range(-(-documents // A_FILE)):
        with gzip.open(folder / f"{number:04d}.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as file:
            for row, text in itertools.islice(rows, A_FILE):
                url = f"https://example.org/{row}"
                file.write(json.dumps({"text": f"{text}\n\nNumber {row}.", "url": url}, ensure_ascii=False) + "\n")


def main() -> int:
    """Prints both peaks; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    texts = pieces()
    if not texts:
        print("the texts (../shared/data/text) are not here", file=sys.stderr)
        return 2
    peaks = []
    for documents in (options.documents // 10, options.documents):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder / "in", texts, documents)
            recipe = {"inputs": [{"source": "a", "path": "in/*.gz", "format": "jsonl"}], "stages": STAGES}
            (folder / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
            command = [sys.executable, "-m", "pipeline.cli", "run", str(folder / "r.yaml"), "--out", str(folder / "o")]
            found = measured([*command, "--workers", str(options.workers)])
            peaks.append(found["peak"])
            print(
                f"{documents:>9,} documents: {found['peak'] / 1e6:6.0f} MB at most in {options.workers} workers; "
                f"{1e6 * found['cpu'] / documents:.0f} µs CPU a document, {found['wall']:.0f} s", flush=True,
            )  # fmt: skip
    print(f"ratio {peaks[1] / peaks[0]:.2f}; {json.dumps(environment())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
