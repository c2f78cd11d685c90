"""Keys and signatures of deduplication, against datasketch and exact Jaccard similarities."""

from __future__ import annotations

import csv
import functools
import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared

from stages.keys import canonical_url, content_keys, exact_keys, sound, text_keys
from stages.minhash import MinHashSettings, estimate, signatures
from stages.shingles import common, shingle_hashes, shingle_sets
from stages.text.block_words import COMPOSING, MARKED, UNFIT, letters
from stages.text.joining import joins, marks
from stages.words import fold, words

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
_PIECES = (
    "a B 7 _ é ß İ ﬁ K 東 カ ー ｶ ก \u0e49 \u0301 \u200d \U0001d538 ½ Ⅷ . @[`{ abcdefgh ABCDEFGHI привет ٣ "
    "ก็ น้ำ ำ ຳ क़ क् ज़ न \u093c मुझे مُحَمَّد \u064b \u09c7 \u09be か \u3099 = \u0338 \u0327 \u0345 ᾳ J \u030c ¨ 각 \u11a8"
)
LONG = st.lists(st.sampled_from([*_PIECES.split(), " ", "\n", "\0"]), max_size=40).map("".join)
"""Words of more than eight bytes, and every way into and out of a run of ASCII."""
MARKED_TEXT = st.lists(
    st.sampled_from([*sorted(map(chr, frozenset.union(*marks()))), *"aeoiJÉơкαᾳアかकनযেกำعשㄱ각¨ͺ =\u0345"]), max_size=6
).map("".join)
"""Marks in any order, of which some are composed."""


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTP://WWW.Example.com:80/a/b/?utm_source=x&b=2&a=1#part", "https://example.com/a/b?a=1&b=2"),
        ("https://example.com/?gclid=1&fbclid=2&utm_Medium=3", "http://example.com"),
        ("https://user:pw@example.com:443/a", "http://example.com./a"),
        ("https://example.com/%7euser/%e4%bd%a0", "https://example.com/~user/你"),
        (" https://example.com/a ", "https://example.com/a/"),
        ("https://BÜCHER.example/", "https://bücher.example"),
    ],
)
def test_urls_of_one_page_are_one(url: str, same: str) -> None:
    """Copies of a page under tracking parameters would all be kept."""
    assert canonical_url(url) == canonical_url(same)
    assert canonical_url(canonical_url(url)) == canonical_url(url)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("https://example.com/a?p=1", "https://example.com/a?p=2"),
        ("https://example.com/A", "https://example.com/a"),
        ("https://example.com:8080/", "https://example.com/"),
        ("https://example.com/#!/a", "https://example.com/#!/b"),
        ("https://example.com/a%2Fb", "https://example.com/a/b"),
        ("https://example.com/a?x=1%26y=2", "https://example.com/a?x=1&y=2"),
        ("https://example.com/?q=a%2Bb", "https://example.com/?q=a+b"),
        ("ftp://example.com/a", "https://example.com/a"),
        ("https://a.example.com/", "https://example.com/"),
        ("https://[::1", "https://[::2"),
    ],
)
def test_urls_of_two_pages_are_two(url: str, other: str) -> None:
    """Pages would be lost as duplicates of others."""
    assert canonical_url(url) != canonical_url(other)


@given(st.one_of(TEXT, TEXT.map(lambda text: f"https://h.example/{text}")))
def test_any_string_has_a_canonical_form(url: str) -> None:
    """A broken URL of a crawl would end the run; a form that moves would part equal pages."""
    assert canonical_url(canonical_url(url)) == canonical_url(url)


def test_exact_keys() -> None:
    """Copies that differ in case, blanks or punctuation would stay; texts of punctuation alone would be one."""
    data = batch(
        ["Hello,  world!", "hello world", "你好，世界。", "你好世界", "!!!", "???", None, "ﬁne", "Fine"],
        url=["http://a.example/", "https://a.example", None, "", " ", "b", "c", "d", "e"],
    )
    keys = exact_keys(data, ["url", "text"])
    url, text = keys["url"].to_pylist(), keys["text"].to_pylist()
    assert keys["text"].type == pa.binary(16)
    assert url[0] == url[1]
    assert url[2:5] == [None] * 3
    assert text[0] == text[1]
    assert text[2] == text[3]
    assert text[4] != text[5]
    assert text[6] is None
    assert text[7] == text[8]
    assert exact_keys(data.slice(2, 3), ["text"])["text"].to_pylist() == text[2:5]
    with pytest.raises(ValueError, match="url, text"):
        exact_keys(data, ["title"])


