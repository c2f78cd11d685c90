"""Who documents speak of: identity terms, and what is commonly said of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from annotated_types import Ge, Le

from stages.base import Outcome, Processor, Stage
from stages.bias.swap import counterpart
from stages.bias.terms import GROUPS, Hits, Lists, match, read, stereotypes
from stages.hashing import keyed, threshold
from stages.rows import Drop, outcome, strings
from stages.text.column import Edits, edited

_BUILTIN = "builtin:identity_terms.json"
WITH_LIST, NOBODY, STEREOTYPES = "with_list", "nobody", "stereotypes"
"""Groups of documents: those in a language that has lists, and of them those that name nobody, or stereotype."""


@dataclass(frozen=True, kw_only=True)
class Bias(Stage):
    """Counts identity terms by group and stereotypes, drops documents with many of these, or swaps gendered terms.

    Writes `identity_terms`: how many terms of each group the text has (gender, race, religion, nationality, age,
    disability, orientation, class, appearance: those of CrowS-Pairs, Nangia et al. 2020), and `stereotypes`: phrases
    that are commonly said of a group (`lazy`, `good at math`) within `reach` words of a term of that group; who says
    it, and whether the text agrees, is not looked at. `identity_subgroups` has the terms of each side of a group
    (`gender_female`, `age_old`); they are counted, too. A document is held against the lists of its own language
    (column `language`): English, Chinese, German, French, Spanish; others have nulls, and count as
    `documents_without_list`. `inspect --bias` reports the balance, and whom the stages behind this one drop more often.
    """

    name: ClassVar[str] = "bias"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("regex", "xxhash")

    mode: Literal["tag", "drop", "swap"] = "tag"
    """`tag` writes the columns; `drop` takes out documents beyond `max_stereotypes`; `swap` puts the counterpart in
    place of each gendered term (`he`, `mother`) in a share of the documents, writes `swapped`, and counts terms as
    they are then."""
    max_stereotypes: Annotated[int, Ge(0)] = 3
    """Most stereotypes that a document may have."""
    swap_share: Annotated[float, Ge(0), Le(1)] = 0.5
    """Share of the documents that are swapped, chosen by a keyed hash of the id. Half, as in counterfactual data
    substitution (Hall Maudslay et al. 2019, section 3): in expectation both genders stand alike in each context,
    without a second, nearly equal copy of each document, which deduplication would remove. English and Chinese alone,
    where no other word must agree; names stay."""
    seed: int = 0
    """Seed of that choice."""
    reach: Annotated[int, Ge(1), Le(100)] = 12
    """Words between a term and a stereotype, at most: about half a sentence."""
    lists: tuple[str, ...] = ("builtin",)
    """`builtin`, or JSON files in the form of stages/data/identity_terms.json, whose lists are joined."""
    fallback_language: str = ""
    """Language assumed where the column `language` is empty; empty: such documents have no list."""

    def files(self) -> dict[str, str]:
        return {f"lists/{number}": _BUILTIN if name == "builtin" else name for number, name in enumerate(self.lists)}

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        lists = read([(name, files[f"lists/{number}"]) for number, name in enumerate(self.lists)])
        return lambda batch: self._judge(batch, lists)

    def _judge(self, batch: pa.RecordBatch, lists: Lists) -> Outcome:
        column = batch.column("text")
        number = batch.num_rows
        codes = [lists.of(language or self.fallback_language) for language in strings(batch, "language")]
        languages = np.array(codes, np.int64)
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        drops: list[Drop] = [(row, "no_text", None, None) for row in np.flatnonzero(~valid).tolist()]
        counts: Counter[str] = Counter(documents_without_list=int((valid & (languages < 0)).sum()))
        hits = match(column, languages, lists)
        columns: dict[str, pa.Array] = {}
        if self.mode == "swap":
            column, terms, swapped = self._swapped(batch, column, hits, lists)
            columns = {"swapped": pa.array(swapped)}
            if terms:
                columns["text"] = column
                hits = match(column, languages, lists)
                counts |= {"swapped_terms": terms, "swapped_documents": int(swapped.sum())}
        masks = lists.terms[hits.numbers]
        by_group = {}
        for group in GROUPS:
            bits = sum(1 << bit for bit, name in enumerate(lists.names) if name.partition(".")[0] == group)
            by_group[group] = np.bincount(hits.rows[masks & bits != 0], minlength=number).astype(np.int32)
        listed = (languages >= 0) & valid
        terms_of = {
            name: np.bincount(hits.rows[masks >> bit & 1 != 0], minlength=number).astype(np.int32)
            for bit, name in enumerate(lists.names)
        }
        counts.update({name.replace(".", "_"): int(found.sum()) for name, found in terms_of.items()})
        said = stereotypes(hits, lists, self.reach, number)
        if self.mode == "drop":
            rows = np.flatnonzero(said > self.max_stereotypes).tolist()
            drops += [(row, "stereotypes", float(said[row]), float(self.max_stereotypes)) for row in rows]
        columns["identity_terms"] = _struct(by_group, listed)
        columns["identity_subgroups"] = _struct(
            {name.replace(".", "_"): found for name, found in terms_of.items()}, listed
        )
        columns["stereotypes"] = pa.array(said, mask=~listed)
        groups = {WITH_LIST: listed, NOBODY: listed & (np.bincount(hits.rows[masks != 0], minlength=number) == 0)}
        groups |= {name: found > 0 for name, found in terms_of.items()} | {STEREOTYPES: said > 0}
        return replace(outcome(batch, drops, columns, counts), groups=groups)

    def _swapped(
        self, batch: pa.RecordBatch, column: pa.Array, hits: Hits, lists: Lists
    ) -> tuple[pa.Array, int, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """The column with terms swapped in the documents chosen, how many terms, and in which documents.

        Texts that fold only as a whole (marks apart from their letters) are left as they are.
        """
        limit = threshold(self.swap_share)
        chosen = [keyed("swap", self.seed, key) < limit for key in batch.column("id").to_pylist()]
        pool: dict[str, int] = {}
        edits: list[tuple[int, int, int, int]] = []
        last, data = -1, b""
        for row, term, (start, end) in zip(hits.rows.tolist(), hits.numbers.tolist(), hits.spans.tolist(), strict=True):
            if term not in lists.swaps or not chosen[row] or hits.refolded[row]:
                continue
            if row != last:
                last, data = row, column[row].as_py().encode()
            behind = data[end : end + 100].decode(errors="ignore")
            new = counterpart(data[start:end].decode(), behind, 0, lists.swaps[term])
            edits.append((row, start, end, pool.setdefault(new, len(pool))))
        swapped = np.zeros(batch.num_rows, np.bool_)
        if not edits:
            return column, 0, swapped
        swapped[[row for row, *_ in edits]] = True
        places = Edits(*np.array(edits, np.int64).T)
        return edited(column, places, [word.encode() for word in pool]), len(edits), swapped


def _struct(fields: Mapping[str, npt.NDArray[np.int32]], valid: npt.NDArray[np.bool_]) -> pa.StructArray:
    """A struct column, null where not `valid`."""
    mask = pa.array(~valid)
    return pa.StructArray.from_arrays([pa.array(values) for values in fields.values()], list(fields), mask=mask)
