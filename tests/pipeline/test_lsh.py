"""Bands, the join of their tables, and the clusters that come of it."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHashLSH
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_files import near_of, plain_clusters, signed_parts

from pipeline import components, lsh, matching
from pipeline.lsh import Rule, band_table, bands_and_rows, min_equal, ranges_of

WIDTH, BANDS, ROWS = 12, 4, 3
RULE = Rule(9 / 12, WIDTH, BANDS, ROWS, exact=False)


def test_bands_are_datasketchs() -> None:
    """Otherwise recall would differ from the tool whose semantics the recipe names."""
    for threshold, permutations in ((0.8, 128), (0.5, 64), (0.95, 100), (0.31, 33), (0.7, 16), (0.62, 256)):
        peer = MinHashLSH(threshold=threshold, num_perm=permutations)
        assert bands_and_rows(threshold, permutations) == (peer.b, peer.r)


def test_min_equal_is_the_least_number_that_meets_the_threshold() -> None:
    """Otherwise rounding of threshold × permutations would drop or spare pairs right at the threshold."""
    asked = ((0.8, 128), (0.5, 128), (0.7, 110), (0.75, 128), (1.0, 64))
    assert [min_equal(t, p) for t, p in asked] == [103, 64, 77, 96, 64]


def test_where_sets_decide_the_estimate_lets_in_what_may_meet_the_threshold() -> None:
    """Otherwise a pair of Jaccard 0.81 whose estimate says 0.79 would never be compared exactly."""
    exact = Rule(0.8, 128, 9, 13, exact=True)
    assert (exact.need, exact.millionths) == (89, 800_000)
    assert (Rule(0.8, 128, 9, 13, exact=False).need, Rule(0.8, 128, 9, 13, exact=False).millionths) == (103, 0)


def test_a_range_has_at_most_a_million_rows() -> None:
    """Otherwise the memory of a unit would grow with the corpus."""
    assert [ranges_of(n) for n in (0, 1, 1 << 20, (1 << 20) + 1, 10_000_000, 3_000_000_000)] == [1, 1, 1, 2, 16, 4096]


def test_a_band_table_is_sorted_and_equal_values_share_a_key() -> None:
    """Otherwise documents of one bucket would lie in different ranges, and never meet."""
    values = np.random.default_rng(0).integers(0, 3, (500, WIDTH)).astype(np.uint32)
    keys, rows = band_table(values, BANDS, ROWS)
    assert (np.diff(keys.astype(object), axis=1) >= 0).all()
    for band in range(BANDS):
        inside = values[rows[band], band * ROWS : (band + 1) * ROWS]
        same = (inside[1:] == inside[:-1]).all(1)
        assert (same == (keys[band, 1:] == keys[band, :-1])).all()
        assert (np.sort(rows[band]) == np.arange(500)).all()


def meeting(values: np.ndarray, rule: Rule) -> np.ndarray:
    """(documents, documents) whether two share a bucket and enough values."""
    equal = values[:, None] == values[None]
    share = np.zeros(equal.shape[:2], bool)
    for band in range(rule.bands):
        share |= equal[:, :, band * rule.rows : (band + 1) * rule.rows].all(2)
    pairs: np.ndarray = share & (equal.sum(2) >= rule.need)
    return pairs


def some_signatures(generator: np.random.Generator, count: int) -> np.ndarray:
    """Signatures with many agreements, at all distances."""
    values = generator.integers(0, 2, (count, WIDTH)).astype(np.uint32)
    values[generator.random(count) < 0.5, :6] = 0
    return values


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6), st.booleans())
def test_clusters_are_those_of_all_pairs_for_any_parts_ranges_and_order(
    tmp_path: Path, count: int, cuts: int, pieces: int, seed: int, frugal: bool
) -> None:
    """Faults 1 and 2 of peers: the result hangs on how the work is cut, or a true pair is lost because the bucket's
    first document resembles neither of the two. `frugal`: every bucket is refined."""
    generator = np.random.default_rng(seed)
    values = some_signatures(generator, count)
    rank = generator.permutation(count)
    ends = np.sort(generator.integers(0, count + 1, cuts - 1))
    parts = signed_parts(tmp_path / "signed", np.split(values, ends), RULE)
    with pytest.MonkeyPatch.context() as patch:
        if frugal:
            patch.setattr(lsh, "FREE", 0)
        near, figures = near_of(parts, RULE, rank, tmp_path, pieces=pieces)
    assert near.tolist() == plain_clusters(meeting(values, RULE), rank, [0, count])
    assert figures[matching.UNRESOLVED] == 0


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 14), st.integers(0, 10**6))
def test_a_later_crawl_finds_the_same_against_an_index_as_in_one_run(
    tmp_path: Path, first: int, second: int, third: int, seed: int
) -> None:
    """Fault 11 of peers: nobody names the older document. A newer one must never join two older clusters, or what was
    published would be taken back."""
    generator = np.random.default_rng(seed)
    sizes = [first, second, third]
    bounds = [0, *np.cumsum(sizes).tolist()]
    values = some_signatures(generator, bounds[-1])
    rank = np.concatenate([low + generator.permutation(size) for low, size in zip(bounds, sizes, strict=False)])
    pieces = np.split(values, bounds[1:-1])
    parts = signed_parts(tmp_path / "signed", pieces, RULE)
    at_once, _ = near_of(parts, RULE, rank, tmp_path, bounds=bounds)
    assert at_once.tolist() == plain_clusters(meeting(values, RULE), rank, bounds)

    published: list[int] = []
    for crawl in range(1, 4):
        count = bounds[crawl]
        known = rank[np.array(published, np.int64)] if published else None
        parts = signed_parts(tmp_path / "signed", pieces[:crawl], RULE, known=crawl - 1)
        near, _ = near_of(parts, RULE, rank[:count], tmp_path, bounds=bounds[: crawl + 1], known=known)
        assert near[: len(published)].tolist() == published, "what was published stays"
        published = near.tolist()
    assert published == at_once.tolist()


def test_documents_that_lost_already_take_no_part(tmp_path: Path) -> None:
    """Otherwise a document that lost by exact equality would come back as a near duplicate."""
    values = np.zeros((5, WIDTH), np.uint32)
    parts = signed_parts(tmp_path, [values[:2], values[2:2], values[2:]], RULE)
    alone = np.array([True, False, False, True, False])
    near, _ = near_of(parts, RULE, np.arange(5), tmp_path, alone=alone)
    assert near.tolist() == [0, 1, 1, 3, 1]


def test_more_parts_than_files_may_be_open(tmp_path: Path) -> None:
    """Otherwise a crawl of a thousand files ends with 'too many open files' after all of it was read."""
    values = np.zeros((300, WIDTH), np.uint32)
    parts = signed_parts(tmp_path / "signed", list(values[:, None]), RULE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (250, hard))
    try:
        near, _ = near_of(parts, RULE, np.arange(300), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (near == 0).all()


@pytest.mark.parametrize("free", [0, 128])
def test_keys_that_collide_cost_comparisons_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """Otherwise two buckets whose 64-bit keys are equal by chance would join, or lose, documents."""
    monkeypatch.setattr(lsh, "FREE", free)
    generator = np.random.default_rng(5)
    values = some_signatures(generator, 60)
    parts = signed_parts(tmp_path / "signed", np.split(values, [25]), RULE)
    for part in parts:
        rows = np.tile(np.arange(part.rows, dtype="<u4"), BANDS)
        part.file("bands").write_bytes(np.zeros(BANDS * part.rows, "<u8").tobytes() + rows.tobytes())
    rank = generator.permutation(60)
    near, _ = near_of(parts, RULE, rank, tmp_path)
    enough = (values[:, None] == values[None]).sum(2) >= RULE.need
    assert near.tolist() == plain_clusters(enough, rank, [0, 60])


def test_only_verified_edges_join_clusters(tmp_path: Path) -> None:
    """Fault 8 of peers: documents that are nobody's verified duplicate vanish with a bucket that they shared."""
    values = np.array([[1] * 12, [1] * 9 + [2] * 3, [1] * 3 + [5] * 9, [1] * 3 + [6] * 9], np.uint32)
    near, figures = near_of(signed_parts(tmp_path, [values], RULE), RULE, np.arange(4), tmp_path)
    assert figures[matching.LARGEST] == 4, "all four share the bucket"
    assert near.tolist() == [0, 0, 2, 3]


