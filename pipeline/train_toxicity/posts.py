"""The labelled posts: English, Chinese and German, split into what is trained on and what is only tested on."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import regex

csv.field_size_limit(1 << 24)


class Post(NamedTuple):
    """A labelled text."""

    name: str
    """Of its set."""
    test: bool
    toxic: bool
    text: str


LANGUAGES = {"cold": "zh", "germeval": "de"}
"""Of the sets that are not English."""
_NOISE = regex.compile(r"https?://\S+|@\w+|\bRT\b|&\w+;|&#\d+;|[\W_]+", regex.I)


def posts(data: Path) -> list[Post]:
    """All posts below `data`/toxicity, each text once: retweets and copies that differ in addresses and names would
    else be trained and tested on.

    The sets' own splits hold, development parts being trained on; of HateXplain only these two parts are there: the
    first is trained on. Davidson has none: a fifth, by a hash of the text, is for testing. Surge and the Wikipedia
    comments are tested on only.
    """
    found = sorted(_read(data / "toxicity"), key=lambda post: not post.test)  # a text of a test is in no training
    seen = set()
    kept = []
    for post in found:
        key = _NOISE.sub(" ", post.text).casefold().strip()
        if key not in seen:
            seen.add(key)
            kept.append(post)
    return kept


def bucket(text: str, number: int) -> int:
    """A number below `number`, by a hash of the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % number


def entries(data: Path) -> list[tuple[str, float]]:
    """Rude words and phrases of the English list surge-profanity, with their severity, 1 to 3."""
    with _open(data / "toxicity/surge-profanity/profanity_en.csv") as file:
        return [(row["text"], float(row["severity_rating"])) for row in csv.DictReader(file)]


def madlibs(data: Path) -> Iterator[tuple[bool, str]]:
    """The sentences of the unintended-bias templates, which are tested on only: hostile or not, and the text."""
    with _open(data / "toxicity/unintended-bias/bias_madlibs_77k.csv.gz") as file:
        for row in csv.DictReader(file):
            yield row["Label"] == "BAD", row["Text"]


def _read(data: Path) -> Iterator[Post]:
    for row in _rows(data / "davidson/labeled_data.csv.gz"):
        key = _NOISE.sub(" ", row["tweet"]).casefold().strip()
        yield Post("davidson", bucket(key, 5) == 0, row["class"] != "2", row["tweet"])
    for part in ("train", "dev", "test"):
        for row in _rows(data / f"cold/{part}.csv.gz"):
            yield Post("cold", part == "test", row["label"] == "1", row["TEXT"])
    for row in _rows(data / "edos/edos_labelled_aggregated.csv.gz"):
        yield Post("edos", row["split"] == "test", row["label_sexist"] == "sexist", row["text"])
    for part in ("val", "test"):
        with _open(data / f"hatexplain/hatexplain_{part}.jsonl") as file:
            for line in file:
                post = json.loads(line)
                yield Post("hatexplain", part == "test", post["label"] != "normal", post["text"])
    for part in ("training", "test"):
        with _open(data / f"germeval2018/germeval2018.{part}.txt.gz") as file:
            for line in file:
                text, label, _ = line.rstrip("\n").split("\t")
                yield Post("germeval", part == "test", label == "OFFENSE", text.replace("|LBR|", "\n"))
    for row in _rows(data / "surge-toxicity/toxicity_en.csv"):
        yield Post("surge", True, row["is_toxic"] == "Toxic", row["text"])
    for row in _rows(data / "unintended-bias/toxicity_fuzzed_testset.csv.gz"):
        yield Post("wikipedia", True, row["toxic"] == "True", row["comment"])


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with _open(path) as file:
        yield from csv.DictReader(file)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
