"""Which documents are duplicates, and of which."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedup import (
    REASONS,
    Duplicates,
    OrderColumns,
    components,
    duplicates,
    exact_groups,
    exact_losers,
    survivors,
    total_order,
)
from pipeline.errors import RecipeError
from pipeline.lsh import edges_of_band, min_equal

PERMUTATIONS = 12
MIN_EQUAL = 9


def digest(value: int) -> bytes:
    return value.to_bytes(16, "big")


def columns(docs: list[dict[str, int]]) -> OrderColumns:
    return OrderColumns(
        source=np.array([d.get("source", 0) for d in docs], np.int64),
        length=np.array([d.get("length", 0) for d in docs], np.int64),
        date=np.array([d["date"] if d.get("date") is not None else "NaT" for d in docs], "datetime64[s]"),
        id=[digest(d["id"]) for d in docs],
        content=[digest(d.get("content", 0)) for d in docs],
        file=pa.array([f"f{d.get('file', 0)}" for d in docs], pa.string()),
        offset=np.array([d.get("offset", 0) for d in docs], np.int64),
        inner_offset=np.zeros(len(docs), np.int64),
    )


def test_survivor_is_chosen_by_priority_length_date_id_in_that_order() -> None:
    """Otherwise the copy in the source that the user trusts most, the fuller or the older page could be dropped."""
    docs = [
        {"id": 5, "source": 1, "length": 99, "date": 1},
        {"id": 4, "source": 0, "length": 10, "date": 9},
        {"id": 3, "source": 0, "length": 10, "date": 8},
        {"id": 2, "source": 0, "length": 10},
        {"id": 1, "source": 0, "length": 11},
        {"id": 0, "source": 0, "length": 10, "date": 8},
    ]
    assert np.argsort(total_order(columns(docs))).tolist() == [4, 5, 2, 1, 3, 0]
    assert np.argsort(total_order(columns(docs), ["date"])).tolist() == [0, 5, 2, 1, 4, 3]


def test_records_of_equal_id_are_ordered_by_content_before_their_file() -> None:
    """A table's title and language are not in the id: which of two such rows stays must not hang on a file's name."""
    docs = [{"id": 1, "content": 2, "file": 0}, {"id": 1, "content": 1, "file": 1}]
    assert np.argsort(total_order(columns(docs))).tolist() == [1, 0]


def test_records_of_equal_id_are_ordered_by_file_and_offset() -> None:
    """Otherwise two runs could keep another copy of one record, and its origin would differ."""
    docs = [{"id": 1, "file": 1, "offset": 0}, {"id": 1, "file": 0, "offset": 7}, {"id": 1, "file": 0, "offset": 3}]
    assert total_order(columns(docs)).tolist() == [2, 1, 0]


def test_unknown_policy_names_the_nearest() -> None:
    """Otherwise a typing error in the recipe would silently change who survives."""
    with pytest.raises(RecipeError, match="Did you mean 'length'"):
        total_order(columns([{"id": 1}]), ["lenght"])


def test_rows_without_a_digest_are_in_no_group() -> None:
    """Otherwise all documents without URL would collapse into one."""
    leader, member = exact_groups([digest(0)] * 4, np.array([True, False, True, False]), np.array([3, 2, 1, 0]))
    assert (leader.tolist(), member.tolist()) == ([2], [0])


def test_a_text_is_never_lost_with_a_document_that_lost_by_its_url() -> None:
    """Otherwise a page whose other version won by URL would take the only copy of its text with it."""
    urls = [digest(1), digest(1), digest(2)]
    texts = [digest(7), digest(8), digest(8)]
    survivor, reason = exact_losers(np.arange(3), [("same_url", urls, None), ("same_text", texts, None)])
    assert survivor.tolist() == [0, 0, 2]
    assert reason.tolist() == [-1, REASONS.index("same_url"), -1]


def test_only_edges_join_clusters() -> None:
    """Fault 8 of peers: documents that are nobody's verified duplicate vanish with a bucket that they shared."""
    signatures = np.array([[1] * 12, [1] * 9 + [2] * 3, [1] * 3 + [5] * 9, [1] * 3 + [6] * 9], np.uint32)
    rank = np.arange(4)
    edges = edges_of_band(signatures, 0, 3, MIN_EQUAL, rank)
    assert edges.largest == 4, "all four share the bucket"
    labels = components(4, edges.left, edges.right)
    assert survivors(rank, labels).tolist() == [0, 0, 2, 3]


