"""Segmenters: where a word ends in scripts without spaces, by a library or by a function of the user's.

Without one each character of such a script is a word (`stages.words`). Everything else is cut by the rules that hold
without a segmenter too, so that it decides on nothing but those characters.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import regex

from stages.importing import imported
from stages.kernels import inline
from stages.releases import release
from stages.rows import strings
from stages.text.column import Ints, Texts
from stages.words import SPACELESS

EXTRA = "segmenters"
"""The extra of corpusmill that brings the packages of `KNOWN`."""

Segment = Callable[[str], Iterable[str]]
"""From a text to its words in their order. It may leave out what is no letter, and must change nothing."""


class _Known(NamedTuple):
    """A segmenter that corpusmill knows by name."""

    package: str
    languages: tuple[str, ...]
    make: Callable[[str], Segment]


def _icu(language: str) -> Segment:
    from icu4py.breakers import WordBreaker

    return lambda text: WordBreaker(text, language)


def _jieba(language: str) -> Segment:
    from rjieba import Jieba

    own = Jieba()  # not the one of the module, which others may add words to
    return lambda text: own.cut(text, True)


KNOWN = {
    "icu": _Known("icu4py", ("zh", "yue", "wuu", "ja", "th", "lo", "km", "my"), _icu),
    "jieba": _Known("rjieba", ("zh", "yue", "wuu"), _jieba),
}
"""ICU's dictionaries (Unicode-3.0) for every script that needs them; jieba's dictionary and hidden Markov model (MIT),
in Rust, for Chinese: three times as fast, with longer words."""

_PROBE = "ไทย abc 北京，東京。\n"
_LEFT_OUT = regex.compile(rf"[^[{SPACELESS}]&&[\p{{L}}\p{{N}}]]*", regex.V1)


def check(named: Mapping[str, str]) -> None:
    """Raises ValueError where a setting (language to name or import path) cannot be meant. Imports nothing."""
    for language, name in named.items():
        if not regex.fullmatch("[a-z]{2,3}", language):
            raise ValueError(f"segmenter: '{language}' is no code of a language; codes are ISO 639-1, such as zh or th")
        if name not in KNOWN:
            if "." in name or ":" in name:
                continue
            raise ValueError(
                f"segmenter.{language}: there is no segmenter '{name}'. Known: {', '.join(KNOWN)}, "
                "or the import path of a function (package.module:function)"
            )
        if language not in KNOWN[name].languages:
            raise ValueError(
                f"segmenter.{language}: '{name}' cuts no text in '{language}', but in "
                + ", ".join(KNOWN[name].languages)
            )


def ready(named: Mapping[str, str]) -> None:
    """Loads the segmenters. Raises ValueError where one cannot be imported, or gives no words of a text."""
    for language, name in named.items():
        try:
            words = list(_loaded(name, language)(_PROBE))
        except ValueError as error:
            raise ValueError(f"segmenter.{language}: {error}") from None
        except Exception as error:  # a user's function may fail in any way
            raise ValueError(f"segmenter.{language}: '{name}' fails: {type(error).__name__}: {error}") from error
        if not all(isinstance(word, str) for word in words) or not _ends(_PROBE, words)[1]:
            raise ValueError(
                f"segmenter.{language}: '{name}' should give the words of a text in their order, and makes "
                f"{words!r:.80} of {_PROBE!r}"
            )


def versions(named: Mapping[str, str]) -> dict[str, str]:
    """What the words hang on, for resume keys: releases of packages, and the file that a user's function is in."""
    found: dict[str, str] = {}
    for name in sorted(set(named.values())):
        if name in KNOWN:
            found[KNOWN[name].package] = release(KNOWN[name].package)
            if name == "icu":
                import icu4py

                found["icu"] = str(icu4py.icu_version)
            continue
        function = imported(name, "segmenter")
        module = inspect.getmodule(function)
        top = (module.__name__ if module else name).partition(".")[0]
        for package in sorted(set(importlib.metadata.packages_distributions().get(top, ()))):
            found[package] = release(package)
        file = getattr(module, "__file__", None)
        if file:
            found[name] = hashlib.blake2b(Path(file).read_bytes(), digest_size=8).hexdigest()
    return found


@functools.cache
def _loaded(name: str, language: str) -> Segment:
    if name not in KNOWN:
        found = imported(name, "segmenter")
        if not callable(found):
            raise ValueError(f"'{name}' is no function")
        return found
    try:
        return KNOWN[name].make(language)
    except ImportError as error:
        raise ValueError(
            f"'{name}' needs the package {KNOWN[name].package}, which is not installed: "
            f"pip install 'corpusmill[{EXTRA}]'"
        ) from error


class Cuts(NamedTuple):
    """Where words end or begin in n texts: those of text i are `places[starts[i]:starts[i + 1]]`."""

    places: Ints
    """Bytes from the start of the text, ascending. Behind the last one each character is a word."""
    starts: Ints
    """n + 1 places in `places`."""


def none(rows: int) -> Cuts:
    """Of texts without a segmenter: each character of a script without spaces is a word."""
    return Cuts(np.zeros(0, np.int64), np.zeros(rows + 1, np.int64))


def names(batch: pa.RecordBatch, named: Mapping[str, str]) -> list[tuple[str, str]]:
    """For each row its segmenter and its language; ("", "") where the language has none."""
    if not named:
        return [("", "")] * batch.num_rows
    bases = [(code or "").lower().replace("_", "-").partition("-")[0] for code in strings(batch, "language")]
    return [(named[base], base) if base in named else ("", "") for base in bases]


def cuts(view: Texts, chosen: Sequence[tuple[str, str]]) -> Cuts:
    """The cuts of each text, whose segmenter and language `names` gives."""
    found: list[Ints] = []
    sizes = np.zeros(len(chosen) + 1, np.int64)
    for row, (name, language) in enumerate(chosen):
        data = view.data[view.offsets[row] : view.offsets[row + 1]]
        if not name or not len(data):
            continue
        text = data.tobytes().decode()
        try:
            places, _ = _ends(text, list(_loaded(name, language)(text)))
        except Exception as error:
            error.add_note(f"in the segmenter '{name}'")
            raise
        found.append(np.append(np.flatnonzero(data & 0xC0 != 0x80), len(data))[places])
        sizes[row + 1] = len(places)
    return Cuts(np.concatenate([*found, np.zeros(0, np.int64)]), np.cumsum(sizes))


def _ends(text: str, words: Sequence[str]) -> tuple[Ints, bool]:
    """Where words end or begin, in characters, and whether all were found; else up to the first that was not."""
    if "".join(words) == text:
        return np.cumsum([len(word) for word in words], dtype=np.int64), True
    places: list[int] = []
    at, gap = 0, -1  # what may be left out reaches to `gap`: all but letters of scripts without spaces
    for word in words:
        if not text.startswith(word, at):
            if gap < at:
                gap = _LEFT_OUT.match(text, at).end()
            begin = text.find(word, at, gap + len(word))
            if begin < 0 or begin > gap:
                return np.array(places, np.int64), False
            places.append(begin)
            at = begin
        at += len(word)
        places.append(at)
    return np.array(places, np.int64), _LEFT_OUT.fullmatch(text, at) is not None


@inline
def goes_on(places: Any, cut: int, last: int, at: int) -> tuple[int, bool]:
    """Whether a word of a script without spaces goes on at a character, which lies `at` bytes from the text's start.

    `cut` is the first of the text's cuts, up to `last`, that may lie here or behind; what to ask with next comes back.
    """
    while cut < last and places[cut] < at:
        cut += 1
    return cut, cut < last and places[cut] != at
