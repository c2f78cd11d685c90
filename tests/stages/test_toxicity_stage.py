"""Word lists: what is rude in one language is not in another, and short entries lie inside ordinary words."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_helpers import DATA, SHARED, batch, bound, needs_shared, reasons
from toxicity_reference import WordList, share

from stages.registry import make
from stages.toxicity import LANGUAGES, Toxicity
from stages.wordlists import WordLists
from stages.words import fold

CONFUSABLES = {"confusables": (DATA / "confusables.txt").read_bytes()}


def counted(text: str, language: str | None, **fields: Any) -> int:
    outcome = bound(Toxicity(mode="tag", **fields))(batch([text], language=[language]))
    (number,) = outcome.batch.column("toxic_words").to_pylist()
    return int(number)


@pytest.mark.parametrize(
    ("text", "language", "number"),
    [
        ("What the FUCK, you fuck!", "en", 2),
        ("Ｆｕｃｋ Fuck\u0301", "en", 1),
        ("Scunthorpe, assassin, cockpit, shitake", "en", 0),
        ("a jack-off and a jack  off", "en", 2),
        ("你他妈的是个傻逼", "zh", 2),
        ("性质、理性、可能性、成人教育", "zh", 0),
        ("ロマンコメディとフックとカント", "ja", 0),
        ("オマンコ！", "ja", 1),
        ("씨발놈이 보지 않고", "ko", 1),
        ("Die Fotze und der Fotzen", "de", 1),
        ("ไอ้ควาย เหี้ยมาก", "th", 2),
    ],
)
def test_matches(text: str, language: str, number: int) -> None:
    """Rude words would be missed, or ordinary words taken for them."""
    assert counted(text, language) == number


def test_lists_stay_in_their_language() -> None:
    """Ordinary words would be judged by another language: `am` is rude in Turkish, Romanian `cum` in English."""
    assert counted("I am here, I am fine", "en") == 0
    assert counted("am", "tr") == 1
    assert counted("cum se face", "ro") == 0
    assert counted("fuck", "ro") == 0
    assert counted("fuck", "ro", lists=("builtin", "builtin:en")) == 1
    assert counted("fuck", None) == 0
    assert counted("fuck", None, fallback_language="en") == 1
    assert counted("faen", "nb") == counted("faen", "no") == 1


def test_drops_with_share_and_limit() -> None:
    """One word in a novel would condemn it; a page of insults would pass; no reason would be given."""
    rude, novel = "fuck you bitch, fuck off", "a calm word " * 200 + "fuck shit fuck"
    process = bound(Toxicity())
    outcome = process(batch([rude, novel, "fuck", None], language=["en"] * 4))
    assert reasons(outcome) == [(0, "toxic_words"), (3, "no_text")]
    assert outcome.dropped[0][2:] == (0.6, 0.01)
    assert outcome.batch.column("toxic_words").to_pylist() == [3, 1]
    assert outcome.batch.column("toxic_share").to_pylist() == [pytest.approx(3 / 603, abs=1e-5), 1.0]
    assert not bound(Toxicity(mode="tag"))(batch([rude], language=["en"])).dropped
    assert process(batch(["x"], language=["ro"])).counts == {"documents_without_list": 1}


def test_lists_of_one_s_own() -> None:
    """A user's list would be ignored, or tied to a language."""
    stage = Toxicity(lists=("my/list.txt",), max_count=0, max_share=0.0)
    assert stage.files() == {"file/0": "my/list.txt", "confusables": "builtin:confusables.txt"}
    process = stage.bind({"file/0": "\ufeffBad Word\r\n\r\n坏词\n".encode()} | CONFUSABLES)
    outcome = process(batch(["a bad  word", "这是坏词吗", "bad, words"], language=["en", None, "de"]))
    assert reasons(outcome) == [(0, "toxic_words"), (1, "toxic_words")]


def test_an_unknown_builtin_list_is_an_error_of_the_recipe() -> None:
    """A typing error would switch the filter off."""
    with pytest.raises(ValidationError, match="'builtin:fr'"):
        make(Toxicity, {"lists": ["builtin:frr"]})


