"""What a user of `browse` asks for: a table, conditions on it, an order. It stands in the address bar as it is."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

from pipeline.errors import RecipeError, nearest
from pipeline.look.database import name_of
from pipeline.look.labels import LABELS, Label

TABLES = ("documents", "dropped")
STRATA = ("source", "language", "reason")
MOST_SAMPLED = 1_000
"""Documents of a sample, or of each stratum of one."""


class Range(NamedTuple):
    """Bounds of a numeric column, both included; None where there is none."""

    column: str
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Filter:
    """Which rows are meant, and in what order."""

    table: str = "documents"
    source: str = ""
    language: str = ""
    reason: str = ""
    host: str = ""
    search: str = ""
    label: str = ""
    """One of LABELS, or `none`: without a label."""
    ranges: tuple[Range, ...] = ()
    sample: int = 0
    """So many by a keyed hash of their ids, in its order; 0: all, as they lie in the files."""
    by: str = ""
    """One of STRATA: so many of each."""

    @classmethod
    def of(cls, items: Iterable[tuple[str, str]], columns: Mapping[str, Mapping[str, bool]]) -> Filter:
        """The filter that a query string spells; keys that are none of a filter are passed over.

        `columns`: of each table the columns, and whether each is numeric. Raises RecipeError for what cannot be.
        """
        given: dict[str, list[str]] = {}
        for key, value in items:
            given.setdefault(key, []).append(value.strip() if key != "search" else value)
        texts = {key: given.get(key, [""])[0] for key in ("source", "language", "reason", "host", "search", "label")}
        table = given.get("table", ["documents"])[0]
        if table not in TABLES:
            raise RecipeError(f"table={table}: there is no such table.{nearest(table, TABLES)}")
        known = columns.get(table, {})
        if texts["label"] not in ("", "none", *LABELS):
            raise RecipeError(f"label={texts['label']}: there is no such label.{nearest(texts['label'], LABELS)}")
        by = given.get("by", [""])[0]
        if by and by not in STRATA:
            raise RecipeError(f"by={by}: there is no such column.{nearest(by, STRATA)}")
        for key in ("language", "reason", "by"):
            value = by if key == "by" else texts[key]
            column = value if key == "by" else key
            if value and column not in known:
                raise RecipeError(f"{key}={value}: the table {table} has no column {column}")
        bounds = zip(*(given.get(key, []) for key in ("column", "low", "high")), strict=False)
        ranges = [_range(name, low, high, known) for name, low, high in bounds if name and (low or high)]
        sample = given.get("sample", [""])[0] or "0"
        if not sample.isdecimal() or len(sample) > 6 or int(sample) > MOST_SAMPLED:
            raise RecipeError(f"sample={sample}: give a number of documents, {MOST_SAMPLED} at most")
        texts["host"] = texts["host"].lower()
        return cls(table=table, ranges=tuple(ranges), sample=int(sample), by=by if int(sample) else "", **texts)

    def query(self, **more: object) -> str:
        """The query string of this filter, with further keys behind; what says nothing is left out."""
        pairs: list[tuple[str, object]] = [("table", self.table)] if self.table != "documents" else []
        pairs += [
            (key, value)
            for key in ("source", "language", "reason", "host", "search", "label")
            if (value := getattr(self, key))
        ]
        for one in self.ranges:
            pairs += [("column", one.column), *(("low", _number(one.low)), ("high", _number(one.high)))]
        pairs += [("sample", self.sample)] if self.sample else []
        pairs += [("by", self.by)] if self.by else []
        return urlencode(pairs + [(key, value) for key, value in more.items() if value not in (None, "")])

    def conditions(self, labels: Mapping[str, Label], text: bool) -> tuple[list[str], list[object]]:
        """SQL conditions with `?` in them, and what is put there. `text`: whether the table has a text and a title."""
        found: list[str] = []
        values: list[object] = []
        for column in ("source", "language", "reason"):
            if value := getattr(self, column):
                found.append(f"coalesce({column}, 'unknown') = ?" if value == "unknown" else f"{column} = ?")
                values.append(value)
        if self.host:
            # the first is cheap, and takes out nearly all rows; CASE, because of AND the database chooses the order
            found.append("CASE WHEN regexp_matches(url, ?, 'i') THEN host(url) = ? ELSE false END")
            values += [_pattern(self.host), self.host]
        for one in self.ranges:
            for sign, bound in ((">=", one.low), ("<=", one.high)):
                if bound is not None:
                    found.append(f"{name_of(one.column)} {sign} ?")
                    values.append(bound)
        if self.label:
            wanted = [bytes.fromhex(one.id) for one in labels.values() if self.label in ("none", one.label)]
            marks = ", ".join("?" for _ in wanted)
            if self.label == "none":
                found += [f"id NOT IN ({marks})"] if wanted else []
            else:
                found.append(f"id IN ({marks})" if wanted else "false")
            values += wanted
        if self.search:
            columns = ("text", "title", "url") if text else ("url",)
            # a pattern that is told to ignore case is found three times as fast as in a text made lower case
            found.append("(" + " OR ".join(f"regexp_matches({column}, ?, 'i')" for column in columns) + ")")
            values += [_pattern(self.search)] * len(columns)
        return found, values


def _range(column: str, low: str, high: str, known: Mapping[str, bool]) -> Range:
    numeric = [name for name, number in known.items() if number]
    if column not in numeric:
        raise RecipeError(f"column={column}: the table has no such column of numbers.{nearest(column, numeric)}")
    bounds: list[float | None] = []
    for key, text in (("low", low), ("high", high)):
        try:
            bounds.append(float(text) if text else None)
        except ValueError:
            raise RecipeError(f"{key}={text}: {column} needs a number") from None
    return Range(column, *bounds)


def _pattern(text: str) -> str:
    """A text as a regular expression of RE2 that matches it alone."""
    return "".join(f"\\{char}" if char in string.punctuation and char != "_" else char for char in text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"
