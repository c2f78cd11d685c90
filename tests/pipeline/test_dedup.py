"""Which documents are duplicates, and of which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signed_files import near_of, signed_parts

from pipeline.dedup import REASONS, OrderColumns, Outcome, exact_groups, exact_losers, outcome, ties, total_order
from pipeline.errors import RecipeError
from pipeline.lsh import Rule

PERMUTATIONS = 12
RULE = Rule(9 / 12, PERMUTATIONS, 4, 3, exact=False)


def digest(value: int) -> bytes:
    return value.to_bytes(16, "big")


def columns(docs: list[dict[str, int]]) -> OrderColumns:
    content, file = [digest(d.get("content", 0)) for d in docs], [f"f{d.get('file', 0)}" for d in docs]
    return OrderColumns(
        generation=np.array([d.get("generation", 0) for d in docs], np.int64),
        source=np.array([d.get("source", 0) for d in docs], np.int64),
        quality=np.array([d.get("quality", np.nan) for d in docs], np.float64),
        length=np.array([d.get("length", 0) for d in docs], np.int64),
        date=np.array([d["date"] if d.get("date") is not None else "NaT" for d in docs], "datetime64[s]"),
        id=[digest(d["id"]) for d in docs],
        tie=ties(
            content, pa.array(file, pa.string()), np.array([d.get("offset", 0) for d in docs], np.int64),
            np.zeros(len(docs), np.int64),
        ),
    )  # fmt: skip


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


def test_an_older_crawl_and_a_better_page_come_first() -> None:
    """Otherwise what was published could lose to what came later, or a page to a worse copy of itself."""
    docs = [
        {"id": 1, "generation": 1, "source": 0, "quality": 9},
        {"id": 2, "generation": 0, "source": 1, "quality": 1},
        {"id": 3, "generation": 0, "source": 0},
        {"id": 4, "generation": 0, "source": 0, "quality": -1, "length": 1},
        {"id": 5, "generation": 0, "source": 0, "quality": 2},
    ]
    assert np.argsort(total_order(columns(docs))).tolist() == [4, 3, 2, 1, 0]


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


def test_ids_that_agree_in_64_bits_are_two() -> None:
    """Otherwise one in 10⁹ documents of a large corpus would vanish as another one's copy."""
    high, low = (5 << 64), 5
    ids = [digest(value) for value in (high + 1, high + 2, low, (1 << 64) + low, high + 1)]
    leader, member = exact_groups(ids, None, np.arange(5))
    assert (leader.tolist(), member.tolist()) == ([0], [4])


def test_a_text_is_never_lost_with_a_document_that_lost_by_its_url() -> None:
    """Otherwise a page whose other version won by URL would take the only copy of its text with it."""
    urls = [digest(1), digest(1), digest(2)]
    texts = [digest(7), digest(8), digest(8)]
    survivor, reason = exact_losers(np.arange(3), [("same_url", urls, None), ("same_text", texts, None)])
    assert survivor.tolist() == [0, 0, 2]
    assert reason.tolist() == [-1, REASONS.index("same_url"), -1]


def test_a_loser_names_the_survivor_that_is_kept() -> None:
    """Otherwise a loser's row would name a document that was itself dropped."""
    exact = exact_losers(np.arange(4), [("same_text", [digest(0), digest(1), digest(2), digest(2)], None)])
    found = outcome(exact, np.array([0, 0, 0, 3]))
    assert found.survivor.tolist() == [0, 0, 0, 0]
    assert [REASONS[r] for r in found.reason[1:]] == ["near_duplicate", "near_duplicate", "same_text"]
    assert found.reason[0] == -1
    assert found.cluster.tolist() == [4] * 4


def test_clusters_of_documents_that_are_gone_are_refused() -> None:
    """Otherwise a near duplicate could name a survivor that an exact duplicate had replaced."""
    exact = exact_losers(np.arange(3), [("same_text", [digest(1), digest(1), digest(2)], None)])
    for near in ([0, 0, 2], [0, 1, 1]):
        with pytest.raises(ValueError, match="already replaced"):
            outcome(exact, np.array(near))


def test_no_documents_and_no_duplicates() -> None:
    """Otherwise a run in which nothing is left would crash in place of saying so."""
    empty = np.zeros((0, 16), np.uint8)
    found = outcome(exact_losers(np.arange(0), [("same_text", empty, None)]), np.arange(0))
    assert len(found.survivor) == 0
    alone = outcome((np.arange(2), np.full(2, -1, np.int8)), np.arange(2))
    assert (alone.cluster.tolist(), alone.reason.tolist()) == ([1, 1], [-1, -1])


def whole(docs: list[dict[str, int]], signatures: np.ndarray, folder: Path) -> Outcome:
    rank = total_order(columns(docs))
    exact = exact_losers(
        rank,
        [
            ("same_record", [digest(d["id"]) for d in docs], None),
            ("same_url", [digest(d["url"]) for d in docs], np.array([d["url"] > 0 for d in docs], bool)),
            ("same_text", [digest(d["text"]) for d in docs], None),
        ],
    )
    near, _ = near_of(signed_parts(folder / "signed", [signatures], RULE), RULE, rank, folder, alone=exact[1] >= 0)
    return outcome(exact, near)


def facts(docs: list[dict[str, int]], found: Outcome) -> set[tuple[object, ...]]:
    name = [(d["id"], d["offset"]) for d in docs]
    rows = zip(name, found.survivor.tolist(), found.reason.tolist(), found.cluster.tolist(), strict=True)
    return {(own, name[survivor], reason, size) for own, survivor, reason, size in rows}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_outcome_does_not_depend_on_the_order_of_rows(tmp_path: Path, data: st.DataObject) -> None:
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
    found = whole(docs, signatures, tmp_path)
    shuffled = generator.permutation(count)
    again = [docs[row] for row in shuffled]
    assert facts(docs, found) == facts(again, whole(again, signatures[shuffled], tmp_path))
    kept = found.reason < 0
    assert kept[found.survivor].all(), "every survivor named is kept"
    assert (found.survivor[kept] == np.flatnonzero(kept)).all()
    assert int(found.cluster[kept].sum()) == count, "clusters tile the documents"