@given(TEXT)
def test_sound_is_stable(text: str) -> None:
    """Equality of texts must not depend on how often they were folded; nothing audible may go."""
    assert sound(sound(text)) == sound(text)


@settings(max_examples=300)
@given(
    st.one_of(TEXT, LONG, st.lists(st.sampled_from("aßﬁ½ﷺ…①Ⅷe\u0301é가가 ,。\u200b2⁵ǅ\u0345"), max_size=8).map("".join))
)
def test_text_keys_equal_plain_python(text: str) -> None:
    """Copies would stay, or different documents go, by the luck of a kernel."""
    expected = digest((sound(text) or text).encode())
    assert text_keys(pa.array([None, text, "x"])).slice(1).to_pylist()[0] == expected
    assert text_keys(pa.array(["x", text, "the end is far enough"]).slice(1, 1)).to_pylist() == [expected]


@given(st.lists(st.tuples(*[st.one_of(st.none(), TEXT)] * 3), max_size=3))
def test_content_keys_equal_plain_python(rows: list[tuple[str | None, str | None, str | None]]) -> None:
    """Which of two records of one id stays would hang on the order of the files."""
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("title", "language", "text"))}
    expected = [digest(*((value or "").encode() for value in row)) for row in rows]
    found = content_keys(pa.RecordBatch.from_pydict({name: pa.array(v, pa.string()) for name, v in columns.items()}))
    assert found.to_pylist() == expected
    assert found.type == pa.binary(16)


def digest(*parts: bytes) -> bytes:
    """128 bits: two chained hashes over blocks of eight bytes and the length of each part."""
    first, second = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
    for part in parts:
        blocks = [stirred(int.from_bytes(part[place : place + 8], "little")) for place in range(0, len(part), 8)]
        for value in (*blocks, len(part)):
            first, second = step(first, value), step_2(second, value)
    return first.to_bytes(8, "little") + second.to_bytes(8, "little")


_ALL = (1 << 64) - 1


def step_2(state: int, value: int) -> int:
    """`stages.lookup.step_2` in Python's numbers."""
    state = (state + value + 1) * 0xA0761D6478BD642F & _ALL
    return state ^ state >> 29


def step(state: int, value: int) -> int:
    """`stages.lookup.step_1` in Python's numbers."""
    state = (state ^ value) * 0xD6E8FEB86659FD93 & _ALL
    return state ^ state >> 32


def stirred(eight: int) -> int:
    """`stages.text.eight.stirred` in Python's numbers."""
    eight = (eight ^ eight >> 32) * 0x9FB21C651E98DF25 & _ALL
    return eight ^ eight >> 29


def reference(text: str, ngram: int) -> list[int]:
    """`shingle_hashes`, from the words that `stages.words` finds."""
    seed = 0x9E3779B97F4A7C15
    found = []
    for word in words(fold(text)):
        data = word.replace("\u200c", "").replace("\u200d", "").encode()
        blocks = [int.from_bytes(data[place : place + 8], "little") for place in range(0, len(data), 8)]
        found.append(functools.reduce(step, map(stirred, blocks), seed))
    raw = functools.reduce(step, (text if found else fold_where_needed(text)).encode(), seed)
    if len(found) < ngram:
        return [step(step(seed, rolled(found) if found else raw), len(found))]
    sums = [rolled(found[start : start + ngram]) for start in range(len(found) - ngram + 1)]
    return [step(step(seed, total), ngram) for total in sums]


def rolled(values: list[int]) -> int:
    """The sum that rolls over words."""
    return functools.reduce(lambda total, value: (total * 0x9FB21C651E98DF25 + value) & _ALL, values, 0)


def fold_where_needed(text: str) -> str:
    """What is hashed of a text without words: itself, folded where its letters matter to one another."""
    table = letters()
    before = 0
    for code in map(ord, text):
        kind = table.kinds[code]
        composing = bool(kind & COMPOSING)
        if kind & UNFIT or (kind & MARKED and not joins(code, before, composing, table.orders, table.pairs)):
            return fold(text)
        before = code
    return text


def test_shingles() -> None:
    """Near duplicates would not be seen in scripts without spaces, or short documents be immune."""
    for one, other, ngram in (
        ("The cat, the DOG sat.", "the cat -- the dog SAT", 3),
        ("我爱北京", "我 爱，北京。", 3),
        ("two words", "Two   WORDS!", 5),
        ("ｆｕｌｌ width", "Full Width", 2),
        ("cafe\u0301 noir", "Café noir", 5),
    ):
        assert shingle_hashes(one, ngram).tolist() == shingle_hashes(other, ngram).tolist()
    assert len(shingle_hashes("我爱北京", 3)) == 2
    assert len(shingle_hashes("the cat the dog sat", 3)) == 3
    different = ["two words", "words two", "twowords", "two", "two two", "?!", "!?", "", "two words three"]
    assert len({tuple(shingle_hashes(text, 5).tolist()) for text in different}) == len(different)


