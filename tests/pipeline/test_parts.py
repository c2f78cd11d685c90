"""Parts: the same rows give the same files, and no part grows with the input."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.parts import PartsWriter, PartWriter

SCHEMA = pa.schema([pa.field("text", pa.string())])
TEXTS = ["x" * (37 * number % 900) for number in range(120)]


def batches(cuts: list[int]) -> list[pa.RecordBatch]:
    bounds = [0, *sorted(set(cuts)), len(TEXTS)]
    rows = [TEXTS[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [pa.RecordBatch.from_pydict({"text": part}, SCHEMA) for part in rows]


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, len(TEXTS) - 1), max_size=9))
def test_batching_leaves_no_trace(cuts: list[int], tmp_path_factory: object) -> None:
    """Otherwise a part's digest would hang on how records arrived, and everything behind it would be redone."""
    folder: Path = tmp_path_factory.mktemp("parts")  # type: ignore[attr-defined]
    made = []
    for number, given_batches in enumerate((batches([]), batches(cuts))):
        with PartsWriter(folder, f"{number}", SCHEMA, part_bytes=9_000) as writer:
            for batch in given_batches:
                writer.write(batch)
        assert writer.rows == len(TEXTS)
        made.append([path.read_bytes() for path in writer.paths])
    assert made[0] == made[1]
    assert len(made[0]) > 5
    found = [text for path in writer.paths for text in pq.read_table(path).column("text").to_pylist()]
    assert found == TEXTS


def test_row_groups_and_parts_are_bounded_and_an_empty_part_is_still_one(tmp_path: Path) -> None:
    """Otherwise a 10 GB stream would become one part that the next phases cannot hold in memory."""
    with PartWriter(tmp_path / "one", SCHEMA, row_group_bytes=5_000) as one:
        for batch in batches([]):
            one.write(batch)
    assert pq.read_metadata(tmp_path / "one").num_row_groups > 5
    with PartsWriter(tmp_path, "none", SCHEMA) as none:
        pass
    assert [pq.read_metadata(path).num_rows for path in none.paths] == [0]
