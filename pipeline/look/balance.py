"""`corpusmill inspect --bias`: whom the documents of a run speak of, and whom its filters drop more often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipeline.errors import UserError
from pipeline.look.filters import print_rates, rates
from pipeline.look.runfolder import RunFolder, one_line
from pipeline.look.tables import percent, table
from stages.bias import Bias
from stages.bias.stage import NOBODY, STEREOTYPES, WITH_LIST

AXES = (
    ("gender_female", "gender_male"), ("age_old", "age_young"), ("class_poor", "class_rich"),
    ("race_black", "race_white"), ("religion_muslim", "religion_christian"), ("religion_jewish", "religion_christian"),
)  # fmt: skip
"""Sides that are set against each other."""
_COLUMNS = ("source", "language", "characters", "identity_subgroups", "stereotypes")
_ROWS = 15
"""Languages that a table has; JSON has them all."""
Ints = npt.NDArray[np.int64]


def report(run: RunFolder) -> dict[str, Any]:
    """The balance of the documents that are left: in all, by source and by language; and drop rates by group.

    Raises UserError where the run has no stage `bias`.
    """
    labels = [label for label, stage in run.context.recipe.chain() if isinstance(stage, Bias)]
    if not labels:
        raise UserError(f"the run in {run.folder} tagged no identity terms: add a stage `bias` to its recipe")
    sums: dict[tuple[str, str], Ints] = {}
    names: list[str] = []
    for path in run.parts("documents")[:1]:
        kind = pq.read_schema(path)
        if "identity_subgroups" in kind.names:
            names = [field.name for field in kind.field("identity_subgroups").type]
    for batch in run.batches("documents", _COLUMNS):
        for key, figures in _summed(batch, names):
            sums[key] = sums.get(key, 0) + figures
    order = sorted(sums, key=lambda key: (-int(sums[key][0]), key))
    by = {
        kind: {name: _facts(sums[k, name], names) for k, name in order if k == kind} for kind in ("source", "language")
    }
    nothing = np.zeros(5 + 3 * len(names), np.int64)
    total = sum((sums[key] for key in order if key[0] == "source"), nothing)
    # A stage that is there twice writes its columns twice, and the later ones stay.
    return {
        "stage": labels[-1],
        "documents": _facts(total, names),
        "sources": by["source"],
        "languages": by["language"],
        "filters": rates(run, labels[0], [NOBODY, *(_dotted(name) for name in names), STEREOTYPES], base=WITH_LIST),
    }


def _summed(batch: pa.RecordBatch, names: list[str]) -> Iterator[tuple[tuple[str, str], Ints]]:
    """By source and by language: documents, characters, both of documents with a list, stereotyping documents; then for
    each subgroup documents and characters that name it, and terms."""
    characters = batch.column("characters").to_numpy(zero_copy_only=False).astype(np.int64)
    terms = batch.column("identity_subgroups")
    listed = terms.is_valid().to_numpy(zero_copy_only=False)
    counts = np.zeros((batch.num_rows, len(names)), np.int64)
    for place, name in enumerate(names):
        counts[:, place] = pa.compute.fill_null(pa.compute.struct_field(terms, name), 0).to_numpy(zero_copy_only=False)
    said = pa.compute.fill_null(batch.column("stereotypes"), 0).to_numpy(zero_copy_only=False) > 0
    alone = [np.ones(batch.num_rows, np.int64), characters, listed, listed * characters, said]
    rows = np.column_stack([*alone, counts > 0, (counts > 0) * characters[:, None], counts]).astype(np.int64)
    for kind in ("source", "language"):
        column = batch.column(kind).dictionary_encode()
        codes = pa.compute.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
        for code in np.unique(codes).tolist():
            name = column.dictionary[code].as_py() if code >= 0 else "unknown"
            yield (kind, name), rows[codes == code].sum(0)


def _facts(figures: Ints, names: list[str]) -> dict[str, Any]:
    documents, characters, listed, listed_characters, said = figures[:5].tolist()
    by = figures[5:].reshape(3, -1).T.tolist()
    groups = {
        name: {"documents": one, "characters": length, "terms": terms}
        for name, (one, length, terms) in zip(names, by, strict=True)
    }
    ratios = {}
    for one, other in AXES:
        if one in groups and other in groups:
            amounts = groups[one]["terms"], groups[other]["terms"]
            ratios[f"{one}:{other}"] = round(amounts[0] / amounts[1], 4) if amounts[1] else None
    return {
        "documents": documents,
        "characters": characters,
        "with_list": listed,
        "characters_with_list": listed_characters,
        "stereotyping": said,
        "groups": groups,
        "ratios": ratios,
    }


def _dotted(name: str) -> str:
    """A subgroup as the lists call it, `gender.female`."""
    return name.replace("_", ".", 1)


def print_report(found: dict[str, Any], console: Console) -> None:
    """Shares by group, both sides of each axis by source and language, and drop rates."""
    whole = found["documents"]
    console.print(
        f"{found['stage']}: {whole['documents']:,} documents are left, {whole['with_list']:,} of them "
        f"({percent(whole['with_list'], whole['documents'])}) in languages that have lists of terms; shares are of "
        f"these. {whole['stereotyping']:,} ({percent(whole['stereotyping'], whole['with_list'], 2)}) hold something "
        "that is commonly said of a group, near a term of it.", highlight=False,
    )  # fmt: skip
    groups = table(
        "Whom documents speak of", "group", "documents", "share", "of characters", "terms", "a million characters"
    )
    for name, facts in whole["groups"].items():
        rate = 1e6 * facts["terms"] / whole["characters_with_list"] if whole["characters_with_list"] else 0.0
        groups.add_row(
            _dotted(name), f"{facts['documents']:,}", percent(facts["documents"], whole["with_list"]),
            percent(facts["characters"], whole["characters_with_list"]), f"{facts['terms']:,}", f"{rate:,.1f}",
        )  # fmt: skip
    console.print(groups)
    axes = list(whole["ratios"])
    heads = [" : ".join(side.partition("_")[2] for side in axis.split(":")) for axis in axes]
    sides = table("Terms of one side to one of the other", "documents of", "with a list", *heads, "stereotypes")
    rows = [("all", whole)]
    for title, of in (("source", found["sources"]), ("language", found["languages"])):
        some = [(f"{title} {one_line(name)}", facts) for name, facts in of.items() if facts["with_list"]]
        rows += some[:_ROWS]
    for name, facts in rows:
        ratios = ["-" if facts["ratios"][axis] is None else f"{facts['ratios'][axis]:.2f}" for axis in axes]
        share = percent(facts["stereotyping"], facts["with_list"], 2)
        sides.add_row(name, f"{facts['with_list']:,}", *ratios, share)
    console.print(sides)
    without = [one_line(name) for name, facts in found["languages"].items() if not facts["with_list"]]
    if without:
        more = f" and {len(without) - _ROWS} more" if len(without) > _ROWS else ""
        console.print(f"Languages without a list: {', '.join(without[:_ROWS])}{more}.", markup=False, highlight=False)
    print_rates(found["filters"], "group", console)
