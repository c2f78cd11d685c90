"""Substrings that recur across documents, against a dictionary of all stretches."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stage_helpers import SHARED, needs_shared
from substrings_reference import cut_words, folded_words

from stages.substrings.cut import Cuts
from stages.substrings.groups import Sharing
from stages.substrings.located import Words, located, pieces
from stages.substrings.repeated import repeated
from stages.text.characters import CODES, folds_alone
from stages.text.column import Edits, edited

ODD = "aßﬁ½…①Ⅷe\u0301é가각\u1100\u1161 ,。\u200b\u200d2⁵ǅ\u0345ำก่\u0e4d\u0e32กंक़\u093c中文\n²。 ㈀\u0338\u00a8"
TEXT = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from(ODD), max_size=16),
    st.lists(st.sampled_from(["word", "ﬁ", "ก่า", " ", "中", "½ ", "\n"]), max_size=12).map("".join),
)
_ALL = (1 << 64) - 1


def hashed(word: str) -> tuple[int, int]:
    """The two hashes of a folded word."""
    first, second = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
    for code in map(ord, word):
        first = (first ^ code) * 0xD6E8FEB86659FD93 & _ALL
        first ^= first >> 32
        second = (second + code + 1) * 0xA0761D6478BD642F & _ALL
        second ^= second >> 29
    return first, second


def of_text(found: Words, row: int) -> list[tuple[int, int, int, int]]:
    """(first, second, start, end) of the words of a text."""
    span = slice(int(found.begins[row]), int(found.begins[row] + found.counts[row]))
    return list(zip(*(part[span].tolist() for part in found[:4]), strict=True))


@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["½ cup", "a\u0302\u0323b", "\u0301", " ﬁn", "a" + "\u0301\u0323" * 20 + "b"])
def test_words_stand_where_they_are_found(texts: list[str]) -> None:
    """A cut at another byte would take half a character or a neighbour's letters; another word would cut wrongly."""
    found = located(pa.array([None, *texts, "x"]).slice(1))
    assert of_text(found, len(texts)) == [(*hashed("x"), 0, 1)]
    for row, text in enumerate(texts):
        raw = text.encode()
        here = of_text(found, row)
        assert [(first, second) for first, second, _, _ in here] == [hashed(word) for word in folded_words(text)]
        for (_, _, start, end), (_, _, after, after_end) in itertools.pairwise([(0, 0, 0, 0), *here]):
            assert start <= after < after_end
            assert end <= after or end <= after_end  # the first one ends inside of a character (½)
        for word, (_, _, start, end) in zip(folded_words(text), here, strict=True):
            assert word in folded_words(raw[start:end].decode())


@given(st.lists(TEXT, max_size=8), st.integers(1, 60))
def test_pieces_are_the_column(texts: list[str], size: int) -> None:
    """A row left out or given twice by a slice would shift every edit behind it."""
    column = pa.array(["before", *texts], pa.string()).slice(1)
    parts = list(pieces(column, size))
    assert [text for _, part in parts for text in part.to_pylist()] == texts
    assert [start for start, _ in parts] == [0, *itertools.accumulate(len(part) for _, part in parts)][:-1]
    assert all(len(part) for _, part in parts)


def words_cut(texts: list[str], cuts: Cuts) -> list[set[int]]:
    """The numbers of the words inside of the spans, which hold as many as they say."""
    found = located(pa.array(texts, pa.string()))
    gone: list[set[int]] = [set() for _ in texts]
    for row, start, end, number, characters in zip(*(part.tolist() for part in cuts), strict=True):
        here = of_text(found, row)
        inside = {place for place, (_, _, begin, stop) in enumerate(here) if start <= begin and stop <= end}
        assert len(inside) == number
        assert len(texts[row].encode()[start:end].decode()) == characters  # whole characters
        assert not any(
            begin < end and stop > start for place, (*_, begin, stop) in enumerate(here) if place not in inside
        )
        gone[row] |= inside
    return gone


@st.composite
def documents(draw: st.DrawFn) -> list[list[str]]:
    """Documents of few distinct words, some with a stretch in common, some of one word."""
    letters = draw(st.sampled_from(["a", "ab", "abc", "aé中ก"]))
    found = draw(st.lists(st.lists(st.sampled_from(letters), max_size=24), min_size=1, max_size=6))
    planted = draw(st.lists(st.sampled_from("wxyz"), max_size=12))
    for document in found:
        if draw(st.booleans()):
            place = draw(st.integers(0, len(document)))
            document[place:place] = planted[draw(st.integers(0, 3)) :]
    return found


