"""Sections `tokenizer`, `mixture` and `shards`: text to tokens, how much of what, and the files."""

from __future__ import annotations

import itertools
import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.recipe.base import Model, Pattern

TOKEN_ROLES = ("eot", "bos", "pad", "unk")
BOUNDARY_ROLES = {"eot-last": "eot", "bos-first": "bos"}
"""The special token that each boundary policy needs."""
Share = Annotated[float, Field(strict=False, ge=0)]
Epochs = Annotated[float, Field(strict=False, gt=0)]
MOST_EPOCHS = 100_000
"""So that a cap in tokens stays a 64-bit number."""


class TokenizerTrain(Model):
    """A tokenizer trained on a sample of the surviving documents."""

    type: Literal["unigram", "bpe", "byte_bpe"] = Field(
        "unigram",
        description="unigram and bpe: SentencePiece models; byte_bpe: a tokenizer.json, which tiktoken runs several "
        "times as fast",
    )
    vocabulary: int = Field(32_000, ge=300, le=1_000_000, description="number of pieces")
    sample_bytes: int = Field(100_000_000, ge=1_000, description="UTF-8 bytes of text to train on, at most")
    weights: dict[str, Annotated[float, Field(strict=False, ge=0)]] = Field(
        {}, description="share of the sample by source; empty: as the documents come"
    )
    character_coverage: float = Field(
        0.9995,
        ge=0.98,
        le=1,
        description="share of characters that get pieces of their own, 0.98 to 1; not for byte_bpe",
    )


class Prefix(Model):
    """Lines `name: value` before each text, as tokens that a trainer can leave out of the loss (`prefix_tokens`)."""

    columns: list[Pattern] = Field(
        min_length=1,
        description="what they tell, in this order: host, source, date, language, or a column that a stage wrote, "
        "such as the topic of `classify`; a document without a value has no such line",
    )


class Tokenizer(Model):
    """A tokenizer: trained on this corpus, or by file, told by what the file holds."""

    train: TokenizerTrain | None = Field(None, description="train one on this corpus")
    file: str | None = Field(
        None, description="a SentencePiece .model, a tokenizer.json of Hugging Face, or a rank file of tiktoken"
    )
    pattern: str | None = Field(
        None,
        description="how a tiktoken file's text is cut into words: gpt2, r50k, p50k, cl100k, o200k, or a regular "
        "expression",
    )
    special: dict[str, Annotated[int, Field(ge=0, lt=1 << 31)]] = Field(
        {}, description="special tokens of a tiktoken file with their ids; empty: those of the pattern's encoding"
    )
    eot: str | None = Field(None, description="the file's special token at the end of a text; none: by usual names")
    bos: str | None = Field(None, description="its special token at the beginning of a text")
    pad: str | None = Field(None, description="its special token that fills up")
    unk: str | None = Field(None, description="its token for what has no token")
    prefix: Prefix | None = Field(None, description="metadata before each text; left out: none")

    @property
    def roles(self) -> dict[str, str]:
        """The special tokens that the user named, by role."""
        return {role: name for role in TOKEN_ROLES if (name := getattr(self, role)) is not None}

    @property
    def prefix_columns(self) -> list[str]:
        """The columns that stand before each text."""
        return self.prefix.columns if self.prefix else []

    @model_validator(mode="after")
    def _one_of_two(self) -> Tokenizer:
        if (self.train is None) == (self.file is None):
            raise ValueError("give either `train` or `file`")
        given = [name for name in ("pattern", "special", *TOKEN_ROLES) if getattr(self, name)]
        if given and self.file is None:
            raise ValueError(f"`{given[0]}` is about a `file`; one that is trained has its own special tokens")
        return self


class Mixture(Model):
    """How much of each group of documents goes into the training split; exact to the document.

    Without shares, groups come as they are, or by temperature: a group of n tokens has a share in proportion to
    n^(1/temperature) (Conneau et al. 2020, Unsupervised Cross-lingual Representation Learning at Scale, section 3.1),
    and what the caps keep a group from taking is spread over the others (Chung et al. 2023, UniMax).
    """

    tokens: int | None = Field(None, ge=1, description="tokens of the training split; none: as many as there are")
    by: list[Pattern] = Field(
        ["source"],
        min_length=1,
        description="what groups the documents: source, language, host, cluster_size, or a column that a stage wrote; "
        "of several, a group is called as en/books is",
    )
    buckets: dict[str, Annotated[list[Annotated[float, Field(strict=False)]], Field(min_length=1)]] = Field(
        {},
        description="edges that cut a column of numbers into groups, ascending: [0.3, 0.6] makes <0.3, 0.3-0.6, >=0.6",
    )
    shares: dict[str, Share] = Field(
        {},
        description="share of the tokens by group, adding up to 1; '*': all groups not named, together; empty: as the "
        "documents come",
    )
    temperature: float = Field(
        1.0, gt=0, le=1000, strict=False, description="of groups without a share of their own; 1: as they come"
    )
    max_epochs: Epochs | dict[str, Epochs] = Field(
        4.0, description="most copies of a document, fractions allowed; or by group, '*' for those not named (4)"
    )

    @field_validator("max_epochs", mode="before")
    @classmethod
    def _number_or_groups(cls, value: Any) -> Any:
        """Said in one sentence, and not in one for each of the two."""
        for limit in value.values() if isinstance(value, dict) else [value]:
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= MOST_EPOCHS:
                raise ValueError(
                    f"give a number above 0, or one for each group, as in {{web: 2, books: 8}}; at most {MOST_EPOCHS:,}"
                )
        return value

    @field_validator("by")
    @classmethod
    def _once_each(cls, by: list[str]) -> list[str]:
        if len(set(by)) < len(by):
            raise ValueError("a column stands twice")
        return by

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, edges in buckets.items():
            if any(not a < b for a, b in itertools.pairwise([-math.inf, *edges, math.inf])):
                raise ValueError(f"the edges of '{name}' do not ascend")
        return buckets


class Shards(Model):
    """The token files."""

    layout: Literal["mixed", "by_source"] = Field(
        "mixed",
        description="mixed: the mixture is in the files, globally shuffled; by_source: every document once, one set of "
        "files a group of the mixture, which the loader weighs",
    )
    tokens_per_shard: int = Field(100_000_000, ge=1_000, le=100_000_000, description="most tokens in a file")
    validation: float = Field(0.005, ge=0, lt=1, strict=False, description="share of registered domains held out")
    splits: dict[str, Annotated[float, Field(strict=False, ge=0, lt=1)]] = Field(
        {}, description="further splits that are held out, by name, such as test: 0.01"
    )
    boundary: Literal["eot-last", "bos-first"] = Field("eot-last", description="how a document is bounded")

    @property
    def held_out(self) -> dict[str, float]:
        """The share of each split but `train`, in the order in which they draw."""
        return {"validation": self.validation} | self.splits

    @field_validator("splits")
    @classmethod
    def _names(cls, splits: dict[str, float]) -> dict[str, float]:
        for name in splits:
            if name == "train":
                raise ValueError("`train` is what no other split takes")
            if name == "validation":
                raise ValueError("the share of `validation` stands under shards.validation")
            if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", name) is None:
                raise ValueError(f"'{name}' is no name for files: letters, digits, '_' and '.'")
        return splits

    @model_validator(mode="after")
    def _some_left(self) -> Shards:
        if sum(self.held_out.values()) >= 1:
            raise ValueError("the shares of validation and splits add up to 1 or more: nothing is left to train on")
        return self
