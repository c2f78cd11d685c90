"""What the shipped toxicity model does, as the tables of its card.

    python -m tests.bench.toxicity_card [--check]

Scores the sets of ../shared/data with the stage `toxicity_model` as it ships and writes the tables into
stages/data/toxicity.md, between its marks; with --check it only says whether the card has the same. The same data and
model give the same numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import stages
from pipeline.train_classifier.figures import at, auc
from pipeline.train_toxicity.clean import KINDS, clean, passages
from pipeline.train_toxicity.posts import LANGUAGES, madlibs, posts
from stages.classifier.model import ONE, load
from stages.toxicity_model import ToxicityModel

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CARD = Path(stages.__path__[0]) / "data" / "toxicity.md"
MODEL = CARD.with_name("toxicity.npz")
BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"
DOCUMENT = 2500
"""Code points of the pieces of long texts that are judged as documents."""
TITLES = {
    "davidson": "Davidson: tweets, a fifth by hash", "edos": "EDOS test: sexism alone counts as toxic there",
    "hatexplain": "HateXplain test", "cold": "COLD test", "germeval": "GermEval 2018 test",
    "surge": "Surge: comments, no set of theirs was trained on",
    "wikipedia": "Wikipedia comments, no set of theirs was trained on",
    "madlibs": "unintended-bias templates (madlibs)",
}  # fmt: skip

Scores = npt.NDArray[np.int32]


class Scorer(NamedTuple):
    """The stage as it ships."""

    stage: ToxicityModel
    model: bytes

    def __call__(self, texts: Sequence[str]) -> Scores:
        process = self.stage.bind({"model": self.model})
        found = [np.zeros(0, np.int32)]
        for start in range(0, len(texts), 5000):
            batch = pa.RecordBatch.from_pydict({"text": pa.array(texts[start : start + 5000], pa.string())})
            scores = process(batch).batch.column("toxicity_score").to_numpy()
            found.append(np.rint(scores.astype(np.float64) * ONE).astype(np.int32))
        return np.concatenate(found)


def tables(data: Path, score: Scorer, threshold: int) -> Iterator[str]:
    """The lines of the tables."""
    by_set: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    for post in posts(data):
        if post.test:
            by_set[post.name].append((post.toxic, post.text))
    by_set["madlibs"] = list(madlibs(data))
    yield f"Threshold: {threshold / ONE:.2f}.\n"
    yield "| labelled texts, held out | language | texts | toxic | AUC | precision | recall | others flagged |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for name, rows in by_set.items():
        truth = np.array([toxic for toxic, _ in rows])
        scores = score([text for _, text in rows])
        found = at(scores, truth, threshold)
        shares = " | ".join("-" if found[key] is None else f"{found[key]:.3f}" for key in ("precision", "recall"))
        yield (
            f"| {TITLES[name]} | {LANGUAGES.get(name, 'en')} | {len(rows):,} | {int(truth.sum()):,} | "
            f"{auc(scores, truth):.4f} | {shares} | {found['false_positives']:.2%} |"
        )
        if name == "madlibs":
            terms = by_term(rows, scores > threshold)
    by_kind: dict[str, list[str]] = defaultdict(list)
    by_language: dict[str, list[str]] = defaultdict(list)
    for text in clean(data):
        if text.part == "test":
            by_kind[text.kind].append(text.text)
            if text.kind in ("encyclopedia", "sentences"):
                by_language[f"{text.kind} {text.language}"].append(text.text)
    yield "\n| clean text, flagged | documents | flagged | sentences and lines | flagged |"
    yield "|---|--:|--:|--:|--:|"
    for kind in KINDS:
        pieces = [text[at : at + DOCUMENT] for text in by_kind[kind] for at in range(0, len(text), DOCUMENT)]
        short = [part for text in by_kind[kind] for part in passages(text)]
        rates = [np.count_nonzero(score(given) > threshold) / len(given) for given in (pieces, short)]
        yield f"| {kind} | {len(pieces):,} | {rates[0]:.2%} | {len(short):,} | {rates[1]:.2%} |"
    yield "\n| clean text by language | texts | flagged |"
    yield "|---|--:|--:|"
    rest, rest_hit, languages = 0, 0, 0
    for name in sorted(by_language):
        hit = int(np.count_nonzero(score(by_language[name]) > threshold))
        if name.startswith("encyclopedia") or hit:
            yield f"| {name} | {len(by_language[name]):,} | {hit} |"
        else:
            rest, rest_hit, languages = rest + len(by_language[name]), rest_hit + hit, languages + 1
    yield f"| sentences, {languages} other languages and varieties | {rest:,} | {rest_hit} |"
    yield "\n| identity term, friendly sentences of the templates | sentences | flagged |"
    yield "|---|--:|--:|"
    rates_ = {term: hits / number for term, (number, hits) in terms.items()}
    for term in sorted(terms, key=lambda term: (-rates_[term], term)):
        if rates_[term] > 0:
            yield f"| {term} | {terms[term][0]:,} | {rates_[term]:.2%} |"
    none = [term for term in terms if not rates_[term]]
    yield f"| {len(none)} others | {sum(terms[term][0] for term in none):,} | 0.00% |"
    yield f"\nGreatest difference between two terms: {100 * (max(rates_.values()) - min(rates_.values())):.1f} points."


def by_term(rows: Sequence[tuple[bool, str]], hit: npt.NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
    """Of each identity term, the number of friendly sentences with it, and how many of them are flagged.

    The terms are what the sentences "NAME is a ADJECTIVE TERM" end in.
    """
    ends = (text.split(" is a ", 1)[1].split(" ", 1) for _, text in rows if " is a " in text)
    terms = sorted({parts[1] for parts in ends if len(parts) == 2})
    found = dict.fromkeys(terms, (0, 0))
    for (toxic, text), flagged in zip(rows, hit.tolist(), strict=True):
        if not toxic:
            padded = f" {text.lower()} "
            # The longest: "african american" is no "american".
            term = max((term for term in terms if f" {term} " in padded), key=len, default=None)
            if term:
                found[term] = found[term][0] + 1, found[term][1] + flagged
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; end with 1 where the card differs.")
    given = parser.parse_args()
    if not (DATA / "toxicity").is_dir():
        sys.exit(f"the data are not here: {DATA}")
    model = MODEL.read_bytes()
    threshold = load(model, MODEL.name).threshold
    lines = list(tables(DATA, Scorer(ToxicityModel(mode="tag"), model), threshold))
    size = f"{len(model):,} bytes, SHA-256 `{hashlib.sha256(model).hexdigest()}`"
    made = "\n".join([BEGIN, f"Model: {size}.", *lines, END])
    print(made)
    card = CARD.read_text("utf-8")
    new = card[: card.index(BEGIN)] + made + card[card.index(END) + len(END) :]
    if given.check:
        sys.exit(int(new != card))
    CARD.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