@settings(max_examples=400)
@given(st.one_of(TEXT, LONG, MARKED_TEXT), st.sampled_from([1, 2, 5]))
def test_shingles_equal_plain_python(text: str, ngram: int) -> None:
    """Documents would be compared by other words than statistics and word lists have."""
    assert shingle_hashes(text, ngram).tolist() == reference(text, ngram)
    column = pa.array(["x", text, "the end is far enough"]).slice(1, 1)  # so that the text is not the buffer's end
    assert shingle_sets(column, ngram)[1].tolist() == sorted(set(reference(text, ngram)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXT), max_size=4), st.sampled_from([1, 16, 128]), st.sampled_from([1, 3, 5]))
def test_signatures_equal_datasketch(values: list[str | None], permutations: int, ngram: int) -> None:
    """Similarities would mean something else than in the library that users know."""
    found = signatures(
        pa.array(["skip", *values], pa.string()).slice(1), MinHashSettings(permutations=permutations, ngram=ngram)
    )
    assert found.values.shape == (len(values), permutations)
    assert found.values.dtype == np.uint32
    for row, text in enumerate(values):
        sketch = MinHash(num_perm=permutations, hashfunc=int, scheme="affine32")
        hashes = [] if text is None else (shingle_hashes(text, ngram) >> np.uint64(32)).tolist()
        for value in hashes:
            sketch.update(value)
        assert (found.values[row] == sketch.hashvalues).all()
        assert found.shingles[row] == len(hashes)


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), TEXT, st.lists(st.sampled_from("ab ,x\u0301东\n"), max_size=300).map("".join))),
    st.sampled_from([1, 2, 5]),
)
def test_sets_of_shingles_equal_plain_python(values: list[str | None], ngram: int) -> None:
    """Pairs would be verified by other shingles than they were found by."""
    offsets, found = shingle_sets(pa.array(["skip", *values], pa.string()).slice(1), ngram)
    expected = [[] if text is None else sorted(set(reference(text, ngram))) for text in values]
    assert [found[offsets[row] : offsets[row + 1]].tolist() for row in range(len(values))] == expected
    assert offsets[0] == 0
    assert offsets[-1] == len(found)
    rows = np.arange(len(values) - 1)
    assert common(offsets, found, rows, rows + 1).tolist() == [
        len(set(expected[row]) & set(expected[row + 1])) for row in range(len(values) - 1)
    ]


def test_sets_of_long_and_odd_texts() -> None:
    """A text that repeats one word, or a list of shingles in one bucket, would end the run or take its time squared."""
    words = [f"w{number}" for number in range(50_000)]
    column = pa.array(["a " * 1_000_000, " ".join(words), " ".join(words[::-1]), "", "\0", "?!"])
    offsets, values = shingle_sets(column, 1)
    assert np.diff(offsets).tolist() == [1, 50_000, 50_000, 1, 1, 1]
    assert common(offsets, values, np.array([0, 1]), np.array([1, 2])).tolist() == [0, 50_000]
    assert len(set(values[offsets[3] :].tolist())) == 3
    with pytest.raises(ValueError, match="ngram"):
        shingle_sets(column, 0)


@needs_shared
def test_estimates_are_near_exact_similarities() -> None:
    """Duplicates above the threshold would be missed, or documents below it dropped."""
    folder = SHARED / "dedup" / "revision_pairs"
    with gzip.open(folder / "docs.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = {row["id"]: row["text"] for row in map(json.loads, lines)}
    with (folder / "pairs.tsv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t"))[::25]
    ids = sorted({pair[side] for pair in pairs for side in ("id_a", "id_b")})
    row = {id: number for number, id in enumerate(ids)}
    values = signatures(pa.array([documents[id] for id in ids]), MinHashSettings()).values
    left, right = (values[[row[pair[side]] for pair in pairs]] for side in ("id_a", "id_b"))
    errors = estimate(left, right) - np.array([float(pair["jaccard_5gram"]) for pair in pairs])
    assert abs(errors.mean()) < 0.01
    assert np.abs(errors).max() < 5 * 0.5 / np.sqrt(128)
