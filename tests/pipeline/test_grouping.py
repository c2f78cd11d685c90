"""The groups that a mixture weighs."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.errors import RecipeError
from pipeline.grouping import bucket_names, check, groups_of

TABLE = pa.RecordBatch.from_pydict(
    {
        "source": ["web", "web", "books", "web"],
        "language": ["en", None, "zh", ""],
        "url": ["https://A.example/x", None, "urn:x", "http://b.example/"],
        "cluster_size": pa.array([1, 7, None, 30], pa.int32()),
        "score": pa.array([0.1, 0.3, None, float("nan")], pa.float32()),
        "quality": pa.array([0.25, 0.5, 0.75, -1.0], pa.float64()),
        "good": [True, False, None, True],
    }
)


def named(by: list[str], **buckets: list[float]) -> list[str]:
    names, codes = groups_of(TABLE, by, buckets)
    return [names[code] for code in codes]


def test_values_name_groups() -> None:
    """Otherwise documents would be weighed under another name than the recipe gives, or those without one be lost."""
    assert named(["source"]) == ["web", "web", "books", "web"]
    assert named(["language"]) == ["en", "none", "zh", "none"]
    assert named(["host"]) == ["a.example", "none", "none", "b.example"]
    assert named(["cluster_size"]) == ["1", "7", "none", "30"]
    assert named(["good"]) == ["true", "false", "none", "true"]
    assert named(["language", "source"]) == ["en/web", "none/web", "zh/books", "none/web"]


def test_edges_cut_numbers_into_buckets() -> None:
    """Otherwise a document on an edge would be of both buckets or of none, or one without a score of the best one."""
    assert bucket_names([0.3, 0.6]) == ["<0.3", "0.3-0.6", ">=0.6"]
    assert bucket_names([2]) == ["<2", ">=2"]
    assert named(["quality"], quality=[0.25, 0.75]) == ["0.25-0.75", "0.25-0.75", ">=0.75", "<0.25"]
    assert named(["cluster_size"], cluster_size=[2, 10]) == ["<2", "2-10", "none", ">=10"]
    assert named(["score"], score=[0.2]) == ["<0.2", ">=0.2", "none", "none"]
    assert groups_of(TABLE.slice(3), ["quality"], {"quality": [0.25]})[0] == ["<0.25"], "slices are honoured"


@pytest.mark.parametrize(
    ("by", "buckets", "message"),
    [
        (["langauge"], {}, r"'langauge' is no column .* Did you mean 'language'"),
        (["text"], {}, "'text' is no column"),
        (["quality"], {}, r"is a column of fractions; say where to cut it, as in `buckets: \{quality: \[0.3, 0.6\]\}`"),
        (["source"], {"source": [1.0]}, "mixture.buckets: 'source' holds no numbers"),
    ],
)
def test_columns_that_make_no_groups_are_refused(by: list[str], buckets: dict[str, list[float]], message: str) -> None:
    """Otherwise a run of days would end in its last phase, or every score would be a group of its own."""
    with pytest.raises(RecipeError, match=message):
        check(by, buckets, TABLE.schema)
