"""Bands, buckets and verified edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from datasketch import MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import components
from pipeline.lsh import band_candidates, bands_and_rows, edges_of_band


def test_bands_are_datasketchs() -> None:
    """Otherwise recall would differ from the tool whose semantics the recipe names."""
    for threshold, permutations in ((0.8, 128), (0.5, 64), (0.95, 100), (0.31, 33), (0.7, 16), (0.62, 256)):
        peer = MinHashLSH(threshold=threshold, num_perm=permutations)
        assert bands_and_rows(threshold, permutations) == (peer.b, peer.r)


def partition(labels: np.ndarray) -> list[int]:
    """The least row of each row's component."""
    return [int(np.flatnonzero(labels == label)[0]) for label in labels]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 4), st.integers(2, 6), st.integers(0, 10_000))
def test_a_bucket_connects_what_all_its_pairs_would_connect(count: int, buckets: int, least: int, seed: int) -> None:
    """Otherwise a true pair is lost because the bucket's first document resembles neither of the two."""
    generator = np.random.default_rng(seed)
    signatures = generator.integers(0, 2, (count, 7)).astype(np.uint32)
    keys = generator.integers(0, buckets, count).astype(np.uint64)
    rank = generator.permutation(count)
    found = band_candidates(keys, signatures, least, rank, np.arange(count))
    equal = (signatures[:, None] == signatures[None]).sum(2)
    left, right = np.nonzero((equal >= least) & (keys[:, None] == keys[None]))
    expected = partition(components(count, left, right))
    assert partition(components(count, found.left, found.right)) == expected
    assert (equal[found.left, found.right] == found.equal).all()
    assert (found.equal >= least).all()
    assert len(found.left) == count - len(set(expected)), "no edge more than a spanning tree needs"


def test_a_bucket_of_copies_costs_one_comparison_each() -> None:
    """Fault 8 of peers: a bucket of 100,000 copies joined with itself makes 5·10⁹ pairs."""
    copies = np.full((100_000, 4), 7, np.uint32)
    found = edges_of_band(copies, 0, 2, 4, np.arange(100_000)[::-1])
    assert (found.largest, found.comparisons, found.rounds) == (100_000, 99_999, 0)
    assert set(found.left.tolist()) == {99_999}, "all are joined to the least by rank"


def test_similar_documents_that_differ_each_cost_one_round() -> None:
    """Otherwise a template page with a changing date would cost the square of its number."""
    signatures = np.full((2_000, 16), 7, np.uint32)
    signatures[:, 15] = np.arange(2_000)
    found = edges_of_band(signatures, 0, 2, 12, np.arange(2_000))
    assert (found.rounds, found.comparisons, len(found.left)) == (1, 1_999, 1_999)


def test_a_bucket_of_strangers_is_bounded_and_counted() -> None:
    """Otherwise one boilerplate band could hold up a run for days, or its pairs vanish without a figure."""
    strangers = np.arange(300 * 8, dtype=np.uint32).reshape(300, 8)
    strangers[:, :2] = 0
    rank = np.random.default_rng(0).permutation(300)
    whole = edges_of_band(strangers, 0, 2, 6, rank)
    assert (whole.comparisons, whole.narrowed, whole.unresolved) == (300 * 299 // 2, 0, 0)
    bounded = edges_of_band(strangers, 0, 2, 6, rank, max_comparisons=1_000)
    assert bounded.narrowed == 1
    assert bounded.unresolved > 200
    assert bounded.comparisons <= 2_000 + 300


def test_a_costly_bucket_still_finds_what_resembles_its_leaders() -> None:
    """Otherwise the bound would cost the duplicates of the very pages that a crawl repeats most."""
    generator = np.random.default_rng(1)
    signatures = np.zeros((400, 16), np.uint32)
    signatures[200:, 2:] = generator.integers(0, 2**32, (200, 14))
    signatures[:200, 15] = np.arange(200)
    found = edges_of_band(signatures, 0, 2, 14, np.arange(400), max_comparisons=5_000)
    assert found.narrowed == 1
    assert len(found.left) == 199


def test_members_and_memory_maps(tmp_path: Path) -> None:
    """Otherwise a document that lost by exact equality would come back as a near duplicate."""
    signatures = np.zeros((5, 8), np.uint32)
    path = tmp_path / "signatures.bin"
    path.write_bytes(signatures.tobytes())
    mapped = np.memmap(path, np.uint32, "r", shape=(5, 8))
    found = edges_of_band(mapped, 1, 4, 7, np.arange(5), np.array([1, 2, 4]))
    assert (found.left.tolist(), found.right.tolist()) == ([1, 1], [2, 4])
    nothing = edges_of_band(mapped, 1, 4, 7, np.arange(5), np.zeros(0, np.int64))
    assert (len(nothing.left), nothing.largest) == (0, 0)
