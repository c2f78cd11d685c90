"""Sections `host` and `dedup`: what recurs, and which documents are the same."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.recipe.base import Model, Pattern


class RepeatedLines(Model):
    """Boilerplate: lines that stand on many pages of one host, menus and footers, are cut from all of them.

    Pages whose texts are equal but for case, blanks and punctuation count once; documents without a URL are left alone,
    and so are lines that a tab or two spaces indent: code, and lists inside of lists.
    """

    min_pages: int = Field(20, ge=2, description="pages of a host, with different texts, that have the line")
    min_share: float = Field(
        0.02, ge=0, le=1, strict=False, description="share of these pages of the host that have it, at least"
    )
    min_letters: int = Field(
        2,
        ge=1,
        description="fewest letters and digits of such a line; a character of scripts without spaces counts twice",
    )
    long_line: int = Field(
        30,
        ge=1,
        description="letters and digits from which on a line goes wherever it stands; a shorter one, which may well "
        "be a heading, a line of code or of a poem, only where such lines alone stand before it, or behind it",
    )
    max_characters: int = Field(
        300, ge=1, description="most characters of such a line, blanks around it apart; a longer one is a paragraph"
    )
    max_cut: float = Field(
        0.8,
        ge=0,
        le=1,
        strict=False,
        description="greatest share of a page's characters that is cut; a page with more is a near duplicate of "
        "others, and left whole to `dedup`",
    )
    by: Literal["host", "domain"] = Field(
        "host", description="whose pages are counted together: a host's, or those of a registered domain"
    )
    sources: list[str] = Field([], description="the sources whose documents are looked at; empty: all")


class Host(Model):
    """What recurs on the pages of a host, counted over the corpus."""

    repeated_lines: RepeatedLines = Field(description="lines on many pages of one host")


class Near(Model):
    """MinHash-LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, section 3.4)."""

    threshold: float = Field(0.8, gt=0, lt=1, description="Jaccard similarity from which two documents are duplicates")
    permutations: int = Field(128, ge=16, le=1024, description="values in a signature")
    ngram: int = Field(5, ge=1, le=50, description="words in a shingle (characters in scripts without spaces)")
    bands: int | None = Field(
        None, ge=1, description="bands of a signature, with `rows`; left out: the best for the threshold (datasketch's)"
    )
    rows: int | None = Field(None, ge=1, description="values in a band")
    verify: Literal["estimate", "exact"] = Field(
        "estimate",
        description="what a pair must meet the threshold by: the estimate from its signatures, or the Jaccard "
        "similarity of its sets of shingles (3.6 kB a document of 450 words on disk)",
    )
    max_cluster: int = Field(
        10_000, ge=2,
        description="documents that may hang together by chains of pairs; a larger cluster is taken apart, and each "
        "document loses only to one that it resembles itself (then a crawl against an index may name other survivors "
        "than one run over both)",
    )  # fmt: skip
    stars_from: int = Field(
        500_000_000, ge=1,
        description="documents from which on clusters are found by rounds over files, of which no process holds more "
        "than a part (large-star and small-star), and not by union-find in one process; the result is the same",
    )  # fmt: skip

    @model_validator(mode="after")
    def _bands_and_rows(self) -> Near:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("`bands` and `rows` go together")
        if self.bands and self.rows and self.bands * self.rows > self.permutations:
            raise ValueError(f"{self.bands} bands of {self.rows} rows are more than {self.permutations} permutations")
        return self


class Substrings(Model):
    """Substrings that recur across the documents that are left when all duplicates are gone: the best document that has
    one keeps it, the others lose it (Lee et al. 2022, Deduplicating Training Data Makes Language Models Better,
    section 4.2)."""

    tokens: int = Field(
        50, ge=8, le=1000, description="words (characters in scripts without spaces) from which on a stretch counts"
    )
    min_documents: int = Field(
        2, ge=1, description="fewest documents that have the stretch; with 1 what one document repeats goes as well"
    )
    max_documents: int | None = Field(
        None, ge=1, description="most documents that have it: a licence that more of them share stays in all"
    )
    min_words: int = Field(1, ge=1, description="fewest words that are left of a document of which something was cut")

    @model_validator(mode="after")
    def _ascending(self) -> Substrings:
        if self.max_documents is not None and self.max_documents < self.min_documents:
            raise ValueError(f"max_documents, {self.max_documents}, is below min_documents, {self.min_documents}")
        return self


class Dedup(Model):
    """Which documents are the same, and which of them stays. Equal ids always collapse."""

    exact: list[Literal["url", "text"]] = Field([], description="keys that are equal only for duplicates")
    near: Near | None = Field(None, description="near duplicates by MinHash-LSH")
    substrings: Substrings | None = Field(None, description="substrings that recur across documents")
    survivor: list[Literal["source", "quality", "length", "date", "id"]] = Field(
        ["source", "quality", "length", "date", "id"],
        description="the order of who stays: source as the inputs list them, higher `quality`, longer text, earlier "
        "date, least id; always behind the generation of the inputs, older first",
    )
    quality: Pattern | None = Field(
        None, description="a column of numbers that a stage wrote, more is better, such as `extraction_score`"
    )
    mode: Literal["drop", "mark"] = Field(
        "drop",
        description="mark: duplicates stay, with `cluster_size` and `duplicate_of`, for a mixture that weighs by them",
    )
    index: Pattern | None = Field(
        None,
        description="folder (or s3:// or gs:// address) that remembers the documents of earlier crawls, and gets these",
    )
