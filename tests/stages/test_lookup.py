"""Tables of hashes: in order whatever came in, and each key once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.lookup import keys, sort

HASH = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1))
ROWS = st.lists(st.tuples(HASH, HASH, st.integers(0, 5)), max_size=60)


def arrays(
    rows: list[tuple[int, int, int]],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    return (
        np.array([row[0] for row in rows], np.uint64),
        np.array([row[1] for row in rows], np.uint64),
        np.array([row[2] for row in rows], np.uint32),
    )


def rows_of(*columns: npt.NDArray[np.uint64] | npt.NDArray[np.uint32]) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=200)
@given(ROWS)
def test_rows_come_in_order(rows: list[tuple[int, int, int]]) -> None:
    """Entries of a list would be there and never be found."""
    columns = arrays(rows)
    sort(*columns)
    assert rows_of(*columns) == sorted(rows)


@pytest.mark.parametrize("kinds", [1, 2, 40, 10**6])
def test_many_alike_come_in_order(kinds: int) -> None:
    """A list with a million pages of one host would never be read, or be read wrong."""
    rng = np.random.default_rng(kinds)
    first = rng.integers(0, 2**64, kinds, np.uint64)[rng.integers(0, kinds, 30_000)] | np.uint64(1)
    second, values = rng.integers(0, 3, 30_000).astype(np.uint64), rng.integers(0, 9, 30_000).astype(np.uint32)
    wanted = np.lexsort((values, second, first))
    expected = [column[wanted] for column in (first, second, values)]
    sort(first, second, values)
    assert all((column == other).all() for column, other in zip((first, second, values), expected, strict=True))


@settings(max_examples=100)
@given(ROWS)
def test_keys_are_there_once(rows: list[tuple[int, int, int]]) -> None:
    """Two lists that share an entry would lose what one of them says of it."""
    first, second, _ = arrays(rows)
    given_ = list(zip(first.tolist(), second.tolist(), strict=True))
    table, (order, starts) = keys(first, second)
    found = rows_of(table.first, table.second)
    assert found == sorted(set(given_))
    groups = np.split(order, starts[1:]) if len(starts) else []
    assert [{given_[number] for number in group.tolist()} for group in groups] == [{key} for key in found]
