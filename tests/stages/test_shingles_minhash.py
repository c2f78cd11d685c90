"""Keys and signatures of deduplication, against datasketch and exact Jaccard similarities."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared

from stages.minhash import MinHashSettings, estimate, hash32, signatures
from stages.shingles import canonical_url, exact_keys, shingles, sound

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


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


def test_shingles() -> None:
    """Near duplicates would not be seen in scripts without spaces, or short documents be immune."""
    assert shingles("The cat, the DOG sat.", 3) == [b"the cat the", b"cat the dog", b"the dog sat"]
    assert shingles("我爱北京", 3) == ["我 爱 北".encode(), "爱 北 京".encode()]
    assert shingles("two words", 5) == [b"two words"]
    assert shingles("Two   WORDS!", 5) == [b"two words"]
    assert shingles("?!", 5) == [b"?!"]
    assert shingles("", 5) == [b""]


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
        reference = MinHash(num_perm=permutations, hashfunc=hash32, scheme="affine32")
        if text is not None:
            for shingle in shingles(text, ngram):
                reference.update(shingle)
        assert (found.values[row] == reference.hashvalues).all()
        assert found.shingles[row] == (0 if text is None else len(set(map(hash32, shingles(text, ngram)))))


def test_long_texts_go_in_pieces() -> None:
    """Documents beyond one piece of the multiplication would lose shingles."""
    text = " ".join(f"w{number}" for number in range(9_000))
    reference = MinHash(num_perm=32, hashfunc=hash32, scheme="affine32")
    reference.update_batch(shingles(text, 5))
    found = signatures(pa.array([text, text + " end"]), MinHashSettings(permutations=32))
    assert (found.values[0] == reference.hashvalues).all()
    assert estimate(found.values[0], found.values[1]) > 0.9


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
