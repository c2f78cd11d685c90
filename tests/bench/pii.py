"""Precision, recall and cost of the stages `pii` and `secrets`: `python -m tests.bench.pii`.

On the marked texts of presidio-research (synthetic; phones of many forms without a country), on generated cases with as
many hard negatives, and, as false positives to look at (`--show`), on clean texts of all kinds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from stages.base import Stage
from stages.pii import Pii
from stages.schema import READ
from stages.secrets import Secrets
from tests.bench.pii_cases import SHARED, TYPES, generated

MARKED = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "US_SSN": "national_id",
}


def batch(texts: list[str], languages: list[str | None]) -> pa.RecordBatch:
    """A batch of the READ schema."""
    columns: dict[str, list[Any]] = {name: [None] * len(texts) for name in READ.names}
    columns |= {"text": texts, "language": languages, "source": ["bench"] * len(texts)}
    columns["id"] = [xxhash.xxh3_128_digest(str(row).encode()) for row in range(len(texts))]
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], field.type) for field in READ], schema=READ)


Gold = tuple[str, str | None, list[tuple[str, int, int]]]
"""Text, language, spans (type, start, end)."""


def score(cases: Iterable[Gold], exact: bool, show: int) -> dict[str, Counter[str]]:
    """Hits, misses and false finds by type; a find counts for the type that it says. `exact`: the span's both ends."""
    cases = list(cases)
    outcome = Pii(mode="tag").process(batch([case[0] for case in cases], [case[1] for case in cases]))
    tally = {kind: Counter[str]() for kind in TYPES}
    shown: Counter[str] = Counter()
    for (text, language, gold), finds in zip(cases, outcome.batch.column("pii").to_pylist(), strict=True):
        found = [(one["type"], one["start"], one["end"]) for one in finds]
        for span in gold:
            near = [one for one in found if one[0] == span[0] and one[1] < span[2] and span[1] < one[2]]
            hit = span in found if exact else bool(near)
            tally[span[0]]["hit" if hit else "miss"] += 1
            found = [one for one in found if one not in ([span] if exact and hit else near if hit else [])]
            if not hit:
                shown[span[0]] += 1
                if shown[span[0]] <= show:
                    print(f"    missed {span[0]:<12} {language}: {_beside(text, span)}  found: {found}")
        for one in found:
            tally[one[0]]["false"] += 1
            shown["false"] += 1
            if shown["false"] <= 3 * show:
                print(f"    false  {one[0]:<12} {language}: {_beside(text, one)}")
    return tally


def _beside(text: str, span: tuple[str, int, int]) -> str:
    _, start, end = span
    return repr(f"{text[max(0, start - 24) : start]}[{text[start:end]}]{text[end : end + 12]}")


def report(title: str, tally: dict[str, Counter[str]]) -> None:
    """One line a type."""
    print(title)
    for kind, counts in tally.items():
        found, marked = counts["hit"] + counts["false"], counts["hit"] + counts["miss"]
        precision = counts["hit"] / found if found else float("nan")
        recall = counts["hit"] / marked if marked else float("nan")
        figures = f"precision {precision:.4f}  recall {recall:.4f}  ({counts['false']} false)"
        print(f"  {kind:<12} {marked:>6} marked  {figures}")


def presidio() -> Iterable[Gold]:
    """The marked texts."""
    with gzip.open(SHARED / "pii" / "synth_dataset_v2.json.gz", "rt", encoding="utf-8") as file:
        for row in json.load(file):
            spans = [
                (MARKED[span["entity_type"]], span["start_position"], span["end_position"])
                for span in row["spans"]
                if span["entity_type"] in MARKED
            ]
            yield row["full_text"], "en", spans


def clean(stage: Stage, column: str, show: int) -> None:
    """Finds and CPU on clean texts, file by file."""
    print(f"{stage.name} on clean texts: million characters, CPU us for 2,500 characters, finds per million by type")
    for path in sorted(Path(SHARED / "text").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        data = batch([row["text"] for row in rows], [row["lang"] for row in rows])
        size = sum(len(row["text"]) for row in rows)
        stage.process(data.slice(0, 8))
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            outcome = stage.process(data)
            best = min(best, time.process_time() - begun)
        finds = outcome.batch.column(column).to_pylist()
        counts = Counter(one["type"] for row in finds for one in row)
        rates = ", ".join(f"{kind} {number / size * 1e6:.2f}" for kind, number in counts.most_common()) or "none"
        print(
            f"  {path.stem.removesuffix('.jsonl'):<18} {size / 1e6:6.2f}  {best / size * 2500 * 1e6:6.1f} us  {rates}"
        )
        seen: Counter[str] = Counter()
        for row, ones in zip(outcome.batch.column("text").to_pylist() if show else [], finds, strict=False):
            for one in ones:
                seen[one["type"]] += 1
                if seen[one["type"]] <= show:
                    print(f"      {one['type']:<12} {_beside(row, (one['type'], one['start'], one['end']))}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="cases with a value, and without, of each type")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--show", type=int, default=0, help="misses and false finds to print of each type")
    arguments = parser.parse_args()
    report("presidio-research, a find that overlaps its span", score(presidio(), False, arguments.show))
    cases = [
        (c.text, c.language, [(c.type, c.start, c.end)] if c.end > c.start else [])
        for c in generated(arguments.cases, arguments.seed)
    ]
    report(f"generated (seed {arguments.seed}), both ends exact", score(cases, True, arguments.show))
    clean(Pii(mode="tag"), "pii", arguments.show)
    clean(Secrets(mode="tag"), "secrets", arguments.show)


if __name__ == "__main__":
    main()
