"""Word lists held against a whole batch: whole words and phrases, entries inside of words, and masked spellings."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex

from stages.kernels import inline, njit
from stages.lookup import SEED_1, step_1
from stages.slots import Hashes, slot_of, table
from stages.text import characters
from stages.text.characters import HANGUL, KATAKANA, LETTER, MARK, NUMBER
from stages.text.column import Ints, Texts, texts
from stages.text.confusables import GONE
from stages.text.hashed_words import fitting, folded, word_at
from stages.text.utf8 import Bytes, code_at, width
from stages.words import fold, is_spaceless, words

_INSIDE = regex.compile(r"^\p{Hangul}{2,}")
_ANY, _NO_MARK, _NO_KATAKANA = 0, 1, 2  # what may not follow an entry that is looked for inside of words
_LATIN = regex.compile(r"[a-zÀ-ɏḀ-ỿ]{4,}")
_STAR = ord("*")


class _Tables(NamedTuple):
    """All lists behind each other, each with hash tables of its own."""

    slots: Hashes
    """Hash of a first word, of an entry inside of words, or of a masked spelling."""
    what: npt.NDArray[np.int32]
    """What a slot leads to, from 1; 0 for an empty one."""
    tables: Ints
    """(lists, 3, 2): first slot and size of the tables of phrases, of entries inside of words, of masked spellings."""
    groups: Ints
    """(groups, 2): the phrases that begin with one word, the longest first."""
    phrases: Ints
    """n + 1 places in `parts`."""
    parts: Hashes
    """The words of the phrases."""
    inside: Ints
    """(entries, 4): words in it, what may not stand before (a class), what may not follow, its code points."""
    firsts: npt.NDArray[np.bool_]
    """(lists, 256): by the last eight bits of a code point, whether an entry inside of words may begin with it."""
    longest: Ints
    """Per list: code points of its longest entry inside of words."""


class WordLists:
    """Some word lists, compiled. Entries are compared after NFKC and case folding (`stages.words.fold`).

    An entry of words between blanks must match whole words, whatever stands between them. One in a script without
    spaces is looked for inside the text, a Korean one at the start of a word (particles follow). A katakana entry is
    no part of a longer katakana word. With `skeleton` (a table of `stages.text.confusables`, with `leet`) words in
    Latin script of four letters and more are found in masked spellings too: with letters of other scripts that look
    the same, digits and signs for letters (`sh1t`), letters starred out (`f**k`), repeated (`fuuuck`) or parted by
    characters without width.
    """

    def __init__(self, lists: Sequence[Iterable[str]], skeleton: npt.NDArray[np.uint32] | None = None) -> None:
        self.skeleton = skeleton
        builder = _Builder()
        for entries in lists:
            builder.add({fold(entry).strip() for entry in entries} - {""}, skeleton is not None)
        self.tables = builder.tables()

    def count(self, column: pa.Array, which: Ints) -> Ints:
        """For each text (matches, words in them, words in all): (n, 3). `which` is the list of a row, -1 for none."""
        found = np.zeros((len(column), 3), np.int64)
        view = texts(column)
        unfit = self._run(view, which, found, fitting(), characters.folds_alone())
        if unfit.any():  # to be folded as a whole: letters that are composed with their neighbours
            rows = np.flatnonzero(unfit)
            plain = pa.array([fold(column[row].as_py()) for row in rows.tolist()], pa.string())
            again = np.zeros((len(rows), 3), np.int64)
            self._run(texts(plain), which[rows], again, folded(), _as_is())
            found[rows] = again
        return found

    def _run(
        self, view: Texts, which: Ints, found: Ints, parts: npt.NDArray[np.uint32], letters: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.bool_]:
        unfit = np.zeros(len(which), np.bool_)
        classes = characters.classes()
        _count(view.data, view.offsets, which, parts, classes, letters, *self.tables, found, unfit)
        if self.skeleton is not None:
            own = (self.tables.slots, self.tables.what, self.tables.tables)
            _masked(view.data, view.offsets, which, classes, letters, self.skeleton, *own, found, unfit)
        return unfit


@functools.cache
def _as_is() -> npt.NDArray[np.uint32]:
    return np.arange(characters.CODES, dtype=np.uint32)


class _Builder:
    def __init__(self) -> None:
        self.slots: list[Hashes] = []
        self.what: list[npt.NDArray[np.int32]] = []
        self.places: list[list[tuple[int, int]]] = []
        self.groups: list[tuple[int, int]] = []
        self.ends = [0]
        self.parts: list[int] = []
        self.inside: list[tuple[int, int, int, int]] = []
        self.firsts: list[npt.NDArray[np.bool_]] = []
        self.longest: list[int] = []

    def add(self, entries: set[str], masked: bool) -> None:
        """One list."""
        whole = [tuple(words(entry)) for entry in sorted(entries) if _is_whole(entry)]
        parts = [entry for entry in sorted(entries) if not _is_whole(entry)]
        spelled = [one for phrase in whole if len(phrase) == 1 and masked for one in _masks(phrase[0])]
        of_words, of_strings = _hashed([*(word for phrase in whole for word in phrase), *parts, *spelled])
        first_words: dict[str, list[tuple[str, ...]]] = {}
        for phrase in whole:
            first_words.setdefault(phrase[0], []).append(phrase)
        inside: dict[int, int] = {}
        firsts = np.zeros(256, np.bool_)
        longest = 0
        for entry in parts:
            self.inside.append((max(len(words(entry)), 1), *_bounds(entry), len(entry)))
            inside[of_strings[entry]] = len(self.inside)
            firsts[ord(entry[0]) & 255] = True
            longest = max(longest, len(entry))
        groups = {}
        for word, phrases in first_words.items():
            start = len(self.ends) - 1
            for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase)):
                self.parts += [of_words[part] for part in phrase]
                self.ends.append(len(self.parts))
            self.groups.append((start, len(self.ends) - 1))
            groups[of_words[word]] = len(self.groups)
        spellings = {of_strings[one]: 1 for one in spelled}
        self.places.append([self._table(part) for part in (groups, inside, spellings)])
        self.firsts.append(firsts)
        self.longest.append(longest)

    def _table(self, entries: dict[int, int]) -> tuple[int, int]:
        slots, what = table(entries)
        start = sum(map(len, self.slots))
        self.slots.append(slots)
        self.what.append(what)
        return start, len(slots)

    def tables(self) -> _Tables:
        """The lists as kernels take them."""
        return _Tables(
            np.concatenate([*self.slots, np.zeros(0, np.uint64)]),
            np.concatenate([*self.what, np.zeros(0, np.int32)]),
            np.array(self.places, np.int64).reshape(-1, 3, 2),
            np.array(self.groups, np.int64).reshape(-1, 2),
            np.array(self.ends, np.int64),
            np.array(self.parts, np.uint64),
            np.array(self.inside, np.int64).reshape(-1, 4),
            np.array(self.firsts, np.bool_).reshape(-1, 256),
            np.array(self.longest, np.int64),
        )


def _hashed(strings: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    """For each string the hash of its first word, as `word_at` has it, and that of its code points."""
    each = sorted(set(strings))
    view = texts(pa.array(each, pa.string()))
    of_words, of_strings = np.zeros(len(each), np.uint64), np.zeros(len(each), np.uint64)
    _hash_all(view.data, view.offsets, folded(), characters.classes(), of_words, of_strings)
    return dict(zip(each, of_words.tolist(), strict=True)), dict(zip(each, of_strings.tolist(), strict=True))


def _bounds(entry: str) -> tuple[int, int]:
    """The class of what may not stand before an entry, and what may not follow it."""
    if regex.match(r"\p{Hangul}", entry):
        return HANGUL, _ANY
    before = KATAKANA if regex.match(r"[\p{Katakana}ー]", entry) else 0
    return before, _NO_KATAKANA if regex.search(r"[\p{Katakana}ー]$", entry) else _NO_MARK


def _is_whole(entry: str) -> bool:
    """Whether an entry must match whole words."""
    return bool(words(entry)) and not is_spaceless(entry) and not _INSIDE.match(entry)


def _masks(word: str) -> list[str]:
    """The word, and all ways to star out neighbouring letters inside of it; nothing for other words than Latin ones."""
    if not _LATIN.fullmatch(word):
        return []
    found = [word]
    for start in range(1, len(word) - 1):
        for end in range(start + 1, len(word)):
            found.append(word[:start] + "*" * (end - start) + word[end:])
    return found


@njit
def _hash_all(data: Bytes, offsets: Ints, letters: Any, classes: Any, of_words: Hashes, of_strings: Hashes) -> None:
    for row in range(len(of_words)):
        at, end = offsets[row], offsets[row + 1]
        _, _, _, of_words[row], _ = word_at(data, at, end, letters, classes)
        value = SEED_1
        while at < end:
            value = step_1(value, np.uint32(code_at(data, at)))
            at += width(data[at])
        of_strings[row] = value


@inline
def _find(slots: Hashes, what: Any, first: int, size: int, key: Any) -> Any:
    return np.int64(what[slot_of(slots, what, first, size, key)])


@njit
def _count(
    data: Bytes, offsets: Ints, which: Ints, letters: Any, classes: Any, folds: Any, slots: Hashes, what: Any,
    tables: Any, groups: Any, phrases: Ints, parts: Hashes, inside: Any, firsts: Any, longest: Ints, found: Any,
    unfit: Any,
) -> None:  # fmt: skip
    most = 1
    for row in range(len(which)):
        most = max(most, offsets[row + 1] - offsets[row] + 1)
    hashes = np.empty(most, np.uint64)
    for row in range(len(which)):
        at, end = offsets[row], offsets[row + 1]
        number = 0
        while at < end:
            start, at, _, first, _ = word_at(data, at, end, letters, classes)
            if start < 0:
                unfit[row] = True
                break
            if start < end:
                hashes[number] = first
                number += 1
        if unfit[row]:
            continue
        found[row, 2] = number
        own = which[row]
        if own < 0:
            continue
        index = 0
        while index < number:
            group = _find(slots, what, tables[own, 0, 0], tables[own, 0, 1], hashes[index])
            step = 1
            if group:
                for phrase in range(groups[group - 1, 0], groups[group - 1, 1]):
                    size = phrases[phrase + 1] - phrases[phrase]
                    same = index + size <= number
                    for place in range(1, size):
                        if same and hashes[index + place] != parts[phrases[phrase] + place]:
                            same = False
                    if same:
                        found[row, 0] += 1
                        found[row, 1] += size
                        step = size
                        break
            index += step
        if longest[own]:
            _inside(
                data, offsets[row], end, own, classes, folds, slots, what, tables, inside, firsts, longest, found, row
            )


@inline
def _inside(
    data: Bytes, at: int, end: int, own: int, classes: Any, folds: Any, slots: Hashes, what: Any, tables: Any,
    inside: Any, firsts: Any, longest: Ints, found: Any, row: int,
) -> None:  # fmt: skip
    """Counts entries inside of words, from left to right, the longest first."""
    behind = np.uint32(0)  # the class of what stands before
    while at < end:
        code = folds[code_at(data, at)]
        step = width(data[at])
        if firsts[own, code & np.uint32(255)]:
            ahead = at
            value = SEED_1
            best = 0
            stop = at
            for _ in range(longest[own]):
                if ahead >= end:
                    break
                value = step_1(value, folds[code_at(data, ahead)])
                ahead += width(data[ahead])
                entry = _find(slots, what, tables[own, 1, 0], tables[own, 1, 1], value)
                if entry and behind & np.uint32(inside[entry - 1, 1]) == 0:
                    after = classes[code_at(data, ahead)] if ahead < end else np.uint32(0)
                    bad = inside[entry - 1, 2]
                    if bad == 0 or (after & MARK == 0 and (bad == 1 or after & KATAKANA == 0)):
                        best, stop = entry, ahead
            if best:
                found[row, 0] += 1
                found[row, 1] += inside[best - 1, 0]
                while at < stop:
                    behind = classes[code_at(data, at)]
                    at += width(data[at])
                continue
        behind = classes[code_at(data, at)]
        at += step


@inline
def _is_sign(code: int) -> bool:
    """Whether it is written in place of letters: `! # * + @`; `$` counts as a letter."""
    return code == 33 or code == 35 or code == 42 or code == 43 or code == 64


@njit
def _masked(
    data: Bytes, offsets: Ints, which: Ints, classes: Any, folds: Any, skeleton: Any, slots: Hashes, what: Any,
    tables: Any, found: Any, unfit: Any,
) -> None:  # fmt: skip
    """Counts words in masked spellings: those that have something else in them than their letters."""
    for row in range(len(which)):
        own = which[row]
        if own < 0 or unfit[row]:
            continue
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            code = code_at(data, at)
            if not classes[code] & (LETTER | NUMBER) and code != 36:
                at += width(data[at])
                continue
            start = stop = at
            odd = between = False
            last, run = np.uint32(0), 0
            while at < end:
                code = code_at(data, at)
                sign = _is_sign(code)
                thin = skeleton[code] == GONE
                wordy = classes[code] & (LETTER | NUMBER | MARK) != 0 or code == 36
                if not wordy and not sign and not thin:
                    break
                at += width(data[at])
                run = run + 1 if folds[code] == last else 1
                last = folds[code]
                if wordy:
                    odd |= between or skeleton[code] != last or run == 3
                    stop = at  # signs behind the last letter are punctuation
                else:
                    between = True
            if odd and _is_masked(data, start, stop, own, classes, skeleton, slots, what, tables):
                found[row, 0] += 1
                found[row, 1] += 1


@inline
def _is_masked(
    data: Bytes, at: int, stop: int, own: int, classes: Any, skeleton: Any, slots: Hashes, what: Any, tables: Any
) -> Any:
    """Whether a word that is spelled oddly is one of the list: at least half of it must be letters."""
    letters = length = run = 0
    last = np.uint32(0)
    once, twice = SEED_1, SEED_1  # letters in a row taken once, and twice
    while at < stop:
        code = code_at(data, at)
        at += width(data[at])
        like = np.uint32(_STAR) if code == 42 or code == 35 else skeleton[code]
        if like == GONE:
            continue
        letters += classes[code] & LETTER != 0
        length += 1
        run = run + 1 if like == last and like != _STAR else 1
        last = like
        if run == 1:
            once = step_1(once, like)
        if run <= 2:
            twice = step_1(twice, like)
    if 2 * letters < length:
        return False
    first, size = tables[own, 2, 0], tables[own, 2, 1]
    return _find(slots, what, first, size, once) > 0 or _find(slots, what, first, size, twice) > 0
