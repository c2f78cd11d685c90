"""Clean text of other kinds than posts, split by source file: what is tested on shares none with what is trained on."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import regex

from pipeline.train_toxicity.posts import bucket

Part = Literal["train", "choose", "test"]
KINDS = ("encyclopedia", "books", "latex", "science", "code", "docs", "docs_zh", "poetry", "links", "sentences")
_KIND = {
    "books": "books", "encyclopedia_12": "encyclopedia", "encyclopedia_en": "encyclopedia", "code_python": "code",
    "docs_en": "docs", "docs_es": "docs", "docs_fr": "docs", "docs_ja": "docs", "docs_zh": "docs_zh",
    "science_zh": "docs_zh", "poetry_zh": "poetry", "web_links": "links",
}  # fmt: skip
_BOOKS: dict[str, Part] = {
    "en_moby_dick_2701": "train",
    "en_les_miserables_135": "train",
    "en_war_and_peace_2600": "train",
    "es_don_quijote_2000": "train",
    "en_tinyshakespeare": "choose",
    "1342_pride_and_prejudice": "test",
    "en_sherlock_holmes_1661": "test",
    "en_ulysses_4300": "test",
}


_ENDS = regex.compile(r"(?<=[.!?؟।])\s+|(?<=[。！？])|\n+")
_UNITS = regex.compile(r"\p{Script=Han}{2}|[\p{L}--\p{Script=Han}]+", regex.V1)


class Clean(NamedTuple):
    """A clean text."""

    kind: str
    part: Part
    """What it is for; `choose`: the threshold is chosen on it."""
    language: str
    text: str


def clean(data: Path) -> Iterator[Clean]:
    """The texts of `data`/text, and `sentences`.

    A source is a whole book; an article of the encyclopedia, in all its languages; a page of documentation or a
    chapter, in all its languages and editions; a file of code; a poem. Four tenths are trained on, two tenths serve to
    choose the threshold, four tenths are only tested on: books as listed here, the others by a hash of the source.
    """
    for path in sorted((data / "text").glob("*.jsonl.gz")):
        name = path.name.partition(".")[0]
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                kind = _KIND.get(name) or ("latex" if "latex" in row["id"] else "science")
                source = source_of(name, row["id"])
                place = bucket(source, 10)
                part: Part = "test" if place < 4 else "choose" if place < 6 else "train"
                yield Clean(kind, _BOOKS[source] if kind == "books" else part, row["lang"], row["text"])
    yield from sentences(data)


def sentences(data: Path) -> Iterator[Clean]:
    """Sentences of news in 128 languages, from `data`/langid; the same of them for training in all languages."""
    numbers: Counter[str] = Counter()
    with gzip.open(data / "langid/ntrex_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            number = numbers[row["lang"]]
            numbers[row["lang"]] += 1
            yield Clean(
                "sentences", "train" if number < 30 else "choose" if number < 40 else "test", row["lang"], row["text"]
            )


def passages(text: str) -> list[str]:
    """The sentences and lines of a text that have at least five words, or ten Chinese characters."""
    return [part for part in map(str.strip, _ENDS.split(text)) if len(_UNITS.findall(part)) >= 5]


def source_of(name: str, identity: str) -> str:
    """The source of a text of the file `name`, by its id."""
    if name == "books":
        return identity.rsplit("-", 1)[0]
    if name == "encyclopedia_12":
        return str(regex.sub(r"^[a-z]+-|-\d+$", "", identity))
    if name.startswith("docs_"):
        return str(regex.sub(r"^docs_[a-z_]*/", "", identity))
    if name.startswith("science"):
        return str(regex.sub(r"(_origin)?\.\w+$", "", identity.split("/", 1)[1]))
    return identity
