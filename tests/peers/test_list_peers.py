"""Peers' cases of bad words and of benchmark items, beside ours."""

from __future__ import annotations

import bz2
import json

from peer_helpers import PEERS, SHARED, agree, batch, bound, needs_shared

from stages.base import Processor
from stages.decontaminate import Benchmark, Decontaminate
from stages.toxicity import Toxicity


@needs_shared
def test_bad_words_of_tensorflow_s_c4() -> None:
    """Pages would go for a word of another language or a part of a word, or stay with a word that C4 asks after.

    C4 drops a page with one such word (Raffel et al. 2020, section 2.2): `max_count` and `max_share` of 0. Its
    `soft_badwords` keep a share of the pages by their address, for which we have nothing.
    """
    cases = json.loads((PEERS / "tfds-c4" / "dedupe_badwords_cases.json").read_text("utf-8"))["badwords"]
    process = bound(Toxicity(max_count=0, max_share=0))
    found = {
        (text, language): (keeps, not process(batch([cases["padding"] + text], language=[language])).dropped)
        for text, language, keeps in cases["cases"]
    }
    agree(found, {}, equal=7)


CONTAMINATED = {"label": {1}, "query": {0, 1, 4}, "all": {0, 1, 2, 4}}
"""Which of datatrove's seven texts it finds contaminated (its tests/pipeline/test_ngrams_decont.py): by n-grams of the
answers; of questions and answers; of these and of both as one text, as ours go over all fields of an item."""


def decontaminate(part: str) -> Processor:
    """The stage with datatrove's settings: a single n-gram of 12 words condemns, items with less are not looked for.

    Of HellaSwag the first 500 tasks, among which are those that the texts are from.
    """
    text = bz2.decompress((SHARED / "eval" / "hellaswag" / "hellaswag_val_full.txt.bz2").read_bytes()).decode()
    items = []
    lines = text.splitlines()
    for query, right, *answers in (lines[start : start + 6] for start in range(0, 3000, 6)):
        label = answers[int(right)]
        items += {"label": [label], "query": [query, label], "all": [f"{query} {label}"]}[part]
    stage = Decontaminate(benchmarks=(Benchmark(path="hellaswag"),), words=12, short_words=12, min_item_share=0)
    return stage.bind({"benchmarks/0/hellaswag": "\n".join(items).encode()})


@needs_shared
def test_datatrove_s_contaminated_texts() -> None:
    """Texts with a benchmark's items would stay, or clean ones go."""
    cases = json.loads((PEERS / "datatrove" / "constants_ngrams_decont.json").read_text("utf-8"))["TEXTS"]
    around = "Nothing is so painful to the human mind as a great and sudden change. {} Beware; for I am fearless."
    found = {}
    for part, theirs in CONTAMINATED.items():
        outcome = decontaminate(part)(batch([around.format(text) for text in cases]))
        dropped = {row for row, *_ in outcome.dropped}
        found |= {(part, row): (row in theirs, row in dropped) for row in range(len(cases))}
    agree(found, {}, equal=21)