@given(documents(), st.integers(1, 9), st.integers(1, 3), st.sampled_from([None, 0, 1]))
@example([["a"] * 24], 4, 1, None)
@example([["a"] * 24, ["a"] * 24, ["b", *"a" * 9]], 4, 2, None)
def test_cuts_equal_plain_python(texts: list[list[str]], tokens: int, least: int, beyond: int | None) -> None:
    """Repeated stretches would stay because their earliest copy stands among other words, or single ones would go."""
    most = None if beyond is None else least + beyond
    column = [" ".join(words) for words in texts]
    cuts = repeated(pa.array(column, pa.string()), Sharing(tokens=tokens, least=least, most=most))
    assert words_cut(column, cuts) == cut_words(texts, tokens, least, most)


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two words have a character in common, as those of ½."""
    return one[0] < other[1] and other[0] < one[1]


@given(st.lists(TEXT.map(lambda text: text * 2), min_size=1, max_size=5), st.integers(1, 4))
def test_cuts_of_any_text_equal_plain_python(texts: list[str], tokens: int) -> None:
    """Text of some script would lose letters that stand nowhere else, or a crawl would end the run."""
    texts = [*texts, texts[0]]
    cuts = repeated(pa.array(texts, pa.string()), Sharing(tokens=tokens))
    gone, expected = words_cut(texts, cuts), cut_words([folded_words(text) for text in texts], tokens)
    found = located(pa.array(texts, pa.string()))
    for row in range(len(texts)):
        places = [(start, end) for *_, start, end in of_text(found, row)]
        cut = expected[row]
        while shares := {n for n in cut if any(o not in cut and overlap(places[n], p) for o, p in enumerate(places))}:
            cut = cut - shares
        assert gone[row] == cut


@given(documents(), st.integers(2, 6))
def test_every_cut_word_still_stands_somewhere(texts: list[list[str]], tokens: int) -> None:
    """A stretch whose copies name each other would be lost with all of them."""
    column = [" ".join(words) for words in texts]
    gone = words_cut(column, repeated(pa.array(column, pa.string()), Sharing(tokens=tokens, least=1)))
    earliest: dict[tuple[str, ...], tuple[int, int]] = {}
    for number, words in enumerate(texts):
        for start in range(len(words) - tokens + 1):
            earliest.setdefault(tuple(words[start : start + tokens]), (number, start))
    for number, words in enumerate(gone):
        for word in words:
            row, place = number, word
            while place in gone[row]:  # by way of a stretch around it that is cut, to its earliest occurrence
                starts = range(max(0, place - tokens + 1), min(place, len(texts[row]) - tokens) + 1)
                moves = [
                    (earliest[tuple(texts[row][start : start + tokens])], place - start)
                    for start in starts
                    if set(range(start, start + tokens)) <= gone[row]
                ]
                before = [((to, at + offset), at) for (to, at), offset in moves if (to, at + offset) < (row, place)]
                assert before
                (row, place), _ = min(before)
            assert texts[row][place] == texts[number][word]


def cut_text(texts: list[str], tokens: int = 3) -> list[str]:
    """The texts without what is cut."""
    column = pa.array(texts, pa.string())
    cuts = repeated(column, Sharing(tokens=tokens))
    edits = Edits(cuts.rows, cuts.starts, cuts.ends, np.zeros(len(cuts.rows), np.int64))
    left: list[str] = edited(column, edits).to_pylist()
    return left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x one two, THREE y", "x y"),
        ("x. One two three. Y", "x. . Y"),  # stops are not told apart from what surrounds them
        ("x\n\none two three.\n\ny", "x\n\ny"),
        ("x\n\n(one two three)\ny", "x\n\ny"),
        ("x\r\n- one two\r\nthree!\r\ny", "x\r\ny"),
        ("x\n---\n- one two three", "x\n---"),
        ("one two three y", "y"),
        ("x one two three", "x"),
        ("one two three", ""),
        ("«one two three»", ""),
        ("x one two three four five y", "x four five y"),
        ("x\u3000one two three\u3000y", "x\u3000y"),
        ("x\none two three y", "x\ny"),
        ("x one two three\ny", "x\ny"),
        ("½ one two three ½", "½ ½"),
        ("x\none two three\n    y", "x\n    y"),
        ("x\n    one two three y", "x\n    y"),
        ("x \n\none two three\n\n  \n  y", "x \n\n  \n  y"),
    ],
)
def test_what_goes_with_a_cut(text: str, left: str) -> None:
    """Cuts would leave double blanks and lines of stops behind, or take line breaks and neighbours' stops along."""
    assert cut_text(["one two three", text]) == ["one two three", left]


