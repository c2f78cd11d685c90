"""What cutting words costs, and what it changes: `python -m tests.bench.segmenters`, on texts of ../shared/data.

CPU time on one core, best of three, of texts of about 2,500 characters.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages import segmenters
from stages.quality.count import count
from stages.quality.fields import TERM_LENGTH, TERMS
from stages.text.column import Texts, texts

TEXT = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
FILES = {"zh": ("docs_zh", "science_zh", "poetry_zh"), "ja": ("docs_ja",), "th": ("encyclopedia_12",)}
SIZE = 2_500


def documents(language: str) -> Iterator[str]:
    """Texts of a language, cut to `SIZE` characters."""
    for name in FILES[language]:
        with gzip.open(TEXT / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                if name != "encyclopedia_12" or row.get("lang", row.get("language")) == language:
                    yield from (row["text"][at : at + SIZE] for at in range(0, len(row["text"]), SIZE))


def best(work: Callable[[], object]) -> float:
    """CPU seconds."""
    taken = []
    for _ in range(3):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def row(language: str, name: str, view: Texts, characters: int) -> str:
    chosen = [(name, language)] * len(view.valid)
    found = segmenters.cuts(view, chosen)
    table = count(view, found).sum(axis=0)
    unit = SIZE / characters * 1e6
    cutting = best(lambda: segmenters.cuts(view, chosen)) * unit
    counting = best(lambda: count(view, found)) * unit
    length = table[TERM_LENGTH] / max(table[TERMS], 1)
    return (
        f"{language}  {name or 'characters':10}  {len(view.valid):6,} texts  cut {cutting:6.1f} us, "
        f"count {counting:6.1f} us a text  {table[TERMS]:9,} terms, {length:.2f} characters each"
    )


def main() -> int:
    """Prints a line for each language and segmenter."""
    if not TEXT.is_dir():
        print("the texts (../shared/data beside the checkout) are not here")
        return 2
    for language in FILES:
        given = [text for text in documents(language) if text.strip()][:1_500]
        if not given:
            print(f"{language}  no texts here")
            continue
        view = texts(pa.array(given))
        known = [name for name, item in segmenters.KNOWN.items() if language in item.languages]
        for name in ("", *known):
            print(row(language, name, view, int(np.sum([len(text) for text in given]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
