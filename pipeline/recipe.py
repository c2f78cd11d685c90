"""Recipes: one YAML file says the whole run, and is checked in full before any work.

A recipe is validated against pydantic models here and against the stages' own fields. What does not hold
is reported at once, every problem with its key, its value and the nearest right one.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline import limited
from pipeline.errors import RecipeError, UserError, nearest
from pipeline.formats import FIELDS, FORMATS, FormatName, by_ending, missing
from pipeline.settings import apply_change, explain, listed, load_yaml
from pipeline.storage.address import is_remote, local_path, option_problems
from stages.base import Stage
from stages.registry import STAGES, find, make

TOKEN_ROLES = ("eot", "bos", "pad", "unk")
BOUNDARY_ROLES = {"eot-last": "eot", "bos-first": "bos"}
"""The special token that each boundary policy needs."""
READ_LABEL = "read"
HOST_LABEL = "host"
DEDUP_LABEL = "dedup"
SUBSTRINGS_LABEL = "substrings"
NOT_SAMPLED = "not_sampled"
"""The reader's count of records that a trial run's sample left out."""


class Model(BaseModel):
    """Base of the recipe's sections: unknown keys are errors, values are not bent into other types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Pattern = Annotated[str, Field(min_length=1)]
Patterns = Pattern | list[Pattern]


class Input(Model):
    """One source of records."""

    source: str = Field(pattern=r"^[\w.-]+$", description="name of the source, as mixture and report call it")
    path: Patterns | None = Field(
        None,
        description="glob(s) of files, relative to the recipe's folder (or, failing that, to the working folder); or "
        "any address that fsspec knows, as s3://bucket/crawl/*.warc.gz",
    )
    list: Patterns | None = Field(
        None, description="instead of `path`: file(s), gzip or plain, of any address, that name a file a line"
    )
    base: Pattern | None = Field(None, description="for `list`: the folder or address that its lines lie below")
    format: FormatName | None = Field(
        None, description=f"what the files are: {', '.join(FORMATS)}; left out: what the file's ending says"
    )
    fields: dict[str, str] = Field({}, description="for tables: our name (text, url, date, title, language) to theirs")
    options: dict[str, str] = Field({}, description="settings of the format, such as `delimiter` of csv")
    generation: int = Field(
        0,
        ge=0,
        description="age of the crawl for deduplication: documents of a lower one are never lost to higher ones",
    )
    allow_incomplete: bool = Field(
        False, description="whether empty files and files cut off at their end are fine; else the run ends with code 3"
    )

    @model_validator(mode="after")
    def _path_or_list(self) -> Input:
        if (self.path is None) == (self.list is None):
            raise ValueError("give either `path` or `list`")
        if (self.list is None) != (self.base is None):
            raise ValueError("`list` and `base` go together")
        if self.list is not None and self.format is None:
            raise ValueError("`list` needs a `format`")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Its globs and addresses."""
        return (self.path,) if isinstance(self.path, str) else tuple(self.path or ())

    @property
    def lists(self) -> tuple[str, ...]:
        """Its lists of files."""
        return (self.list,) if isinstance(self.list, str) else tuple(self.list or ())

    @property
    def formats(self) -> set[str]:
        """The formats of its files as far as the recipe says: by `format`, else by the endings of its paths."""
        if self.format is not None:
            return {self.format}
        return {found for path in self.paths if (found := by_ending(path))}


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
        None, description="folder that remembers the documents of earlier crawls, and gets those of this run"
    )


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


Share = Annotated[float, Field(strict=False, ge=0)]
Epochs = Annotated[float, Field(strict=False, gt=0)]
MOST_EPOCHS = 100_000
"""So that a cap in tokens stays a 64-bit number."""


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


class Band(Model):
    """The share of the records entering a stage that it may drop."""

    drop: tuple[
        Annotated[float, Field(strict=False, ge=0, le=1)], Annotated[float, Field(strict=False, ge=0, le=1)]
    ] = Field(strict=False, description="least and most share of the entering records that may be dropped")

    @field_validator("drop")
    @classmethod
    def _ascending(cls, drop: tuple[float, float]) -> tuple[float, float]:
        if drop[0] > drop[1]:
            raise ValueError(f"the least, {drop[0]}, is above the most, {drop[1]}")
        return drop


class Recipe(Model):
    """A whole run."""

    name: str = Field(pattern=r"^[\w.-]+$", description="name of the run; its folder is refused to other recipes")
    inputs: list[Input] = Field(min_length=1, description="where the records come from")
    stages: list[dict[str, dict[str, Any] | None]] = Field([], description="document-local stages, in order")
    host: Host | None = Field(None, description="what recurs on the pages of a host")
    dedup: Dedup | None = Field(None, description="which documents are the same")
    tokenizer: Tokenizer | None = Field(None, description="text to tokens")
    mixture: Mixture | None = Field(None, description="how much of each source")
    shards: Shards | None = Field(None, description="the token files; needs a tokenizer")
    pins: str | None = Field(
        None, description="pins.json of a run to be reproduced: documents that met its limits are dropped untried"
    )
    storage: dict[str, dict[str, Any]] = Field(
        {}, description="options of remote inputs by protocol, as s3: {anon: true}; secrets stay in the environment"
    )
    expect: dict[str, Band] = Field({}, description="bands of drop rates by stage; a run that leaves one stops")
    seed: int = Field(0, ge=0, lt=2**63, description="key of all choices by chance")

    @field_validator("stages", mode="before")
    @classmethod
    def _bare_names(cls, stages: Any) -> Any:
        """`- normalize` is short for `- normalize: {}`."""
        if not isinstance(stages, list):
            return [] if stages is None else stages
        return [{item: {}} if isinstance(item, str) else item for item in stages]

    @field_validator("expect", mode="before")
    @classmethod
    def _none_is_empty(cls, expect: Any) -> Any:
        return {} if expect is None else expect

    @property
    def sources(self) -> list[str]:
        """The names of the sources, in the order of the inputs."""
        return list(dict.fromkeys(item.source for item in self.inputs))

    def chain(self) -> list[tuple[str, Stage]]:
        """The stages with their labels: the name, numbered from the second use on (`emoji`, `emoji-2`)."""
        return [(label, make(kind, settings)) for label, kind, settings, _ in self._labelled()]

    def sources_of(self) -> dict[str, list[str]]:
        """The sources of the stages that are not for all of them, by label."""
        return {label: list(sources) for label, _, _, sources in self._labelled() if sources is not None}

    def _labelled(self) -> Iterator[tuple[str, type[Stage], dict[str, Any], Any]]:
        """Each stage's label, class, own settings and `sources`."""
        seen: dict[str, int] = {}
        for item in self.stages:
            ((name, settings),) = item.items()
            kind = find(name)
            seen[kind.name] = seen.get(kind.name, 0) + 1
            label = kind.name if seen[kind.name] == 1 else f"{kind.name}-{seen[kind.name]}"
            yield label, kind, *limited.taken_apart(kind, settings)

    def labels(self) -> list[str]:
        """What may stand under `expect`."""
        host = [HOST_LABEL] if self.host else []
        cut = [SUBSTRINGS_LABEL] if self.dedup and self.dedup.substrings else []
        return [READ_LABEL, *(label for label, _ in self.chain()), *host, DEDUP_LABEL, *cut]


