"""The formats that a recipe's inputs may have: their names, file endings, options and what they need installed.

Kept apart from the readers, so that a recipe is checked before their libraries are imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from pipeline.errors import RecipeError
from stages.releases import release

COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".lz4")
"""Endings that say how a file is packed, not what it is. The content decides, not the ending."""

FIELDS = ("text", "url", "title", "date", "language")
"""What `fields` of an input may map."""

FormatName = Literal[
    "warc", "arc", "wet", "jsonl", "json", "parquet", "arrow", "csv", "tsv",
    "text", "markdown", "tex", "epub", "pdf", "datasets",
]  # fmt: skip
"""What `format` of an input may be: the keys of FORMATS."""

_NONE: Mapping[str, str] = MappingProxyType({})


class Format(NamedTuple):
    """A format by the name that recipes use."""

    name: str
    endings: tuple[str, ...]
    """File endings that stand for it where a recipe names no format."""
    about: str
    mapped: tuple[str, ...] = ()
    """Which of FIELDS `fields` may map."""
    options: Mapping[str, str] = _NONE
    """What `options` may set, with its meaning."""
    packages: tuple[str, ...] = ()
    """Distributions that its reader calls beside those of every run; part of the resume key."""
    extra: str | None = None
    """The extra of corpusmill that brings `packages`, where the base installation does not."""
    version: int = 1
    """Raised when the reader gives other records for the same bytes; part of the resume key."""


_CHARSET = "charset of the file, such as gb18030; found out where it is not given"
_TABLE = {"charset": _CHARSET, "delimiter": "the character between two fields"}
_PACKED = ("brotli", "isal", "lz4", "zstandard")
_METADATA = ("url", "title", "date", "language")

FORMATS: Mapping[str, Format] = {
    item.name: item
    for item in (
        Format("warc", (".warc",), "crawls: WARC, and ARC where the file is that", packages=_PACKED, version=2),
        Format("arc", (".arc",), "crawls of older days: as warc", packages=_PACKED),
        Format("wet", (".wet",), "texts of a crawl: WET", packages=_PACKED, version=2),
        Format("jsonl", (".jsonl", ".ndjson", ".jsonlines"), "an object a line", FIELDS),
        Format("json", (".json",), "an array of objects, or one object; else as jsonl", FIELDS),
        Format("parquet", (".parquet",), "tables, by row group", FIELDS),
        Format(
            "arrow", (".arrow", ".arrows", ".feather", ".ipc"), "tables, by record batch: IPC file or stream", FIELDS
        ),
        Format("csv", (".csv",), "tables with a header row; newlines inside quotes", FIELDS, _TABLE),
        Format("tsv", (".tsv", ".tab"), "as csv, with tabs", FIELDS, {"charset": _CHARSET}),
        Format("text", (".txt", ".text"), "a file is a document", (), {"charset": _CHARSET}),
        Format(
            "markdown",
            (".md", ".markdown", ".mdx"),
            "a file is a document; its front matter (YAML or TOML) is metadata",
            _METADATA,
            {"charset": _CHARSET},
            ("pyyaml",),
        ),
        Format(
            "tex",
            (".tex", ".ltx"),
            "LaTeX: a file is a document, without preamble and comments",
            (),
            {"charset": _CHARSET},
        ),
        Format("epub", (".epub",), "a book is a document: its chapters in order", (), _NONE, ("lxml", "resiliparse")),
        Format("pdf", (".pdf",), "a file is a document: its pages in order", (), _NONE, ("pypdfium2",), "pdf"),
        Format(
            "datasets",
            (),
            "Hugging Face datasets on this disk: a folder of save_to_disk, or what load_dataset reads",
            FIELDS,
            {
                "split": "the split, where there are several",
                "builder": "for single files: the builder that load_dataset takes, such as json, csv or xml",
                "config": "the configuration of a folder that has several",
            },
            ("datasets",),
            "datasets",
        ),
    )
}

assert set(FORMATS) == set(get_args(FormatName))


def by_ending(path: str) -> str | None:
    """The format that a file's ending stands for, one ending of compression set aside; None for an unknown one."""
    name = path.lower().rstrip("/")
    for packed in COMPRESSED:
        name = name.removesuffix(packed) if name.endswith(packed) else name
    return next((item.name for item in FORMATS.values() if name.endswith(item.endings)), None) if name else None


def missing(name: str) -> str | None:
    """What to install before a format can be read, as a sentence; None where it is all there."""
    item = FORMATS[name]
    for package in item.packages:
        try:
            release(package)
        except PackageNotFoundError:
            extra = f"pip install 'corpusmill[{item.extra}]'" if item.extra else f"pip install {package}"
            return f"format {name} needs the package {package}, which is not installed: {extra}"
    return None


def versions(name: str) -> dict[str, str]:
    """The releases of the libraries that only this format's reader calls. Raises RecipeError where one is missing."""
    problem = missing(name)
    if problem:
        raise RecipeError(problem)
    return {package: release(package) for package in FORMATS[name].packages}
