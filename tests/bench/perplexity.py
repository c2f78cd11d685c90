"""What the stage `perplexity` costs: `python -m tests.bench.perplexity`, on texts of ../shared/data.

A SentencePiece model and a 5-gram model of one half of some books score texts of 2,500 characters of the other half.
CPU time on one core, best of three; with KenLM's own time where the package kenlm is installed.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import sentencepiece

from stages.perplexity.model import Model, language_model, sentence_pieces
from stages.perplexity.normal import normal
from stages.perplexity.score import score
from stages.text.column import texts

BOOKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "text" / "books.jsonl.gz"
SIZE, ORDER = 2_500, 5


def documents() -> Iterator[str]:
    with gzip.open(BOOKS, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield from (row["text"][at : at + SIZE] for at in range(0, len(row["text"]), SIZE))


def pieces(lines: list[str]) -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=8_000, num_threads=1, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    return out.getvalue()


def arpa(sentences: list[list[str]]) -> bytes:
    """Relative frequencies with back-offs that somebody made up: for speed alone."""
    grams = [Counter[tuple[str, ...]]() for _ in range(ORDER)]
    for sentence in sentences:
        said = ["<s>", *sentence, "</s>"]
        for size in range(1, ORDER + 1):
            grams[size - 1].update(tuple(said[at : at + size]) for at in range(len(said) - size + 1))
    grams[0][("<unk>",)] += 1
    total = sum(grams[0].values())
    out = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in enumerate(grams, 1)), ""]
    for n, found in enumerate(grams, 1):
        out.append(f"\\{n}-grams:")
        for gram, count in found.items():
            chance = math.log10(0.9 * count / max(grams[n - 2][gram[:-1]] if n > 1 else total, count))
            out.append(f"{chance:.5f}\t{' '.join(gram)}" + ("\t-0.4" if n < ORDER else ""))
        out.append("")
    return "\n".join([*out, "\\end\\", ""]).encode()


def best(work: Callable[[], object], number: int) -> str:
    taken = []
    for _ in range(3):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return f"{min(taken) / number * 1e6:8.1f} us a text"


def main() -> int:
    """Prints the time of each step."""
    if not BOOKS.is_file():
        print("the texts (../shared/data beside the checkout) are not here")
        return 2
    given = list(documents())[:2_000]
    random.Random(0).shuffle(given)
    cut = [[line for part in text.split("\n") if (line := normal(part, accents=False))] for text in given]
    half = len(cut) // 2
    split = pieces([line for lines in cut[:half] for line in lines])
    processor = sentence_pieces(split, "books.model")
    data = arpa([processor.encode(line, out_type=str) for lines in cut[:half] for line in lines])
    begun = time.process_time()
    model = Model(language_model(data, "books.arpa"), processor)
    print(f"ARPA file of {len(data) / 1e6:.0f} MB read in {time.process_time() - begun:.1f} s")
    asked, lines = given[half:], cut[half:]
    joined = ["\n".join(" ".join(processor.encode(line, out_type=str)) for line in one) for one in lines]
    view = texts(pa.array(joined))
    sums, tokens = score(model.ngrams, view)
    found = 10 ** (-sums.sum() / tokens.sum())
    print(f"{len(asked)} texts of {SIZE} characters, {tokens.mean():.0f} tokens each, perplexity {found:.0f}")
    every = [line for one in lines for line in one]
    raw = [part for text in asked for part in text.split("\n")]
    print("normalise  ", best(lambda: [normal(part, accents=False) for part in raw], len(asked)))
    print("pieces     ", best(lambda: [processor.encode(line, out_type=str) for line in every], len(asked)))
    print("score      ", best(lambda: score(model.ngrams, view), len(asked)))
    try:
        import kenlm
    except ImportError:
        return 0
    with tempfile.NamedTemporaryFile(suffix=".arpa") as file:
        file.write(data)
        file.flush()
        theirs = kenlm.Model(file.name)
    single = [line for one in joined for line in one.split("\n")]
    print("KenLM score", best(lambda: [theirs.score(line) for line in single], len(asked)))
    apart = [abs(sum(map(theirs.score, one.split("\n"))) - ours) for one, ours in zip(joined, sums, strict=True)]
    print(f"greatest difference of a text's sum: {max(apart):.5f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
