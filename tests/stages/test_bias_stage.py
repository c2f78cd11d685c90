"""Identity terms, stereotypes, and counterfactual swaps."""

from __future__ import annotations

import csv
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import DATA, SHARED, batch, bound, needs_shared, reasons, texts

from stages.base import Outcome
from stages.bias import Bias
from stages.bias.terms import GROUPS, match, read
from stages.words import fold, words

LISTS = [("builtin", (DATA / "identity_terms.json").read_bytes())]
TAG, SWAP = bound(Bias()), bound(Bias(mode="swap", swap_share=1.0))


def tagged(*values: str | None, language: str | None = "en") -> Outcome:
    return TAG(batch(list(values), language=[language] * len(values)))


def terms(text: str, language: str = "en") -> dict[str, int]:
    """The groups that the text has terms of."""
    (found,) = tagged(text, language=language).batch.column("identity_terms").to_pylist()
    return {group: number for group, number in found.items() if number}


def swapped(text: str, language: str = "en") -> str:
    (found,) = texts(SWAP(batch([text], language=[language])))
    return found


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "She told the Jew, HER man, of an African-American boy.", {"gender": 4, "religion": 1, "race": 1}),
        ("en", "The black box stood in the White House; black paint was dry. There, others, the.", {}),
        ("en", "Old people and native Americans", {"age": 1, "race": 1}),
        ("zh", "其他人说她是残疾人，他的母亲是犹太人。吉他。", {"gender": 3, "disability": 1, "religion": 1}),
        ("de", "Die Frau und ihr Onkel sind Türken; es sind ALTE Menschen.", {"gender": 2, "nationality": 1, "age": 1}),
        ("fr", "L'homme et la grand-mère sont catholiques.", {"gender": 2, "religion": 1}),
        ("es", "Él es un anciano; el niño está sordo.", {"gender": 2, "age": 1, "disability": 1}),
        ("en-GB", "lesbian", {"orientation": 1}),
    ],
)  # fmt: skip
def test_terms_are_counted_by_group(language: str, text: str, wanted: dict[str, int]) -> None:
    """A corpus's balance would be seen wrong, and mixed wrong."""
    assert terms(text, language) == wanted


def test_counts_by_subgroup_and_documents_without_a_list() -> None:
    """The report could not say whom a corpus speaks of, or how much of it was never looked at."""
    outcome = tagged("He and she and her mother", "nobody", None, language="en")
    assert outcome.counts == {"gender_female": 3, "gender_male": 1}
    assert reasons(outcome) == [(2, "no_text")]
    assert tagged("Hun er her", "he", language="da").counts == {"documents_without_list": 2}
    assert tagged("he", language=None).counts == {"documents_without_list": 1}
    assert bound(Bias(fallback_language="en"))(batch(["he"])).counts == {"gender_male": 1}


def test_stereotypes_stand_near_their_group() -> None:
    """Every page with a common adjective would count as a slur, or none."""
    near = "People say that Mexicans are lazy."
    far = "Mexicans came. " + "The river rose in the night and the meadows lay under water. " * 2 + "The cat was lazy."
    outcome = tagged(
        near, far, "Women are good at maths", "lazy", "Old people are slow and forgetful.", "女司机是马路杀手"
    )
    assert outcome.batch.column("stereotypes").to_pylist() == [1, 0, 0, 0, 2, 0]
    assert tagged("女司机是马路杀手", language="zh").batch.column("stereotypes").to_pylist() == [1]
    dropped = bound(Bias(mode="drop", max_stereotypes=1))(
        batch([near, "Old people are slow and forgetful."], language=["en"] * 2)
    )
    assert list(dropped.dropped) == [(1, "stereotypes", 2.0, 1.0)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("He gave her his book, HIS book; it was his.", "She gave him her book, HER book; it was hers."),
        ("She saw her and took her car to Mr. Smith’s sons", "He saw him and took his car to Ms. Smith’s daughters"),
        ("Nobody is here: the theme of others", "Nobody is here: the theme of others"),
        ("Woman", "Man"),
    ],
)
def test_gendered_terms_are_swapped(before: str, after: str) -> None:
    """The counterfactual text would be no English."""
    assert swapped(before) == after


def test_swaps_in_chinese_and_none_where_other_words_would_have_to_agree() -> None:
    """Text in languages with grammatical gender would be broken."""
    assert swapped("他的父亲和其他女人", "zh") == "她的母亲和其他男人"
    assert swapped("Er und sie, der Vater.", "de") == "Er und sie, der Vater."


