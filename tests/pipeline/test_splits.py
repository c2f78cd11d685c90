"""The validation split by registered domain."""

from __future__ import annotations

import socket

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.splits import held_out, registered_domain, split_hashes
from stages.hashing import keyed_all


def in_validation(urls: pa.Array | pa.ChunkedArray, names: list[bytes], seed: int, share: float) -> np.ndarray:
    """Whether each document is drawn, none being too large: there are many others."""
    hashes = split_hashes(urls, names, seed)
    others = np.append(hashes, keyed_all("probe", 1, (str(number).encode() for number in range(4000))))
    held = np.zeros(len(others), bool)
    held[held_out(others, np.ones(len(others), np.int64), {"validation": share}, seed)["validation"].rows] = True
    return held[: len(hashes)]


def ids(count: int) -> list[bytes]:
    return [bytes([number % 256, number // 256]) + bytes(14) for number in range(count)]


def test_pages_of_a_domain_fall_on_one_side() -> None:
    """Otherwise near-duplicate pages of a site sit in both splits, and validation loss flatters the model."""
    spellings = [
        "https://www.site{}.co.uk/a",
        "http://user:pw@SITE{}.co.uk:8080/b?q#f",
        "//x.y.site{}.co.uk.",
        " HTTP://site{}.co.uk?x=//z.com/",
    ]
    urls = pa.array([form.format(number) for number in range(300) for form in spellings])
    held = in_validation(urls, ids(len(urls)), 3, 0.3).reshape(300, 4)
    assert (held == held[:, :1]).all()
    assert 50 < held[:, 0].sum() < 130
    assert (held != in_validation(urls, ids(len(urls)), 4, 0.3).reshape(300, 4)).any(), "the seed matters"


def test_without_a_host_the_document_decides() -> None:
    """Otherwise all of a book collection, or all records of one scheme, would fall on one side."""
    urls = pa.array(([None, "urn:page:1", "file:///x/y", "", "README.md"] * 200), pa.string())
    held = in_validation(urls, ids(1000), 3, 0.5).reshape(200, 5)
    assert ((held.sum(0) > 60) & (held.sum(0) < 140)).all()
    assert (held.ravel() == in_validation(pa.nulls(1000, pa.string()), ids(1000), 3, 0.5)).all()


def test_all_or_nothing() -> None:
    """Otherwise `validation: 0` would still hold documents back."""
    urls = pa.array(["http://a.com/", None])
    assert in_validation(urls, ids(2), 1, 0.0).tolist() == [False, False]
    assert in_validation(urls, ids(2), 1, 1.0).tolist() == [True, True]
    assert in_validation(pa.array([], pa.string()), [], 1, 0.5).tolist() == []


def test_a_row_is_judged_alone() -> None:
    """The promise of reproducibility: neither batches nor slices change a document's side."""
    urls = pa.chunked_array([["http://a.com/", None], ["http://b.org/x", "http://www.a.com/z"]])
    whole = in_validation(urls, ids(4), 9, 0.5).tolist()
    assert whole == [bool(in_validation(urls.slice(n, 1), ids(4)[n : n + 1], 9, 0.5)[0]) for n in range(4)]
    assert whole == in_validation(pa.array(urls.to_pylist()), ids(4), 9, 0.5).tolist()


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.bbc.co.uk", "bbc.co.uk"),
        ("BBC.co.uk.", "bbc.co.uk"),
        ("ann.github.io", "ann.github.io"),
        ("a.ann.github.io", "ann.github.io"),
        ("github.io", "github.io"),
        ("www.bücher.de", "xn--bcher-kva.de"),
        ("xn--bcher-kva.de", "xn--bcher-kva.de"),
        ("食狮。公司。cn", "xn--85x722f.xn--55qx5d.cn"),
        ("192.168.0.1", "192.168.0.1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("localhost", "localhost"),
        ("wiki.host.internal", "host.internal"),
        ("", ""),
        ("..", ""),
    ],
)
def test_registered_domains(host: str, domain: str) -> None:
    """Otherwise two spellings of one site count as two, or the millions of sites of one blog host as one."""
    assert registered_domain(host) == domain


def test_no_network_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the split would depend on the day's suffix list, and a machine without network would hang."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    registered_domain.cache_clear()
    assert registered_domain("a.example.org") == "example.org"


@given(st.lists(st.one_of(st.none(), st.text(), st.text().map(lambda host: f"http://{host}/")), max_size=5))
def test_any_url_gives_a_side(urls: list[str | None]) -> None:
    """Otherwise one broken link in a crawl stops the run."""
    held = in_validation(pa.array(urls, pa.string()), ids(len(urls)), 1, 0.5)
    assert held.shape == (len(urls),)
    assert held.dtype == np.bool_


def many(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of so many domains of three documents each, and tokens of the documents."""
    urls = pa.array([f"https://d{number // 3}.example{number // 3}.org/{number}" for number in range(3 * count)])
    return split_hashes(urls, [bytes(16)] * (3 * count), seed), np.full(3 * count, 100)


def test_splits_are_disjoint_and_keep_domains_whole() -> None:
    """Otherwise a test set would share pages, or sites, with what the model was chosen on."""
    hashes, tokens = many(4000)
    found = held_out(hashes, tokens, {"validation": 0.05, "test": 0.1, "probe": 0.02}, 5)
    taken = np.concatenate([split.rows for split in found.values()])
    assert len(np.unique(taken)) == len(taken)
    for name, share in (("validation", 0.05), ("test", 0.095), ("probe", 0.017)):
        assert abs(len(found[name].rows) / len(hashes) - share) < share / 3
        side = np.zeros(len(hashes), bool)
        side[found[name].rows] = True
        assert (side.reshape(-1, 3) == side.reshape(-1, 3)[:, :1]).all()


def test_a_greater_share_of_one_split_leaves_the_others_be() -> None:
    """Otherwise more validation would put documents of the test set into training, or the other way round."""
    hashes, tokens = many(4000)
    before = held_out(hashes, tokens, {"validation": 0.02, "test": 0.1}, 5)
    after = held_out(hashes, tokens, {"validation": 0.06, "test": 0.1}, 5)
    assert set(before["validation"].rows) < set(after["validation"].rows)
    lost = set(before["test"].rows) - set(after["test"].rows)
    assert lost <= set(after["validation"].rows)
    assert set(after["test"].rows) <= set(before["test"].rows)
    assert len(lost) < 0.1 * len(before["test"].rows)
    alone = held_out(hashes, tokens, {"validation": 0.02}, 5)
    assert (alone["validation"].rows == before["validation"].rows).all()


def test_a_domain_that_would_be_most_of_a_split_stays_in_training() -> None:
    """Otherwise validation loss would be that of one site, which the drawing of one hash decides."""
    hashes, tokens = many(2000)
    before = held_out(hashes, tokens, {"validation": 0.1}, 5)["validation"]
    assert not len(before.left_out)
    (first, *_) = before.rows
    large = tokens.copy()
    large[hashes == hashes[first]] = 10_000  # 30,000 of 630,000 tokens, and a quarter of a tenth are 15,750
    after = held_out(hashes, large, {"validation": 0.1}, 5)["validation"]
    assert set(before.rows) - set(after.rows) == set(np.flatnonzero(hashes == hashes[first]))
    assert hashes[after.left_out].tolist() == [hashes[first]]
    assert after.left_out_tokens.tolist() == [30_000]