def read_recipe(path: Path, changes: list[str] | None = None, *, bind: bool = True) -> Recipe:
    """The recipe in a YAML file, with `--set` changes applied. Raises RecipeError naming every problem.

    Without `bind`, stages of ours are not tried on their files: the nursery of a run does it.
    """
    data = load_yaml(path, "recipe")
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is no recipe: it should be a mapping with `name`, `inputs` and `stages`")
    for change in changes or []:
        apply_change(data, change)
    data.setdefault("name", path.stem)
    return check(data, str(path), path.parent, bind=bind)


def check(data: dict[str, Any], where: str, folder: Path, *, bind: bool = True) -> Recipe:
    """The recipe that `data` describes, its paths made absolute (relative to `folder`)."""
    problems: list[str] = []
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(listed(where, explain(error, Recipe))) from error
    problems += _stage_problems(recipe, folder, bind=bind)
    if not problems:
        problems += _cross_problems(recipe)
    if problems:
        raise RecipeError(listed(where, problems))
    return _absolute(recipe, folder)


def _stage_problems(recipe: Recipe, folder: Path, *, bind: bool) -> list[str]:
    problems = []
    for number, item in enumerate(recipe.stages):
        if len(item) != 1:
            problems.append(f"stages[{number}]: one stage an item, as in `- normalize: {{}}`; found {sorted(item)}")
            continue
        ((name, settings),) = item.items()
        try:
            kind = find(name)
        except ValueError as error:
            problems.append(f"stages[{number}]: {error}")
            continue
        bound = bind or name not in STAGES
        own, sources = limited.taken_apart(kind, settings)
        problems += [f"stages.{name}.{problem}" for problem in limited.problems(sources, recipe.sources)]
        problems += [f"stages.{problem}" for problem in stage_problems(kind, name, own, folder, bind=bound)]
    return problems