def test_the_choice_of_documents_is_keyed_by_their_id() -> None:
    """Runs would differ, or all documents be swapped, so that the balance is only turned around."""
    data = batch(["He is a king."] * 400, language=["en"] * 400)
    outcome = bound(Bias(mode="swap"))(data)
    done = outcome.batch.column("swapped").to_pylist()
    assert [text == "She is a queen." for text in texts(outcome)] == done
    assert 150 < sum(done) < 250
    assert outcome.counts["swapped_documents"] == sum(done) == outcome.counts["swapped_terms"] // 2
    assert outcome.counts["gender_female"] == 2 * sum(done)
    again = bound(Bias(mode="swap"))(data.slice(100, 50))
    assert again.batch.equals(outcome.batch.slice(100, 50))
    other = bound(Bias(mode="swap", seed=1))(data)
    assert other.batch.column("swapped").to_pylist() != done
    untouched = batch(["The theme"], language=["en"])
    assert SWAP(untouched).batch.column("text").buffers()[2].address == untouched.column("text").buffers()[2].address


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[1]", "no list of identity terms"),
        ('{"en": {"terms": {"sex.f": ["she"]}}}', "no such group: 'sex.f'"),
        ('{"en": {"term": {}}}', "no such kind: 'term'"),
        ('{"en": {"terms": {"gender.female": ["!"]}}}', "has no word"),
        ('{"en": {"swap": [["a"]]}}', "no list of identity terms"),
        ("{", "no list of identity terms"),
    ],
)
def test_lists_in_the_wrong_form_stop_before_work(data: str, message: str) -> None:
    """A list would silently count nothing."""
    with pytest.raises(ValueError, match=message):
        Bias(lists=("mine",)).bind({"lists/0": data.encode()})


def test_a_list_of_ones_own() -> None:
    """Nobody could look at another language or group."""
    data = json.dumps({"da": {"terms": {"gender.female": ["hun"]}, "stereotypes": {}, "not": ["hun hund"]}})
    stage = Bias(lists=("mine",)).bind({"lists/0": data.encode()})
    assert stage(batch(["Hun er HUN. Hun hund"], language=["da"])).counts == {"gender_female": 2}


PHRASES = ["ab", "b", "b ab", "a b a", "中", "中a", "é", "é ab", "c_d"]
PIECES = st.sampled_from(["ab", "b", "a", " ", " ", "-", "中", "é", "e\u0301", "c_d", "AB", "ﬁ", "\u200d", "B"])


@given(st.lists(st.lists(PIECES, max_size=14).map("".join), max_size=4))
def test_the_kernel_finds_what_plain_python_finds(values: list[str]) -> None:
    """Phrases would be missed, or counted twice where they overlap."""
    data = json.dumps({"en": {"terms": {"gender.any": PHRASES}}})
    lists = read([("x", data.encode())])
    column = batch(list(values)).column("text")
    hits = match(column, np.zeros(len(values), np.int64), lists)
    found = Counter(zip(hits.rows.tolist(), hits.words.tolist(), strict=True))
    listed = {tuple(words(fold(phrase))) for phrase in PHRASES}
    for row, value in enumerate(values):
        tokens = [word.replace("\u200d", "") for word in words(fold(value))]
        wanted: list[tuple[int, int]] = []
        for end in range(1, len(tokens) + 1):
            for start in range(max(end - 3, 0), end):
                if tuple(tokens[start:end]) in listed:
                    while wanted and wanted[-1][0] >= start:
                        wanted.pop()
                    if not wanted or wanted[-1][1] <= start:
                        wanted.append((start, end))
                    break
        assert sorted(word for (line, word) in found.elements() if line == row) == [start for start, _ in wanted]


@needs_shared
def test_winogender_sentences_become_their_counterparts() -> None:
    """Winogender (Rudinger et al. 2018): pronouns of each kind, in 240 sentences; a wrong one is broken English."""
    with (SHARED / "bias" / "winogender" / "all_sentences.tsv").open() as file:
        rows = {row["sentid"]: row["sentence"] for row in csv.DictReader(file, delimiter="\t")}
    pairs = [(text, rows[name.replace(".male.", ".female.")]) for name, text in rows.items() if ".male." in name]
    for side in (0, 1):
        given = [pair[side] for pair in pairs]
        made = texts(SWAP(batch(list(given), language=["en"] * len(given))))
        right = sum(one == pair[1 - side] for one, pair in zip(made, pairs, strict=True))
        assert right >= 0.99 * len(pairs), [
            pair for one, pair in zip(made, pairs, strict=True) if one != pair[1 - side]
        ]


@needs_shared
def test_crows_pairs_are_seen() -> None:
    """CrowS-Pairs (Nangia et al. 2020): sentences on nine groups, of which most name a term; and more
    stereotypes in the stereotyping half than in its antistereotypes."""
    kinds = {
        "race-color": "race",
        "sexual-orientation": "orientation",
        "socioeconomic": "class",
        "physical-appearance": "appearance",
    }
    with (SHARED / "bias" / "crows_pairs_anonymized.csv").open() as file:
        rows = list(csv.DictReader(file))
    more = tagged(*(row["sent_more"] for row in rows)).batch
    less = tagged(*(row["sent_less"] for row in rows)).batch
    seen, there = Counter[str](), Counter[str]()
    for row, a, b in zip(
        rows, more.column("identity_terms").to_pylist(), less.column("identity_terms").to_pylist(), strict=True
    ):
        group = kinds.get(row["bias_type"], row["bias_type"])
        there[group] += 1
        seen[group] += a[group] + b[group] > 0
    assert set(there) == set(GROUPS)
    assert sum(seen.values()) >= 0.7 * len(rows), {group: round(seen[group] / there[group], 2) for group in there}
    stereotyping = [more if row["stereo_antistereo"] == "stereo" else less for row in rows]
    other = [less if row["stereo_antistereo"] == "stereo" else more for row in rows]
    first = sum(part.column("stereotypes")[row].as_py() for row, part in enumerate(stereotyping))
    second = sum(part.column("stereotypes")[row].as_py() for row, part in enumerate(other))
    assert first > 1.3 * second > 0
