"""Which maker a tokenizer's file needs: told by what it holds, not by its name."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import DamageError, UserError
from pipeline.tokenizers.base import Options, Tokenizer

FACTS = "tokenizer/facts.json"
"""Beside the tokenizer of a run folder: what it is, and how it is opened."""
REPORT = "tokenizer/report.json"
"""What it makes of a sample of the corpus: see `report`."""
PACKAGES = {
    "sentencepiece": ("sentencepiece",),
    "huggingface": ("tokenizers", "tiktoken"),
    "tiktoken": ("tiktoken",),
}
"""The distributions whose releases decide on tokens, by kind of tokenizer."""
_NO_FILE = {
    b"<!doctype": "a page of HTML",
    b"<html": "a page of HTML",
    b"version https://git-lfs": "a pointer of Git LFS",
}
"""What a download that failed begins with."""
_RANK_LINE = re.compile(rb"\s*[A-Za-z0-9+/]+={0,2}[ \t]+\d+\s")


def from_bytes(
    data: bytes, name: str = "the tokenizer", options: Options | None = None, engine: dict[str, Any] | None = None
) -> Tokenizer:
    """The tokenizer in a file. Raises UserError where it is none, or the options do not fit it."""
    options = options or Options()
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    for begins, what in _NO_FILE.items():
        if start.lower().startswith(begins):
            raise UserError(f"{name} is {what}, not a tokenizer: download it again")
    if start[:1] == b"{":
        from pipeline.tokenizers.huggingface import HuggingFace

        _refuse(options, name, "a tokenizer.json")
        return HuggingFace(data, name, options, engine)
    if _RANK_LINE.match(data[:4096]):
        from pipeline.tokenizers.bpe import Tiktoken

        return Tiktoken(data, name, options, engine)
    from pipeline.tokenizers.sentencepiece import SentencePiece

    _refuse(options, name, "a SentencePiece model")
    try:
        return SentencePiece(data, name, options)
    except UserError as error:
        if "is no SentencePiece model" in str(error):
            raise UserError(f"{error}; nor is it a Hugging Face tokenizer.json or a tiktoken file") from error
        raise


def open_file(path: str | Path, options: Options | None = None) -> Tokenizer:
    """The tokenizer of a file. Raises UserError where it cannot be read or is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer.file: {path} cannot be read: {error.strerror}") from error
    return from_bytes(data, str(path), options)


def open_folder(folder: Path) -> Tokenizer:
    """The tokenizer of a run folder, or of what was published of it. Raises UserError where there is none."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{folder} has no tokenizer: there is no {FACTS}") from error
    except (OSError, ValueError) as error:
        raise DamageError(f"{path} cannot be read: {error}") from error
    return opened(folder, facts)


def opened(folder: Path, facts: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that these facts (`Tokenizer.facts`) are of. Raises DamageError where its file is another."""
    return open_facts(folder / facts["file"], facts)


def open_facts(path: Path, facts: Mapping[str, Any]) -> Tokenizer:
    """As `opened`, of a file that lies at `path`."""
    return _opened(path, json.dumps({name: facts[name] for name in ("digest", "options", "engine")}))


@functools.lru_cache(maxsize=2)
def _opened(path: Path, facts: str) -> Tokenizer:
    known = json.loads(facts)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is gone; without it tokens are numbers only") from error
    tokenizer = from_bytes(data, str(path), Options(**known["options"]), known["engine"])
    if tokenizer.digest != known["digest"]:
        raise DamageError(f"{path} is not the tokenizer that the ledger names; run `corpusmill verify`")
    return tokenizer


def _refuse(options: Options, name: str, what: str) -> None:
    for key in ("pattern", "special"):
        if getattr(options, key):
            raise UserError(f"tokenizer.{key}: {name} is {what}, which says this itself; {key} is for tiktoken files")