def stage_problems(
    kind: type[Stage], name: str, settings: dict[str, Any], folder: Path, *, bind: bool = True
) -> list[str]:
    """What is wrong with one stage: its settings, missing packages and files and, to `bind` it, their contents."""
    from importlib.metadata import PackageNotFoundError, version

    from pipeline.resources import load, places

    try:
        stage = make(kind, settings)
    except ValidationError as error:
        return [f"{name}.{problem}" if problem[0] != ":" else f"{name}{problem}" for problem in explain(error, kind)]
    problems = []
    for package in kind.packages:
        try:
            version(package)
        except PackageNotFoundError:
            extra = f"pip install 'corpusmill[{kind.extra}]'" if kind.extra else f"pip install {package}"
            problems.append(f"{name}: needs the package {package}, which is not installed: {extra}")
    if not problems:
        try:
            if bind:
                stage.bind(load(stage.files(), folder))
            else:
                places(stage.files(), folder)
        except (RecipeError, ValueError) as error:
            problems.append(f"{name}: {error}")
    return problems


def _cross_problems(recipe: Recipe) -> list[str]:
    problems = option_problems(recipe.storage)
    sources = recipe.sources
    chain = recipe.chain()
    only = recipe.sources_of()
    extracts = [only.get(label, sources) for label, stage in chain if stage.name == "extract"]
    for source in dict.fromkeys(item.source for item in recipe.inputs if item.formats & {"warc", "arc"}):
        if not any(source in found for found in extracts):
            what = f"add `{source}` to the sources of extract" if extracts else "add `- extract: {}`"
            problems.append(f"stages: inputs of '{source}' are warc, but no stage turns their HTML into text; {what}")
    for number, item in enumerate(recipe.inputs):
        problems += [f"inputs[{number}].{problem}" for problem in _format_problems(item)]
    if recipe.shards and not recipe.tokenizer:
        problems.append("shards: need a `tokenizer` section")
    if recipe.mixture and not recipe.shards:
        problems.append("mixture: needs a `shards` section")
    train = recipe.tokenizer.train if recipe.tokenizer else None
    for name in train.weights if train else {}:
        if name not in sources:
            problems.append(f"tokenizer.train.weights.{name}: no input has this source.{nearest(name, sources)}")
    if recipe.mixture:
        problems += _mixture_problems(recipe.mixture, sources)
    dedup = recipe.dedup
    if dedup and dedup.index is not None and is_remote(dedup.index):
        problems.append(f"dedup.index: {dedup.index}: an index is a folder of this machine, whose files are mapped")
    if dedup and dedup.index is not None and len({item.generation for item in recipe.inputs}) > 1:
        problems.append("dedup.index: a run adds one crawl at a time; give its inputs one `generation`, or none")
    for name in recipe.host.repeated_lines.sources if recipe.host else ():
        if name not in sources:
            problems.append(f"host.repeated_lines.sources: no input has the source '{name}'.{nearest(name, sources)}")
    labels = recipe.labels()
    for name in recipe.expect:
        if name not in labels:
            problems.append(f"expect.{name}: the recipe has no such stage.{nearest(name, labels)}")
    return problems


def _mixture_problems(mixture: Mixture, sources: list[str]) -> list[str]:
    """What can be told of groups before the documents are there: sources and buckets are known, hosts are not."""
    problems = [
        f"mixture.buckets.{name}: mixture.by does not name this column.{nearest(name, mixture.by)}"
        for name in mixture.buckets
        if name not in mixture.by
    ]
    known = [_known_groups(name, mixture, sources) for name in mixture.by]
    limits = mixture.max_epochs if isinstance(mixture.max_epochs, dict) else {}
    for section, names in (("shares", mixture.shares), ("max_epochs", limits)):
        for name in names:
            values = name.split("/") if len(known) > 1 else [name]
            if name == "*" or len(values) != len(known):
                continue
            for value, groups, column in zip(values, known, mixture.by, strict=True):
                if groups and value not in groups:
                    what = "no input has this source" if column == "source" else f"{column} has no bucket '{value}'"
                    problems.append(f"mixture.{section}.{name}: {what}.{nearest(value, groups)}")
    if mixture.shares:
        total = sum(mixture.shares.values())
        if abs(total - 1) > 1e-6:
            problems.append(f"mixture.shares: they add up to {total:g}, not to 1")
        if mixture.by == ["source"] and "*" not in mixture.shares:
            problems += [
                f"mixture.shares: the source '{name}' is not named; give it 0 to leave it out"
                for name in sources
                if name not in mixture.shares
            ]
    if mixture.temperature != 1 and mixture.shares and not mixture.shares.get("*"):
        problems.append(
            "mixture.temperature: is for groups without a share of their own; give '*' a share, or none any"
        )
    return problems


