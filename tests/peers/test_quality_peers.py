"""Verdicts of datatrove and of TensorFlow Datasets' C4 on their own cases, beside ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from peer_helpers import PEERS, agree, batch, bound, dolma_pages, needs_shared

from stages.base import Stage
from stages.quality.c4 import C4, C4Paragraphs
from stages.quality.fineweb import FineWebQuality
from stages.quality.gopher import GopherQuality
from stages.quality.repetition import GopherRepetition

STAGES: dict[str, tuple[Stage, ...]] = {
    "gopher_quality": (GopherQuality(), GopherQuality(words="marks")),
    "gopher_repetition": (GopherRepetition(),),
    "fineweb": (FineWebQuality(),),
    "c4_paragraph": (C4Paragraphs(),),
    "c4_quality": (C4(thresholds="datatrove"),),
}

WORDS = (
    "Rae et al. 2021, A.1.1: 'We also require that 80% of words in a document contain at least one alphabetic "
    "character'; words are what stands between blanks, as in its rule on mean word length; datatrove's tokeniser makes "
    "each mark a word"
)
MARKS = (
    "`words: marks` makes each mark a word; datatrove's tokeniser leaves those inside of numbers and addresses whole"
)
LINES = (
    "Penedo et al. 2024, 3.6: 'the fraction of lines ending with punctuation'; these paragraphs end with a closing "
    "quote behind a full stop, which datatrove does not see"
)
DIFFERENT = {
    ("gopher_quality", "http://9crimes.org/charlesxavier/", 0): WORDS,
    ("gopher_quality", "http://blog.captainthin.net/?tag=kjv-only", 0): WORDS,
    (
        "gopher_quality",
        "http://clizbeats.com/warner-music-group-strengthens-global-technology-data-expertise-9821/",
        0,
    ): (WORDS),
    (
        "gopher_quality",
        "http://911blogger.com/news/2006-11-02/pentagon-video-doubletree-be-released-within-week",
        1,
    ): MARKS,
    ("gopher_quality", "http://9pmstudios.com/9pm-studios-lends-support-to-city-dogs-rescue-city-kitties/", 1): MARKS,
    ("fineweb", "http://clizbeats.com/warner-music-group-strengthens-global-technology-data-expertise-9821/", 0): LINES,
}
"""Stage, page and setting: the rule of the paper that we follow where datatrove does not."""


def verdicts() -> Iterator[tuple[tuple[str, str, int], tuple[bool, bool]]]:
    """Stage, page and number of the setting: whether datatrove keeps the page, and whether we do."""
    texts = dolma_pages()
    for line in (PEERS / "datatrove" / "oracle_verdicts.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        text = texts[row["source"], row["id"]]
        for name, stages in STAGES.items():
            for number, stage in enumerate(stages):
                outcome = bound(stage)(batch([text], language=["en"]))
                yield (name, row["id"], number), (row[name]["keep"], not outcome.dropped)


@needs_shared
def test_datatrove_s_verdicts_on_real_pages() -> None:
    """A user who comes from datatrove would get another corpus, and not know why."""
    found = dict(verdicts())
    agree(found, DIFFERENT, equal=174)
    first = {case: pair for case, pair in found.items() if case[2] == 0}
    agree(first, {case: why for case, why in DIFFERENT.items() if case[2] == 0}, equal=146)


REPETITION = {
    "dup_line_frac": "lines", "dup_para_frac": "paragraphs", "dup_para_char_frac": "paragraph_characters",
    "dup_line_char_frac": "line_characters", "top_2_gram": "top_2", "top_3_gram": "top_3",
    "duplicated_5_n_grams": "repeated_5",
}  # fmt: skip


@needs_shared
def test_datatrove_s_cases_of_repetition() -> None:
    """The same repetition would be dropped by another rule, or not at all."""
    lines = (PEERS / "datatrove" / "filter_cases.jsonl").read_text("utf-8").splitlines()
    cases = [case for case in map(json.loads, lines) if case["filter"] == "gopher_repetition"]
    assert len(cases) == len(REPETITION)
    for case in cases:
        outcome = bound(GopherRepetition())(batch([case["text"]]))
        assert [drop[1] for drop in outcome.dropped] == [REPETITION[case["expected_reason"]]]


def c4_cases() -> list[Any]:
    path = PEERS / "tfds-c4" / "clean_page_cases.jsonl"
    cases = map(json.loads, path.read_text("utf-8").splitlines()) if path.exists() else ()
    return [pytest.param(case, id=case["test"]) for case in cases]


@needs_shared
@pytest.mark.parametrize("case", c4_cases())
def test_c4_s_own_cases(case: dict[str, Any]) -> None:
    """Pages would be cut otherwise than C4's were."""
    outcome = bound(C4())(batch([case["text"]]))
    assert outcome.batch.column("text").to_pylist() == ([case["expected_text"]] if case["expected_text"] else [])