def in_one_bucket(values: np.ndarray, need: int, generations: int = 1, most: int = 1 << 26) -> tuple[set, np.ndarray]:
    """The edges of one bucket, and the figures."""
    count = len(values)
    figures = np.zeros(matching.FIGURES, np.int64)
    age = np.arange(count) * generations // count
    edges = matching.match(
        np.array([0, count]), age, np.full(count, -1), values, need, np.zeros(0, np.uint64),
        np.zeros((0, 2), np.int64), 0, most, figures, 0, 8, lsh.FREE,
    )  # fmt: skip
    return {tuple(edge) for edge in edges.tolist()}, figures


@pytest.mark.parametrize("generations", [1, 2])
def test_a_bucket_of_copies_costs_one_comparison_each(generations: int) -> None:
    """Fault 8 of peers: a bucket of 100,000 copies joined with itself makes 5·10⁹ pairs."""
    edges, figures = in_one_bucket(np.full((200_000, 16), 7, np.uint32), 14, generations)
    assert (len(edges), figures[matching.COMPARED], figures[matching.REFINED]) == (199_999, 199_999, 0)


def test_similar_documents_that_differ_each_cost_one_comparison() -> None:
    """Otherwise a template page with a changing date would cost the square of its number."""
    values = np.full((20_000, 32), 7, np.uint32)
    values[:, 31] = np.arange(20_000)
    edges, figures = in_one_bucket(values, 28)
    assert (len(edges), figures[matching.COMPARED]) == (19_999, 19_999)


