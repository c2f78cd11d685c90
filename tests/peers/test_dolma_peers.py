"""Verdicts of dolma's taggers on its own pages, beside ours.

dolma_taggers.jsonl (Apache-2.0, as dolma) is what dolma 1.2.1 says of thirty pages: the values of `gopher_v1`; where
the lines begin that `c4_v2` tags, and whether it finds a bad word; what `pii_regex_with_counts_fast_v2` finds. 531 of
540 verdicts of Gopher's rules are the same, 1,143 of 1,180 on lines, 28 of 30 on words; `test_pii_peers` has those on
personal data. `NO_COUNTERPART` lists what else comes with dolma.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import regex
from peer_helpers import agree, batch, bound, dolma_pages, needs_shared, one, texts

from stages.quality.c4 import C4
from stages.quality.gopher import GopherQuality
from stages.quality.repetition import GopherRepetition
from stages.toxicity import Toxicity

NO_COUNTERPART = {
    "dedupe-by-url, dedupe-paragraphs, dedupe-paragraph-ngrams": "compares documents with each other: the phase dedup",
    "mixer, filter-by-spans, mixer-validator": (
        "drops by scores that came with the documents, typed in for the test; our stages compute theirs"
    ),
    "paragraph-spans": "cuts spans that came with the documents",
    "jigsaw, language and quality taggers": "models that are downloaded",
    "code, licences, url taggers": "other rules than any stage of ours; `url` is held against its lists elsewhere",
    "length and tokenizer taggers": "counts without a verdict",
    "repetitions_v1": "tags strings of one character or more four times in a row; Gopher's rules judge the document",
    "not_alphanum_paragraph_v1": "tags lines without letters; C4 cuts them, for they do not end a sentence",
}
"""What comes with dolma that we have nothing of the kind for, and why."""

RULES = {
    "word_count": "min_words",
    "median_word_length": "max_word_length",
    "symbol_to_word_ratio": "max_symbols",
    "fraction_of_words_with_alpha_character": "min_alphabetic",
    "required_word_count": "min_stop_words",
    "fraction_of_lines_starting_with_bullet_point": "max_bullet_lines",
    "fraction_of_lines_ending_with_ellipsis": "max_ellipsis_lines",
    "fraction_of_duplicate_lines": "max_repeated_lines",
    "fraction_of_characters_in_duplicate_lines": "max_repeated_line_characters",
    **{f"fraction_of_characters_in_most_common_{n}grams": f"max_top_{n}" for n in range(2, 5)},
    **{f"fraction_of_characters_in_duplicate_{n}grams": f"max_repeated_{n}" for n in range(5, 11)},
}
"""Value of `gopher_v1` to our setting, whose default (that of the paper) both are held against."""

ELLIPSIS = (
    "Rae et al. 2021, A.1.1: 'more than 30% ending with an ellipsis', and 'either the hash symbol or the ellipsis'; "
    "dolma knows the character … alone, these pages write three dots"
)
ONCE = (
    "Rae et al. 2021, A.1.1: 'taking care not to count characters that occur in overlapping n-grams more than once'; "
    "dolma counts them in each, and counts the first occurrence too"
)
BOARD = "http://blogs.boardprospects.com/articles/3928691/opendoor-adds-to-leadership-team-board-of-director/"
TOURIST = "http://cempaka-tourist.blogspot.com/2017/07/aborigines-in-australia-longer-than.html"
BUFVC = "http://bufvc.ac.uk/allbufvc/search.php?q=Discussion&sort=relevance"
DIFFERENT_RULES = {
    (BOARD, "fraction_of_lines_ending_with_ellipsis"): ELLIPSIS,
    (TOURIST, "fraction_of_lines_ending_with_ellipsis"): ELLIPSIS,
    (TOURIST, "symbol_to_word_ratio"): ELLIPSIS,
    **{(BUFVC, f"fraction_of_characters_in_duplicate_{n}grams"): ONCE for n in range(5, 11)},
}
"""Page and value: the rule of the paper that we follow where dolma does not."""


def pages() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, text, and what dolma says of it."""
    found = dolma_pages()
    for line in (Path(__file__).parent / "dolma_taggers.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield row["id"], found[row["source"], row["id"]], row


@needs_shared
def test_dolma_s_verdicts_by_gopher_s_rules() -> None:
    """A user who comes from dolma would get another corpus, and not know why."""
    stages = {"quality": GopherQuality(), "repetition": GopherRepetition()}
    processes = {name: bound(stage) for name, stage in stages.items()}
    found = {}
    for page, text, theirs in pages():
        for name, stage in stages.items():
            measures = processes[name](batch([text], language=["en"])).measures
            for rule, setting in RULES.items():
                if setting in measures:
                    limit = getattr(stage, setting)
                    values = theirs["gopher_v1"][rule], float(measures[setting][0])
                    found[page, rule] = tuple((v > limit) if setting[:3] == "max" else (v < limit) for v in values)
    agree(found, DIFFERENT_RULES, equal=531)


ENDS = [
    (
        regex.compile(r"\.\.\.$"),
        (True, False),
        "the code of Raffel et al. 2020 (c4_utils: `line.endswith(_ELLIPSIS)`): a line that trails off is cut",
    ),
    (
        regex.compile(r"”$"),
        (False, True),
        "Raffel et al. 2020, 2.2: 'a period, exclamation mark, question mark, or end quotation mark'; dolma knows the "
        "straight one alone",
    ),
]
"""Lines of which dolma and we do not say the same, (theirs, ours) whether it stays, and the rule that we follow."""


@needs_shared
def test_dolma_s_verdicts_on_lines() -> None:
    """Other lines would be cut from pages than a user who comes from dolma has them cut."""
    process = bound(C4(min_line_words=3, min_sentences=0, citations=False, curly_brackets=False, line_phrases=()))
    found, different = {}, {}
    for page, text, theirs in pages():
        cut = {start for name, starts in theirs["c4_v2"].items() if name.startswith("lines_") for start in starts}
        left = one(texts(process(batch([text])))).splitlines()
        start = place = 0
        for line in text.split("\n"):
            plain = line.strip()
            if plain:
                kept = left[place : place + 1] == [plain]
                place += kept
                pair = found[page, start] = start not in cut, kept
                for end, pairs, why in ENDS:
                    if end.search(plain) and pair == pairs:
                        different[page, start] = why
            start += len(line) + 1
        assert place == len(left)
    agree(found, different, equal=1143)


DIFFERENT_WORDS = {
    "http://cempaka-tourist.blogspot.com/2012/01/": "a mark stands beside the word, which to dolma is a part of it",
    "http://advocatesaz.org/tag/good-cholesterol/": (
        "`sex`, `sexual`: ordinary words of medicine, left out of the list (stages/data/ldnoobw_ordinary.json)"
    ),
}


@needs_shared
def test_dolma_s_verdicts_on_words() -> None:
    """Other pages would be known for bad words."""
    process = bound(Toxicity(max_count=0, max_share=0))
    found = {
        page: ("has_naughty_word" in theirs["c4_v2"], bool(process(batch([text], language=["en"])).dropped))
        for page, text, theirs in pages()
    }
    assert len(found) == 30
    agree(found, DIFFERENT_WORDS, equal=28, least=0.93)
