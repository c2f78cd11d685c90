"""The groups that a mixture weighs: what documents are called by one column or several.

A document without a value is of the group `none`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RecipeError, nearest
from pipeline.prefix import HOST, hosts_of

NONE = "none"
_NEVER = ("id", "url", "origin", "title", "text", "date", "tokens", "duplicate_of")


def bucket_names(edges: Sequence[float]) -> list[str]:
    """What the groups of numbers are called that these edges tell apart: `<0.3`, `0.3-0.6`, `>=0.6`."""
    texts = [repr(int(edge) if edge == int(edge) else float(edge)) for edge in edges]
    between = [f"{low}-{high}" for low, high in itertools.pairwise(texts)]
    return [f"<{texts[0]}", *between, f">={texts[-1]}"]


def check(by: Sequence[str], buckets: Mapping[str, Sequence[float]], schema: pa.Schema) -> None:
    """Raises RecipeError where documents have no such column, or one that does not make groups."""
    fields = {field.name: field.type for field in schema if field.name not in _NEVER}
    numbers = [name for name, kind in fields.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)]
    plain = [name for name, kind in fields.items() if pa.types.is_string(kind) or pa.types.is_boolean(kind)]
    known = [HOST, *numbers, *plain]
    for name in by:
        if name not in known:
            raise RecipeError(
                f"mixture.by: '{name}' is no column of the documents that could group them.{nearest(name, known)}"
            )
        if name in numbers and pa.types.is_floating(fields[name]) and name not in buckets:
            raise RecipeError(
                f"mixture.by: '{name}' is a column of fractions; say where to cut it, as in "
                f"`buckets: {{{name}: [0.3, 0.6]}}`"
            )
    for name in buckets:
        if name in by and name not in numbers:
            raise RecipeError(f"mixture.buckets: '{name}' holds no numbers.{nearest(name, numbers)}")


def groups_of(
    table: pa.RecordBatch, by: Sequence[str], buckets: Mapping[str, Sequence[float]]
) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The names of the groups in a table, and (rows,) the place of each row's among them."""
    parts = [_names(table, name, buckets.get(name)) for name in by]
    joined = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "/")
    coded = joined.dictionary_encode()
    codes: npt.NDArray[np.int32] = coded.indices.to_numpy().astype(np.int32)
    return coded.dictionary.to_pylist(), codes


def _names(table: pa.RecordBatch, name: str, edges: Sequence[float] | None) -> pa.Array:
    if name == HOST:
        values = hosts_of(table.column("url"))
    elif edges is not None:
        return _buckets(table.column(name), edges)
    else:
        values = table.column(name).cast(pa.string())
    return pc.if_else(pc.fill_null(pc.not_equal(values, ""), False), values, NONE)


def _buckets(column: pa.Array, edges: Sequence[float]) -> pa.Array:
    values = column.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    place = np.searchsorted(np.array(edges, np.float64), values, side="right")  # NaN sorts behind all
    place[np.isnan(values)] = len(edges) + 1
    return pa.array([*bucket_names(edges), NONE], pa.string()).take(pa.array(place))
