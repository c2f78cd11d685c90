"""CPU a document of `normalize` and `emoji` beside what they replace: `python -m tests.bench.normalize_emoji`.

The documents are those of ../shared/data/text in pieces of about 2,500 characters. Beside our stages, over Arrow
batches, stand `ftfy.fix_text` with `unicodedata.normalize`, and `emoji.demojize`, on each text as a Python string.
They take turns on the same pieces, and each counts by its best round. Figures are of this machine; ratios are what
travels.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import emoji
import ftfy
import pyarrow as pa

from stages.emoji_names import Emoji
from stages.normalize import Normalize
from tests.stages.stage_helpers import SHARED, batch

SIZE = 2500
BATCH = 500
ROUNDS = 3
GOALS = {"normalize": 100.0, "emoji": 10.0}


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of whole lines where lines are short, of about `SIZE` characters."""
    start = 0
    while start < len(text):
        end = start + SIZE
        if end < len(text) and (line := text.rfind("\n", start + SIZE // 2, end)) > 0:
            end = line + 1
        yield text[start:end]
        start = end


def contestants() -> dict[str, Callable[[pa.RecordBatch, list[str]], object]]:
    """What runs over a batch, or over the same texts as strings."""
    normalize, named, emoticons = Normalize().bind({}), Emoji().bind({}), Emoji(emoticons=True).bind({})
    return {
        "normalize": lambda data, _: normalize(data),
        "emoji": lambda data, _: named(data),
        "emoji with emoticons": lambda data, _: emoticons(data),
        "ftfy + NFC": lambda _, values: [unicodedata.normalize("NFC", ftfy.fix_text(text)) for text in values],
        "demojize": lambda _, values: [emoji.demojize(text) for text in values],
    }


def measure(values: list[str]) -> dict[str, float]:
    """CPU microseconds a document of each."""
    runs = contestants()
    total = dict.fromkeys(runs, 0.0)
    for start in range(0, len(values), BATCH):
        part = values[start : start + BATCH]
        data = batch(list(part))
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(ROUNDS):
            for name, run in runs.items():
                begun = time.process_time()
                run(data, part)
                best[name] = min(best[name], time.process_time() - begun)
        for name, seconds in best.items():
            total[name] += seconds
    return {name: 1e6 * seconds / len(values) for name, seconds in total.items()}


def main() -> int:
    """Prints a line a file, and all together; 1 where a goal is missed."""
    files = sorted((SHARED / "text").glob("*.jsonl.gz"))
    if not files:
        print("normalize and emoji: nothing to read; text/ of the shared data is not here")
        return 0
    for run in contestants().values():
        run(batch(["mojibÃ¤ke 👍 :)\n"]), ["mojibÃ¤ke 👍 :)\n"])  # compilation
    print(f"{'CPU us a document':20}" + "".join(f"{name:>22}" for name in contestants()))
    total, number, characters = dict.fromkeys(contestants(), 0.0), 0, 0
    for file in files:
        with gzip.open(file) as lines:
            values = [piece for line in lines for piece in pieces(json.loads(line)["text"])]
        for name, micro in (figures := measure(values)).items():
            total[name] += micro * len(values)
        number += len(values)
        characters += sum(map(len, values))
        print(f"{Path(file.stem).stem:20}" + "".join(f"{micro:22.1f}" for micro in figures.values()), flush=True)
    mean = {name: micro * SIZE / characters for name, micro in total.items()}
    print(f"{f'all, by {SIZE:,} chars':20}" + "".join(f"{micro:22.1f}" for micro in mean.values()))
    print(
        f"  {number:,} documents; ftfy and NFC take {mean['ftfy + NFC'] / mean['normalize']:.0f} times normalize's, "
        f"demojize {mean['demojize'] / mean['emoji']:.0f} times emoji's"
    )
    missed = [name for name, goal in GOALS.items() if mean[name] > goal]
    print("  goals: " + ", ".join(f"{name} at most {goal:.0f} us" for name, goal in GOALS.items()))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
