"""Time of each stage over texts that nobody writes, and what four times as much of them costs: `python -m
tests.bench.odd_texts [--size 250000] [--stage NAME ...]`.

A stage is linear where that takes less than eight times as long; what is not is marked, and its status is 1 then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from pipeline.resources import load
from stages.base import Outcome
from stages.registry import STAGES, make

ROOT = Path(__file__).parents[2]
UNITS = {
    "one character": "a",
    "one ideogram": "\u4e00",
    "one mark": "\u0301",
    "two marks in turn": "\u0301\u0323",
    "marks taken apart": "\u0f73\u0344",
    "a letter and marks": "e" + "\u0301\u0323" * 20,
    "blanks": " ",
    "lines": "\n",
    "words": "word ",
    "digits": "1",
    "numbers": "12 ",
    "addresses": "a@b.",
    "colons": "a:",
    "brackets": "<",
    "emoji": "\u2764\ufe0f\u200d",
    "mojibake": "\u00c3\u00a9",
    "capitals that change": "\u0130",
    "joiners": "\u200d",
    "backslashes": "\\",
    "secrets": "sk-a1B2",
}
"""What each text repeats."""
_LEAST = 0.01
"""Seconds below which a ratio says nothing."""
_MOST = 8.0


def texts_of(stage: str, unit: str, size: int) -> pa.RecordBatch:
    """A batch of one row: the unit repeated to `size` characters, as a text, a page or an address."""
    text = unit * (size // len(unit))
    if stage == "extract":
        page = f"<html><title>{text[:1000]}</title><body><p>{text}</p></body></html>".encode()
        return pa.RecordBatch.from_pydict({"id": [b"x"], "url": ["https://a.example/"], "payload": [page]})
    return pa.RecordBatch.from_pydict(
        {"id": [b"x"], "source": ["odd"], "url": [f"https://a.example/{text}"], "text": [text], "language": ["en"]}
    )


def cost(process: Callable[[pa.RecordBatch], Outcome], batch: pa.RecordBatch) -> float:
    """CPU seconds."""
    begun = time.process_time()
    process(batch)
    return time.process_time() - begun


def main() -> int:
    """Prints a line a stage and text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=250_000, help="characters of the shorter text")
    parser.add_argument("--stage", action="append", choices=sorted(STAGES), help="these alone")
    parser.add_argument("--unit", action="append", choices=list(UNITS), help="these alone")
    asked = parser.parse_args()
    failed = 0
    for name in asked.stage or STAGES:
        try:
            stage = make(STAGES[name], {})
            process = stage.bind(load(stage.files(), ROOT))
        except ValueError as error:
            print(f"{name}: left out: {error}")
            continue
        process(texts_of(name, "A word. ", 100))
        worst = (0.0, "")
        for told in asked.unit or UNITS:
            once, more = (cost(process, texts_of(name, UNITS[told], asked.size * times)) for times in (1, 4))
            worst = max(worst, (more, told))
            if more > _LEAST and more > _MOST * once:
                failed += 1
                print(f"{name}: {told}: {once:.3f} s, four times as much {more:.3f} s: not linear", flush=True)
        print(f"{name}: {4 * asked.size:,} characters take {worst[0]:.2f} s at most ({worst[1]})", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