def test_a_chain_names_the_survivor_that_is_kept_and_its_true_similarity() -> None:
    """Otherwise a loser's row would name a document that was itself dropped, or a similarity nobody measured."""
    signatures = np.zeros((4, PERMUTATIONS), np.uint32)
    for row, differing in enumerate((0, 3, 6)):
        signatures[row, :differing] = 1
    signatures[3] = 9
    rank = np.array([0, 1, 2, 3])
    exact = exact_losers(rank, [("same_text", [digest(0), digest(1), digest(2), digest(2)], None)])
    result = duplicates(rank, exact, (np.array([0, 1]), np.array([1, 2])), signatures)
    assert result.loser.tolist() == [1, 2, 3]
    assert result.survivor.tolist() == [0, 0, 0]
    assert [REASONS[r] for r in result.reason] == ["near_duplicate", "near_duplicate", "same_text"]
    assert result.similarity.tolist() == [9 / 12, 6 / 12, 0.0]
    assert result.cluster.tolist() == [4] * 4


def test_edges_to_documents_that_are_gone_are_refused() -> None:
    """Otherwise a near duplicate could name a survivor that an exact duplicate had replaced."""
    exact = exact_losers(np.arange(2), [("same_text", [digest(1)] * 2, None)])
    with pytest.raises(ValueError, match="already replaced"):
        duplicates(np.arange(2), exact, (np.array([0]), np.array([1])), np.zeros((2, 4), np.uint32))


def test_no_documents_and_no_duplicates() -> None:
    """Otherwise a run in which nothing is left would crash in place of saying so."""
    empty = np.zeros((0, 16), np.uint8)
    result = duplicates(np.arange(0), exact_losers(np.arange(0), [("same_text", empty, None)]))
    assert (len(result.loser), len(result.kept)) == (0, 0)
    alone = duplicates(
        np.arange(2), (np.arange(2), np.full(2, -1, np.int8)), (np.arange(0), np.arange(0)), np.zeros((2, 4), np.uint32)
    )
    assert alone.cluster.tolist() == [1, 1]


def whole(docs: list[dict[str, int]], signatures: np.ndarray) -> Duplicates:
    rank = total_order(columns(docs))
    exact = exact_losers(
        rank,
        [
            ("same_record", [digest(d["id"]) for d in docs], None),
            ("same_url", [digest(d["url"]) for d in docs], np.array([d["url"] > 0 for d in docs], bool)),
            ("same_text", [digest(d["text"]) for d in docs], None),
        ],
    )
    members = np.flatnonzero(exact[1] < 0)
    bands = [edges_of_band(signatures, band, 3, MIN_EQUAL, rank, members) for band in range(4)]
    near = np.concatenate([b.left for b in bands]), np.concatenate([b.right for b in bands])
    return duplicates(rank, exact, near, signatures)


def facts(docs: list[dict[str, int]], result: Duplicates) -> set[tuple[object, ...]]:
    name = [(d["id"], d["offset"]) for d in docs]
    similarity = np.nan_to_num(result.similarity, nan=-1)
    lost = zip(result.loser, result.survivor, result.reason, similarity, strict=True)
    return {("lost", name[a], name[b], int(r), float(s)) for a, b, r, s in lost} | {
        ("kept", name[row], int(result.cluster[row])) for row in np.flatnonzero(result.kept)
    }


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_outcome_does_not_depend_on_the_order_of_rows(data: st.DataObject) -> None:
    """The promise of reproducibility: fault 1 of peers is another corpus with another number of tasks."""
    count = data.draw(st.integers(0, 30))
    number = st.integers(0, 12)
    docs = [
        {k: data.draw(number) for k in ("id", "source", "length", "date", "url", "text")} | {"offset": row}
        for row in range(count)
    ]
    seen: dict[int, dict[str, int]] = {}
    docs = [seen.setdefault(d["id"], d) | {"offset": d["offset"]} for d in docs]  # equal ids: equal contents
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    by_id = generator.integers(0, 2, (13, PERMUTATIONS)).astype(np.uint32)
    by_id[generator.random(13) < 0.5, :8] = 0
    signatures = by_id[[d["id"] for d in docs]] if docs else np.zeros((0, PERMUTATIONS), np.uint32)
    result = whole(docs, signatures)
    shuffled = generator.permutation(count)
    again = [docs[row] for row in shuffled]
    assert facts(docs, result) == facts(again, whole(again, signatures[shuffled]))
    assert result.kept[result.survivor].all(), "every survivor named is kept"
    assert len(result.loser) + int(result.kept.sum()) == count
    assert int(result.cluster[result.kept].sum()) == count, "clusters tile the documents"


def test_min_equal_is_the_least_number_that_meets_the_threshold() -> None:
    """Otherwise rounding of threshold × permutations would drop or spare pairs right at the threshold."""
    assert [min_equal(t, p) for t, p in ((0.8, 128), (0.5, 128), (0.7, 110), (0.75, 128), (1.0, 64))] == [
        103,
        64,
        77,
        96,
        64,
    ]