def test_every_list_can_be_read_and_left_out_entries_exist() -> None:
    """A damaged list would be silently empty; an exception could be for a word that no list has."""
    ordinary = json.loads((DATA / "ldnoobw_ordinary.json").read_text("utf-8"))
    assert {file.name for file in (DATA / "ldnoobw").iterdir()} == set(LANGUAGES)
    for code in LANGUAGES:
        entries = (DATA / "ldnoobw" / code).read_text("utf-8").splitlines()
        assert {fold(entry) for entry in ordinary.get(code, ())} <= {fold(entry.strip()) for entry in entries}
        kept = WordLists([{*entries} - {*ordinary.get(code, ())}]).tables
        assert len(kept.groups) + len(kept.inside) > 0


@needs_shared
def test_clean_text_is_not_dropped_and_insults_are_found() -> None:
    """The filter would take ordinary documents, or be blind."""
    process = bound(Toxicity())
    with gzip.open(SHARED / "text" / "encyclopedia_12.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    clean = process(batch([row["text"] for row in rows], language=[row["lang"] for row in rows]))
    assert len(rows) > 2000
    assert len(clean.dropped) <= 2, clean.dropped
    data = (SHARED / "toxicity" / "surge-toxicity" / "toxicity_en.csv").read_text("utf-8")
    labelled = list(csv.DictReader(io.StringIO(data)))
    strict = bound(Toxicity(max_count=0, max_share=0.0))
    outcome = strict(batch([row["text"] for row in labelled], language=["en"] * len(labelled)))
    flagged = {row for row, *_ in outcome.dropped}
    toxic = {number for number, row in enumerate(labelled) if row["is_toxic"] == "Toxic"}
    assert len(flagged & toxic) / len(flagged) > 0.85
    assert len(flagged & toxic) / len(toxic) > 0.2


ENTRIES = ["bad", "very bad", "bad word here", "a", "坏词", "词", "나쁜", "カント", "ガ", "ไม่ดี", "é", "ﬁg", "🖕", "x y"]
TEXTS = st.lists(
    st.sampled_from(
        [
            *ENTRIES,
            " ",
            " ",
            ", ",
            "\n",
            "very",
            "BAD",
            "坏",
            "한나쁜",
            "フ",
            "ー",
            "\u0301",
            "e\u0301",
            "กี่",
            "Ｂａｄ",
            "…",
            "\u200d",
            "ﬁ",
            "g",
        ]
    ),
    max_size=25,
).map("".join)


@given(text=st.one_of(TEXTS, st.text(max_size=60)))
def test_matches_are_those_of_plain_python(text: str, lists: WordLists) -> None:
    """The kernel would find other words than the rule says, in some script that nobody looks at."""
    ((number, covered, total),) = lists.count(pa.array([text]), np.zeros(1, np.int64)).tolist()
    assert (number, min(covered * 1_000_000 // max(total, 1), 1_000_000)) == share(text, [WordList(ENTRIES)])


@pytest.fixture(scope="module")
def lists() -> WordLists:
    return WordLists([ENTRIES])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("sh1t", 1), ("$hit", 1), ("f**k", 1), ("f*ck!", 1), ("fu#k", 1), ("FUUUUCK", 1), ("ｓｈ１ｔ", 1),
        ("fuсk", 1),  # a Cyrillic letter
        ("f\u200buck", 1), ("f\u00aduck", 1), ("**fuck**", 1), ("fuck!!!", 1), ("@fuck", 1), ("fuck#", 1),
        ("a55", 0), ("455", 0), ("1337 5417", 0), ("C++ and C#", 0), ("*hit", 0), ("s***", 0), ("500 mg", 0),
        ("shift", 0), ("sh1pping f1rst", 0), ("Сука", 0), ("https://example.org/f1rst!", 0), ("so good!!!", 0),
    ],
)  # fmt: skip
def test_masked_spellings(text: str, number: int) -> None:
    """Whoever writes a star for a letter would pass the filter; or ordinary words with digits would not."""
    assert counted(f"this is {text} today", "en") == number
    assert counted(text, "en") == number
    assert counted(f"this is {text} today", "en", masked=False) == (number if "fuck" in text else 0)


def test_share_counts_words_of_a_phrase() -> None:
    """A phrase of many words would weigh as one."""
    found = WordLists([["son of a bitch", "bitch"]]).count(
        pa.array(["son of a bitch here now", ""]), np.zeros(2, np.int64)
    )
    assert found.tolist() == [[1, 4, 6], [0, 0, 0]]