def _known_groups(column: str, mixture: Mixture, sources: list[str]) -> list[str]:
    """The groups that a column makes, as far as the recipe alone says."""
    if column == "source":
        return sources
    if column in mixture.buckets:
        from pipeline.grouping import NONE, bucket_names  # brings the tokenizers

        return [*bucket_names(mixture.buckets[column]), NONE]
    return []


def _format_problems(item: Input) -> list[str]:
    """What does not fit the format of an input: its name, its fields and options, packages that are not there."""
    problems = [f"fields.{key}: no such field.{nearest(key, FIELDS)}" for key in item.fields if key not in FIELDS]
    for name in sorted(item.formats):
        known = FORMATS[name]
        if item.fields and not known.mapped:
            problems.append(f"fields: format {name} has no fields to map")
        elif known.mapped:
            other = [key for key in item.fields if key in FIELDS and key not in known.mapped]
            problems += [f"fields.{key}: format {name} maps {', '.join(known.mapped)} alone" for key in other]
        for key in item.options:
            if key not in known.options:
                hint = nearest(key, known.options) or " It has none."
                problems.append(f"options.{key}: format {name} has no such option.{hint}")
        if lacking := missing(name):
            problems.append(f"format: {lacking}")
    return problems


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    data = recipe.model_dump(mode="json")
    for item in data["inputs"]:
        for key in ("path", "list", "base"):
            if isinstance(item[key], str):
                item[key] = _rooted(item[key], folder)
            elif item[key] is not None:
                item[key] = [_rooted(path, folder) for path in item[key]]
    if recipe.tokenizer and recipe.tokenizer.file is not None:
        data["tokenizer"]["file"] = _tokenizer_file(recipe, _rooted(recipe.tokenizer.file, folder))
    if recipe.pins is not None:
        data["pins"] = _pins_file(recipe, _rooted(recipe.pins, folder))
    return Recipe.model_validate(data)


def _tokenizer_file(recipe: Recipe, file: str) -> str:
    """The user's model, opened once so that a broken one stops before any work."""
    from pipeline.tokenizers import Options, open_file

    if not Path(file).is_file():
        raise RecipeError(f"tokenizer.file: there is no file {file}")
    settings = recipe.tokenizer
    assert settings is not None
    try:
        special = open_file(file, Options(settings.pattern, settings.special, settings.roles)).special
    except UserError as error:
        known = str(error).startswith("tokenizer.")
        raise RecipeError(str(error) if known else f"tokenizer.file: {error}") from error
    if recipe.shards and BOUNDARY_ROLES[recipe.shards.boundary] not in special:
        role = BOUNDARY_ROLES[recipe.shards.boundary]
        raise RecipeError(f"shards.boundary: {recipe.shards.boundary} needs a tokenizer with {role}; {file} has none")
    return file


def _pins_file(recipe: Recipe, file: str) -> str:
    """The user's pins, read once so that a broken file stops before any work."""
    from pipeline.pins import read

    guarded = [label for label, stage in recipe.chain() if stage.limits() is not None]
    try:
        other = next((pin.stage for pin in read(Path(file)) if pin.stage not in guarded), None)
    except RecipeError as error:
        raise RecipeError(f"pins: {error}") from error
    if other is not None:
        raise RecipeError(f"pins: {file} pins documents of stage '{other}', which has no limits here or is not there")
    return file


def _rooted(path: str, folder: Path) -> str:
    path = local_path(path)
    if is_remote(path) or Path(path).is_absolute():
        return path
    for root in (folder.resolve(), Path.cwd()):
        if next(glob.iglob(str(root / path), recursive=True), None) is not None:
            return os.path.normpath(root / path)
    return os.path.normpath(folder.resolve() / path)
