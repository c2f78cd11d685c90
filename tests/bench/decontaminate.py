"""Decontamination: planted items found, clean documents hit, CPU a document.

Benchmarks are those of ../shared/data/eval, clean texts those of ../shared/data/text. `--hits` prints what clean
documents have in common with items: some quote the very text of an item, which is no mistake.
"""

from __future__ import annotations

import gzip
import json
import sys
import time

import pyarrow as pa

from pipeline.resources import load
from stages.base import Processor
from stages.decontaminate import Benchmark, Decontaminate
from stages.decontaminate.benchmarks import items
from stages.decontaminate.index import index, size
from tests.stages.stage_helpers import SHARED, batch

STAGE = Decontaminate(
    benchmarks=(
        Benchmark(path="eval/llm-foundry"),
        Benchmark(path="eval/piqa/valid.jsonl", name="piqa_valid"),
        Benchmark(path="eval/hellaswag/hellaswag_val_full.txt.bz2", name="hellaswag"),
    ),
    mode="tag",
    max_named=1000,
)


def clean() -> list[tuple[str, str]]:
    """(file, text) of all clean texts, in pieces of at most 2,500 characters at line ends, as long as web pages are."""
    found = []
    for path in sorted((SHARED / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            for line in lines:
                text = json.loads(line)["text"]
                while text:
                    cut = text.rfind("\n", 0, 2500) if len(text) > 2500 else -1
                    cut = cut if cut > 0 else 2500
                    found.append((path.name.partition(".")[0], text[:cut]))
                    text = text[cut:].lstrip("\n")
    return found


def named(process: Processor, texts: list[str]) -> list[list[str]]:
    """The items that each text is said to hold."""
    found: list[list[str]] = []
    for at in range(0, len(texts), 256):
        found += process(batch(list(texts[at : at + 256]))).batch.column("contaminated_by").to_pylist()
    return found


def main() -> None:
    """Prints the figures."""
    if not SHARED.is_dir():
        print("decontaminate: the large test data is not here")
        return
    begun = time.process_time()
    files = load(STAGE.files(), SHARED)
    process = STAGE.bind(files)
    build = time.process_time() - begun
    every = []
    for number, benchmark in enumerate(STAGE.benchmarks):
        for role, data in files.items():
            name = role.rpartition("/")[2]
            if role.startswith(f"benchmarks/{number}/") and not name.startswith(("LICENSE", "README")):
                every += list(items(name, data, benchmark.name, benchmark.fields))
    measures = size(STAGE.words, STAGE.characters, STAGE.short_words)
    table = index([item.text for item in every], measures, STAGE.max_items)
    long = [item for item, size, short in zip(every, table.sizes, table.short, strict=True) if size and not short]
    short = [item for item, size, short in zip(every, table.sizes, table.short, strict=True) if size and short]
    print(
        f"decontaminate: {len(every):,} items, {len(long):,} of 13 words or more, {len(short):,} of 8 to 12, others "
        f"too short or templates; {len(table.keys.first):,} n-grams, read and indexed in {build:.1f} s"
    )
    documents = clean()
    texts = [text for _, text in documents]
    hits = named(process, texts)
    number = sum(map(bool, hits))
    print(f"  clean documents hit: {number} of {len(texts):,} ({number / len(texts):.3%})")
    if "--hits" in sys.argv:
        for (source, text), by in zip(documents, hits, strict=True):
            if by:
                print("   ", source, by[:4], repr(text[:80]))
    for kind, some in (("13 words or more", long), ("8 to 12 words", short)):
        planted = []
        for place, item in enumerate(some):
            host = texts[place * 7 % len(texts)]
            cut = host.find("\n") + 1
            planted.append(f"{host[:cut]}{item.text}\n{host[cut:]}")
        found = sum(
            f"{item.benchmark}:{item.number}" in by for item, by in zip(some, named(process, planted), strict=True)
        )
        print(f"  planted items of {kind} found: {found:,} of {len(some):,}")
    work = [batch(list(texts[at : at + 64])) for at in range(0, len(texts), 64)]
    best = min(_seconds(process, work) for _ in range(3))
    letters = sum(map(len, texts))
    print(f"  {best / len(texts) * 1e6:.0f} us a document, {best / letters * 2500 * 1e6:.0f} us for 2,500 characters")


def _seconds(process: Processor, work: list[pa.RecordBatch]) -> float:
    begun = time.process_time()
    for one in work:
        process(one)
    return time.process_time() - begun


if __name__ == "__main__":
    main()