@pytest.mark.parametrize("generations", [1, 2])
def test_pairs_among_strangers_are_all_found_without_comparing_all(generations: int) -> None:
    """Otherwise the true pairs inside a bucket of boilerplate would be lost, or cost its square: 5·10⁷ here."""
    generator = np.random.default_rng(0)
    values = np.repeat(generator.integers(0, 2**32, (5_000, 112), dtype=np.uint32), 2, axis=0)
    for row in values[1::2]:
        row[generator.choice(np.arange(8, 112), 20, replace=False)] += np.uint32(1)
    values[:, :8] = 7  # the band in which all agree
    order = generator.permutation(10_000)
    place = np.argsort(order)
    edges, figures = in_one_bucket(values[order], 90, generations)
    assert edges == {tuple(sorted(place[2 * pair : 2 * pair + 2].tolist())) for pair in range(5_000)}
    assert (figures[matching.REFINED] > 0, figures[matching.UNRESOLVED]) == (True, 0)
    assert figures[matching.COMPARED] < 5_000_000


def test_two_templates_of_two_crawls_cost_one_comparison() -> None:
    """Otherwise a site that changed its template between crawls would cost the product of its pages: 10¹⁰ here."""
    values = np.zeros((200_000, 32), np.uint32)
    values[100_000:, 20:] = 1
    edges, figures = in_one_bucket(values, 26, generations=2)
    assert len(edges) == 199_998
    assert figures[matching.COMPARED] == 199_999


def test_a_bucket_of_near_misses_is_bounded_and_counted() -> None:
    """Otherwise one boilerplate band could hold up a run for days, or its pairs vanish without a figure."""
    values = np.zeros((3_000, 32), np.uint32)
    values[:, 20:] = np.arange(3_000 * 12).reshape(3_000, 12)  # all share 20 values, and 21 are needed
    _, whole = in_one_bucket(values, 21)
    assert (whole[matching.NARROWED], whole[matching.UNRESOLVED]) == (0, 0)
    _, bounded = in_one_bucket(values, 21, most=100_000)
    assert bounded[matching.NARROWED] > 0
    assert bounded[matching.UNRESOLVED] > 0
    assert bounded[matching.COMPARED] < whole[matching.COMPARED] / 4


def test_shingle_sets_decide_where_they_are_asked_for() -> None:
    """Otherwise the option that promises exact verification would let estimates decide."""
    sets = [set(range(100)), set(range(20, 100)), set(range(21, 100)), set()]
    values = np.zeros((4, 16), np.uint32)
    flat = np.concatenate([np.array(sorted(one), np.uint64) for one in sets])
    ends = np.cumsum([len(one) for one in sets])
    bounds = np.stack([ends - [len(one) for one in sets], ends], 1)
    figures = np.zeros(matching.FIGURES, np.int64)
    edges = matching.match(
        np.array([0, 4]), np.zeros(4, np.int64), np.full(4, -1), values, 10, flat, bounds, 800_000, 1 << 26, figures,
        0, 8, lsh.FREE,
    )  # fmt: skip
    assert {tuple(edge) for edge in edges.tolist()} == {(0, 1), (1, 2)}, "0.80, 79 of 80, but not 0.79"
    pairs = np.array([[0, 1], [0, 2], [0, 3], [3, 3]])
    found = matching.jaccard(flat, bounds[pairs[:, 0]], flat, bounds[pairs[:, 1]])
    assert found.tolist() == [0.8, 0.79, 0.0, 1.0]


def test_a_chain_above_the_cap_is_taken_apart_into_documents_that_resemble_their_survivor() -> None:
    """Otherwise a chain of a million pairs, each a little different, would keep one page of a million."""
    values = np.zeros((40, 32), np.uint32)
    for row in range(40):
        values[row, : min(row, 32)] = 1  # each resembles its neighbours; the first and the last are strangers
    pairs = (values[:, None] == values[None]).sum(2) >= 28
    left, right = (ends.astype(np.uint32) for ends in np.nonzero(np.triu(pairs, 1)))

    def stars(members: np.ndarray, neighbours: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        none = np.zeros(0, np.uint64), np.zeros((0, 2), np.int64)
        found: np.ndarray = matching.stars(neighbours, bounds, values[members], 28, *none, 0)
        return found

    def leaders(cap: int) -> tuple[list[int], int]:
        start = np.arange(40, dtype=np.uint32)
        found, apart = components.leaders([(left, right)], [0, 40], start, components.Cap(cap, stars))
        return found.tolist(), apart

    assert leaders(40) == ([0] * 40, 0)
    taken, apart = leaders(39)
    assert (apart, len(set(taken))) == (1, 7)
    assert all(pairs[row, leader] for row, leader in enumerate(taken) if row != leader)
    assert all(taken[leader] == leader for leader in taken), "a survivor is kept"
