"""How many stop words of its own language a text has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.kernels import inline, njit
from stages.quality.count import START, mixed
from stages.quality.phrases import folded_codes
from stages.segmenters import Cuts, goes_on, none
from stages.slots import slot_of, table
from stages.text import characters
from stages.text.characters import CONNECTOR, JOINER, LETTER, MARK, NUMBER, SPACELESS
from stages.text.column import Ints, Texts
from stages.text.utf8 import Bytes, code_at, width
from stages.words import is_spaceless


class _Tables(NamedTuple):
    """The words of all languages as hash tables behind each other."""

    keys: npt.NDArray[np.uint64]
    numbers: npt.NDArray[np.int32]
    """Number of the word in its language, from 1; 0 for an empty slot."""
    first: Ints
    """Per language: where its table begins."""
    size: Ints
    longest: Ints
    """Code points of its longest word that is looked for inside of text without spaces; 0 where there is none."""


class StopWords:
    """Lists of stop words by language.

    A word between blanks is a term (`stages.words.words`) of the text; one in a script without spaces is looked for at
    each character, or as whole words where a segmenter cut them. Both sides are folded code point by code point (NFKC
    and case; what only folds together with its neighbours stays).
    """

    def __init__(self, lists: Mapping[str, Sequence[str]]) -> None:
        self.languages = {language: number for number, language in enumerate(sorted(lists))}
        folded = [sorted({_folded(word) for word in lists[language]}) for language in self.languages]
        tables = [table({_hash(word): number for number, word in enumerate(words, 1)}) for words in folded]
        sizes = [len(keys) for keys, _ in tables]
        longest = [max((len(word) for word in words if is_spaceless(word)), default=0) for words in folded]
        self._tables = _Tables(
            np.concatenate([*(keys for keys, _ in tables), np.zeros(0, np.uint64)]),
            np.concatenate([*(numbers for _, numbers in tables), np.zeros(0, np.int32)]),
            *(np.array(part, np.int64) for part in (np.cumsum([0, *sizes])[:-1], sizes, longest)),
        )

    def rows(self, languages: pa.Array, fallback: str = "") -> Ints:
        """For each row the number of its language's list, -1 where there is none."""
        cache: dict[str | None, int] = {}
        for language in set(languages.to_pylist()):
            base = (language or fallback).lower().replace("_", "-").split("-")[0]
            cache[language] = self.languages.get(base, -1)
        return np.array([cache[language] for language in languages.to_pylist()], np.int64)

    def count(self, view: Texts, lists: Ints, cuts: Cuts | None = None) -> Ints:
        """Different stop words of each text; 0 where there is no list. `lists` as `rows` gives them."""
        found = np.zeros(len(lists), np.int64)
        most = int(self._tables.numbers.max(initial=0)) + 1
        _count(
            view.data, view.offsets, characters.classes(), characters.folds_alone(), lists,
            *(cuts or none(len(lists))), *self._tables, most, found,
        )  # fmt: skip
        return found


def read_stop_words(data: bytes) -> StopWords:
    """The lists of a JSON file by language. Raises ValueError where the file is something else."""
    try:
        lists = json.loads(data)
    except ValueError as error:
        raise ValueError(f"the file of stop words is no JSON: {error}") from error
    if not isinstance(lists, dict) or not all(
        isinstance(entries, list) and all(isinstance(entry, str) and entry for entry in entries)
        for entries in lists.values()
    ):
        raise ValueError("the file of stop words should be a JSON object of language code to list of words")
    return StopWords(lists)


def _folded(word: str) -> str:
    return "".join(map(chr, folded_codes(word)))


def _hash(word: str) -> int:
    value = int(START)
    for character in word:
        value = (value ^ ord(character)) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 29
    return value


@inline
def _is_new(keys: Any, numbers: Any, first: int, size: int, key: Any, seen: Ints, row: int) -> bool:
    """Whether this is a stop word that the row did not have before."""
    number = numbers[slot_of(keys, numbers, first, size, key)]
    if not number or seen[number] == row + 1:
        return False
    seen[number] = row + 1
    return True


@njit
def _count(
    data: Bytes, offsets: Ints, classes: Any, folds: Any, lists: Ints, cuts: Ints, cut_starts: Ints, keys: Any,
    numbers: Any, first: Ints, size: Ints, longest: Ints, most: int, found: Ints,
) -> None:  # fmt: skip
    seen = np.zeros(most, np.int64)  # the row in which a word was last seen, plus one
    for row in range(len(lists)):
        language = lists[row]
        if language < 0:
            continue
        reach = longest[language]
        begin, end = offsets[row], offsets[row + 1]
        at = begin
        cut, last_cut = cut_starts[row], cut_starts[row + 1]
        joined = False  # the character before belongs to a word of a script without spaces
        inside = False
        value = START
        while at <= end:
            code = 10 if at == end else code_at(data, at)
            kind = 0 if at == end else classes[code]
            folded = folds[code]
            if inside and kind & (LETTER | NUMBER | CONNECTOR | MARK | JOINER) and not (
                kind & SPACELESS and kind & LETTER
            ):  # fmt: skip
                value = mixed(value, folded)
            else:
                if inside:
                    found[row] += _is_new(keys, numbers, first[language], size[language], value, seen, row)
                inside = kind & (LETTER | NUMBER | CONNECTOR) != 0 and kind & SPACELESS == 0
                value = mixed(START, folded)
            if at == end:
                break
            onward = False
            if joined and cut < last_cut and kind & SPACELESS and kind & (LETTER | NUMBER):
                cut, onward = goes_on(cuts, cut, last_cut, at - begin)
            joined = (kind & SPACELESS != 0 and kind & (LETTER | NUMBER) != 0) or (joined and kind & MARK != 0)
            if reach and kind & SPACELESS and not onward:
                ahead = at
                further = cut
                inner = START
                for _ in range(reach):
                    if ahead == end:
                        break
                    inner = mixed(inner, folds[code_at(data, ahead)])
                    ahead += width(data[ahead])
                    if further < last_cut and ahead < end:
                        follows = classes[code_at(data, ahead)]
                        if follows & SPACELESS and follows & (LETTER | NUMBER):
                            further, onward = goes_on(cuts, further, last_cut, ahead - begin)
                        if onward or follows & MARK:
                            onward = False
                            continue
                    found[row] += _is_new(keys, numbers, first[language], size[language], inner, seen, row)
            at += width(data[at])
