"""Lists of identity terms and of what is commonly said of people, and where texts hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.bias import kernels
from stages.lookup import Keys, keys
from stages.text.characters import classes
from stages.text.column import texts
from stages.text.hashed_words import fitting, folded
from stages.words import fold

Ints = npt.NDArray[np.int64]

GROUPS = (
    "gender", "race", "religion", "nationality", "age", "disability", "orientation", "class", "appearance",
)  # fmt: skip
"""The groups of CrowS-Pairs (Nangia et al. 2020, section 2); `race` is also color, `class` socioeconomic status."""

_NO_KEYS = Keys(np.zeros(3, np.uint32), np.zeros(0, np.uint64), np.zeros(0, np.uint64), 63, np.zeros(4, np.uint8))
_SAME = {"yue": "zh", "wuu": "zh"}
MOST_WORDS = 60


class Lists(NamedTuple):
    """All lists, ready for matching."""

    keys: Keys
    most: int
    """Words of the longest phrase."""
    endings: npt.NDArray[np.uint64]
    """See `kernels.phrases`."""
    names: tuple[str, ...]
    """Subgroups, such as `gender.female`; bit b of a mask is subgroup b."""
    terms: Ints
    """(phrases,) subgroups that it names."""
    said: Ints
    """(phrases,) subgroups that it is commonly said of."""
    languages: Mapping[str, int]
    swaps: Mapping[int, str]
    """Phrase number to what is put in its place."""

    def of(self, language: str | None) -> int:
        """The number of the list for a language, -1 where there is none."""
        code = (language or "").lower().replace("_", "-").split("-")[0]
        return self.languages.get(_SAME.get(code, code), -1)


class Hits(NamedTuple):
    """Where texts hold phrases, ascending by row and place."""

    rows: Ints
    numbers: Ints
    words: Ints
    """Which word of the text it begins with."""
    spans: Ints
    """(n, 2) bytes; of the folded text where that is `refolded`."""
    refolded: npt.NDArray[np.bool_]


def read(sources: Sequence[tuple[str, bytes]]) -> Lists:
    """The lists of files as (name, JSON): by language `terms` and `stereotypes` by subgroup, `not` (phrases that are
    none), `swap`.

    Raises ValueError, with the file's name, where one is in another form.
    """
    names: list[str] = []
    languages: dict[str, int] = {}
    meaning: dict[tuple[int, str], list[int]] = {}
    swaps: dict[tuple[int, str], str] = {}
    for file, data in sources:
        for code, kind, group, phrases in _entries(file, data):
            language = languages.setdefault(code, len(languages))
            if kind in ("terms", "stereotypes") and group not in names:
                names.append(group)
            bit = 1 << names.index(group) if group in names else 0
            for phrase in phrases:
                meaning.setdefault((language, fold(phrase)), [0, 0])[kind == "stereotypes"] |= bit
            if kind == "swap":
                first, second = phrases
                for one, other in ((first, second), (second, first)):
                    swaps.setdefault((language, fold(one)), other)
    if len(names) > 62:
        raise ValueError(f"{len(names)} subgroups, more than 62")
    entries = list(meaning)
    number = len(entries)
    numbers = np.array([language for language, _ in entries], np.int64)
    column = pa.array([phrase for _, phrase in entries], pa.string())
    view = texts(column)
    whole, lengths, lasts = np.zeros((number, 2), np.uint64), np.zeros(number, np.int64), np.zeros(number, np.uint64)
    endings = np.zeros(kernels.ENDINGS, np.uint64)
    kernels.phrases(
        view.data, view.offsets, numbers, folded(), classes(), MOST_WORDS, *_NO_KEYS, endings,
        np.zeros(number, np.bool_), lengths, whole, lasts, np.zeros((0, 5), np.int64),
    )  # fmt: skip
    if number and (lengths < 1).any():
        raise ValueError(f"the phrase {entries[int(np.argmin(lengths))][1]!r} has no word")
    if number and lengths.max() > MOST_WORDS:
        raise ValueError(f"the phrase {entries[int(np.argmax(lengths))][1]!r} has more than {MOST_WORDS} words")
    np.bitwise_or.at(endings, lasts >> kernels.ENDING, np.uint64(1) << lengths.astype(np.uint64))
    table, (order, starts) = keys(whole[:, 0].copy(), whole[:, 1].copy())
    masks = np.array(list(meaning.values()), np.int64).reshape(-1, 2)[order]
    merged = np.bitwise_or.reduceat(masks, starts, axis=0) if number else masks
    place = {int(entry): at for at, entry in enumerate(np.searchsorted(starts, np.arange(number), "right") - 1)}
    del place
    of_entry = np.empty(number, np.int64)
    of_entry[order] = np.searchsorted(starts, np.arange(number), "right") - 1
    swapped = {int(of_entry[at]): swaps[entry] for at, entry in enumerate(entries) if entry in swaps}
    return Lists(
        table, int(lengths.max(initial=1)), endings, tuple(names), merged[:, 0], merged[:, 1], languages, swapped
    )  # fmt: skip


def _entries(file: str, data: bytes) -> list[tuple[str, str, str, list[str]]]:
    """(language, kind, subgroup, phrases) of one file."""
    found: list[tuple[str, str, str, list[str]]] = []
    try:
        lists = json.loads(data)
        for code, kinds in lists.items():
            for kind, content in kinds.items():
                if kind in ("terms", "stereotypes"):
                    for group, phrases in content.items():
                        if group.partition(".")[0] not in GROUPS:
                            raise ValueError(f"no such group: {group!r}; it begins with one of {', '.join(GROUPS)}")
                        found.append((code, kind, group, [str(phrase) for phrase in phrases]))
                elif kind == "not":
                    found.append((code, kind, "", [str(phrase) for phrase in content]))
                elif kind == "swap":
                    found += [(code, kind, "", [str(one), str(other)]) for one, other in content]
                else:
                    raise ValueError(f"no such kind: {kind!r}; one of terms, stereotypes, not, swap")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no list of identity terms: {error}") from None
    return found


def match(column: pa.Array, languages: Ints, lists: Lists) -> Hits:
    """The phrases of the lists that texts of these languages (numbers in `lists`) hold."""
    view = texts(column)
    hits, unfit = _match(view.data, view.offsets, languages, fitting(), lists)
    rows = np.flatnonzero(unfit)
    if len(rows):
        again = texts(pa.array([fold(text) for text in column.take(pa.array(rows)).to_pylist()], pa.string()))
        more, _ = _match(again.data, again.offsets, languages[rows], folded(), lists)
        more[:, 0] = rows[more[:, 0]]
        hits = np.concatenate([hits, more])
        hits = hits[np.argsort(hits[:, 0], kind="stable")]
    return Hits(hits[:, 0], hits[:, 1], hits[:, 2], hits[:, 3:], unfit)


def _match(
    data: npt.NDArray[np.uint8], offsets: Ints, languages: Ints, letters: npt.NDArray[np.uint32], lists: Lists
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    number = len(offsets) - 1
    unfit, lengths = np.zeros(number, np.bool_), np.zeros(number, np.int64)
    whole, lasts = np.zeros((number, 2), np.uint64), np.zeros(number, np.uint64)
    room = 4096
    while True:
        hits = np.empty((room, 5), np.int64)
        found = kernels.phrases(
            data,
            offsets,
            languages,
            letters,
            classes(),
            lists.most,
            *lists.keys,
            lists.endings,
            unfit,
            lengths,
            whole,
            lasts,
            hits,
        )
        if found <= room:
            return hits[:found], unfit
        room = int(offsets[-1] - offsets[0]) + 1  # more than there can be, as hits give way to longer ones


def stereotypes(hits: Hits, lists: Lists, reach: int, rows: int) -> npt.NDArray[np.int32]:
    """(rows,) phrases that stand no more than `reach` words from a term of a subgroup that they are said of."""
    said, terms = lists.said[hits.numbers], lists.terms[hits.numbers]
    near = np.zeros(len(said), np.bool_)
    for step in range(1, min(reach, len(said) - 1) + 1):  # hits do not overlap: no more than `reach` lie so near
        close = (hits.rows[step:] == hits.rows[:-step]) & (hits.words[step:] - hits.words[:-step] <= reach)
        if not close.any():
            break
        near[step:] |= close & (said[step:] & terms[:-step] != 0)
        near[:-step] |= close & (said[:-step] & terms[step:] != 0)
    return np.bincount(hits.rows[near], minlength=rows).astype(np.int32)
