"""The classifier's kernels against plain Python on many texts: `python -m tests.bench.classifier_equal [NUMBER]`.

Random strings over all of Unicode (100,000 unless told), and posts and clean text where ../shared/data is there. The
sums must be equal to the bit.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from stages.classifier.model import Model
from stages.classifier.score import judge
from stages.text.column import texts

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stages"))


def given(number: int, chance: random.Random) -> list[str]:
    """The texts."""
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    made = []
    for _ in range(number):
        letters = [chr(code) for code in chance.sample(codes, 20)] + list(" \n\t.a1中é'’:/")
        made.append("".join(chance.choices(letters, k=chance.randint(0, 120))))
    if DATA.is_dir():
        from pipeline.train_toxicity.clean import clean
        from pipeline.train_toxicity.posts import posts

        made += [post.text for post in chance.sample(posts(DATA), 4000)]
        made += [text.text[:1500] for text in chance.sample(list(clean(DATA)), 1000)]
    return made


def main() -> None:
    from classifier_reference import log_odds

    numbers = np.random.default_rng(5)
    weights = numbers.integers(-127, 128, (2, 1 << 12), dtype=np.int8)
    model = Model("topic", ("a", "b"), weights, np.array([90_000, 12_345]), np.array([-321, 55]), 0, {})
    chosen = given(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, random.Random(3))
    judged = judge(model, texts(pa.array(chosen)))
    found: dict[int, list[list[int]]] = {}
    for row, odds in zip(judged.windows.rows.tolist(), judged.log_odds.tolist(), strict=True):
        found.setdefault(row, []).append(odds)
    unequal = [text for row, text in enumerate(chosen) if found.get(row, []) != log_odds(model, text)]
    for text in unequal[:10]:
        print(repr(text[:200]))
    print(f"{len(chosen):,} texts, {len(unequal)} unequal")
    sys.exit(bool(unequal))


if __name__ == "__main__":
    main()