def test_languages_without_blanks() -> None:
    """Chinese, Japanese and Thai would never repeat, as one word each."""
    chinese, thai = "我们都在学习新的语言", "ภาษาไทยน่าเรียน"
    assert cut_text([chinese + "。", f"第一。{chinese}。第二", thai, f"ก {thai} ข"], 8) == [
        chinese + "。", "第一。。第二", thai, "ก ข",
    ]  # fmt: skip


def test_a_text_of_one_word_costs_linear_time() -> None:
    """A page of one repeated word, or a notice on every page, would take the square of its length."""
    long = "na " * 100_000
    cuts = repeated(pa.array([long, long, "x"]), Sharing())
    assert cuts.rows.tolist() == [0, 1]  # one stretch stays
    assert cuts.words.tolist() == [100_000 - 50, 100_000]
    cuts = repeated(pa.array([long]), Sharing(least=1))
    assert (cuts.rows.tolist(), cuts.words.tolist()) == ([0], [100_000 - 50])
    notice = " ".join(f"word{number}" for number in range(60))
    cuts = repeated(pa.array([f"{number} {notice} end{number}" for number in range(5_000)]), Sharing())
    assert cuts.rows.tolist() == list(range(1, 5_000))
    assert set(cuts.words.tolist()) == {60}


def test_bounds_on_documents() -> None:
    """A licence that every file holds would be cut though the recipe says that it stays."""
    notice = " ".join(f"w{number}" for number in range(50))
    texts = pa.array([f"{number} {notice}" for number in range(4)] + ["other words"])
    for least, most, rows in ((2, None, [1, 2, 3]), (4, None, [1, 2, 3]), (5, None, []), (2, 3, []), (2, 4, [1, 2, 3])):
        assert repeated(texts, Sharing(least=least, most=most)).rows.tolist() == rows
    with pytest.raises(ValueError, match="at least"):
        Sharing(least=3, most=2)


def real_texts() -> list[str]:
    """Texts of several languages."""
    found = []
    for name in ("docs_en", "docs_zh", "docs_ja", "docs_es", "encyclopedia_12", "code_python"):
        with gzip.open(SHARED / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in itertools.islice(file, 60)]
        found += [text for text in texts if 200 < len(text) < 6_000][:26]
    return found


@needs_shared
def test_planted_stretches() -> None:
    """Recall is what the option is for; a character too many is somebody's text."""
    texts = real_texts()
    while (left := cut_text(texts, 50)) != texts:  # what they repeat already, and what its cuts leave
        texts = left
    draw = random.Random(5)
    hosts, donors = texts[::2], texts[1::2]
    planted = list(hosts)
    for number, donor in enumerate(donors):
        places = of_text(located(pa.array([donor])), 0)
        if len(places) < 60:
            continue
        first = draw.randrange(len(places) - 50)
        span = donor.encode()[places[first][2] : places[first + 49][3]].decode()
        words = folded_words(donor)
        beside = {*words[max(first - 1, 0) : first], *words[first + 50 : first + 51]}
        for step in range(3):
            row = (number + 7 * step) % len(hosts)
            blanks = [match.start() + 1 for match in re.finditer(r"\w[ \n]\w", hosts[row])]
            if planted[row] != hosts[row] or not blanks:
                continue
            place = draw.choice(blanks)
            around = {*folded_words(hosts[row][:place])[-1:], *folded_words(hosts[row][place:])[:1]}
            if beside & around:
                continue  # the stretch would be one word longer
            beside |= around
            blank = hosts[row][place]
            planted[row] = hosts[row][:place] + blank + span + blank + hosts[row][place + 1 :]
    column = pa.array([*donors, *planted])
    assert sum(a != b for a, b in zip(planted, hosts, strict=True)) > 60
    assert cut_text(column.to_pylist(), 50) == [*donors, *hosts]


def test_room_for_folded_texts() -> None:
    """A text of letters that grow when they are folded would be written beyond the end of its memory."""
    widths = [1 + (np.array(codes) >= 0x80) + (np.array(codes) >= 0x800) + (np.array(codes) >= 0x10000)
              for codes in (np.arange(CODES), folds_alone())]  # fmt: skip
    assert (2 * widths[1] <= 3 * widths[0]).all()
    text = "\u023a" * 1000 + "\u0301" + "ﬁ" * 1000 + "\ufdfa" * 100
    assert len(folded_words(text)) == len(located(pa.array([text])).first)
