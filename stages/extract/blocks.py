"""What a page's blocks are made of: their tokens and characters, the elements around them, the words of their classes.

Everything here is counted from one page alone and is an integer. `features.py` makes a matrix of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.extract.attributes import add_words, attribute, equal, holds, text
from stages.extract.characters import CLASSES, LOWER
from stages.extract.said import PAGE_HASHES, has, said, trigram
from stages.extract.scan import CLOSE, IS_VOID, OPEN, TAG_NUMBER, TEXT, TRAITS, Bytes, Events
from stages.extract.tokens import (
    BREAKS,
    CODED,
    COUNTS,
    DESCRIBED,
    DIGEST,
    ESCAPED,
    IMAGES,
    LINKED,
    LINKS,
    STRESSED,
    TITLED,
    TOKENS,
    TRIGRAMS,
    add_tokens,
)
from stages.kernels import njit

_A, _BR, _IMG = (TAG_NUMBER[name] for name in "a br img".split())
_STRESS = np.zeros(256, np.bool_)
_CODE = np.zeros(256, np.bool_)
for _name in "b strong em i u mark".split():
    _STRESS[TAG_NUMBER[_name]] = True
for _name in "code kbd samp tt pre var".split():
    _CODE[TAG_NUMBER[_name]] = True
_INLINE_NAMES = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr q ruby s samp small span "
    "strike strong sub sup time tt u var math"
).split()
_IS_INLINE = np.zeros(256, np.bool_)
for _name in _INLINE_NAMES:
    _IS_INLINE[TAG_NUMBER[_name]] = True
_WORDED = tuple(map(text, ("class", "id", "itemprop", "role", "itemtype", "aria-label", "data-testid", "rel")))
_HIDING = tuple(map(text, ("hidden", "aria-hidden", "style")))
_DISPLAY_NONE, _DISPLAY_NONE_SPACED = map(text, ("display:none", "display: none"))
_TRUE = text("true")
_WORDS_AN_ELEMENT = 24  # that many are read; the tag comes to them
_COLUMNS = len(COUNTS)


class Blocks(NamedTuple):
    """A page of B blocks, T tokens, E shown elements and W words of attributes."""

    token: npt.NDArray[np.uint32]
    """T hashes of the tokens (see `word_hash`): words in small letters; single characters where a script has no
    blanks between words."""
    token_block: npt.NDArray[np.int32]
    """T block numbers, ascending."""
    counts: npt.NDArray[np.int32]
    """B rows of COUNTS."""
    element: npt.NDArray[np.int32]
    """B numbers of the element that holds the block: the innermost one that is not inline."""
    tag: npt.NDArray[np.uint8]
    parent: npt.NDArray[np.int32]
    depth: npt.NDArray[np.int32]
    hidden: npt.NDArray[np.bool_]
    """E each: tag number, number of the parent (-1 for the root), depth, and whether it is marked as hidden."""
    first: npt.NDArray[np.int32]
    last: npt.NDArray[np.int32]
    """E each: the blocks that begin in the element are those from `first` up to, not including, `last`."""
    word: npt.NDArray[np.uint32]
    word_start: npt.NDArray[np.int32]
    """The words of element e's class, id, role and such are `word[word_start[e] : word_start[e + 1]]`."""
    page: npt.NDArray[np.int32]
    """How often each of PAGE_WORDS occurs in `og:type` and JSON-LD."""


def read(events: Events) -> Blocks:
    """Counts what features are made of."""
    return Blocks(
        *_read(
            events.html, events.kind, events.tag, events.start, events.end, events.block, events.blocks,
            CLASSES, LOWER, PAGE_HASHES, TRAITS,
        )
    )  # fmt: skip


@njit
def _read(
    html: Bytes, kind: Bytes, tag: Bytes, start: npt.NDArray[np.int32], end: npt.NDArray[np.int32],
    block: npt.NDArray[np.int32], blocks: int, classes: Bytes, lower: npt.NDArray[np.uint16],
    page_hashes: npt.NDArray[np.uint32], traits: Bytes,
) -> Any:  # fmt: skip
    title, described, page = said(html, kind, tag, start, end, classes, lower, page_hashes)
    opens = room = attributes = 0
    for i in range(len(kind)):
        if kind[i] == OPEN:
            opens += 1
            attributes += min(end[i] - start[i], _WORDS_AN_ELEMENT) + 1
        elif kind[i] == TEXT and block[i] >= 0:
            room += end[i] - start[i] + 1
    token = np.empty(room, np.uint32)
    token_block = np.empty(room, np.int32)
    counts = np.zeros((blocks, _COLUMNS), np.int32)
    element = np.zeros(blocks, np.int32)
    el_tag = np.zeros(opens, np.uint8)
    parent = np.full(opens, -1, np.int32)
    depth = np.zeros(opens, np.int32)
    hidden = np.zeros(opens, np.bool_)
    first = np.zeros(opens, np.int32)
    last = np.zeros(opens, np.int32)
    word = np.empty(attributes, np.uint32)
    word_start = np.zeros(opens + 1, np.int32)
    elements = words = count = 0
    here = -1  # the innermost open element
    links = stressed = coded = 0
    seen = 0  # blocks begun
    new_link = False
    for i in range(len(kind)):
        if kind[i] == OPEN:
            if tag[i] == _IMG or tag[i] == _BR:
                if seen:
                    counts[seen - 1, IMAGES if tag[i] == _IMG else BREAKS] += 1
                continue
            if traits[tag[i]] & IS_VOID:
                continue
            e = elements
            elements += 1
            el_tag[e] = tag[i]
            parent[e] = here
            depth[e] = depth[here] + 1 if here >= 0 else 0
            first[e] = seen
            at = start[i]
            most = words + _WORDS_AN_ELEMENT
            concealed = False
            while at < end[i]:
                name, name_end, value, stop, at = attribute(html, at, end[i])
                letter = html[name] if name < end[i] else 0
                if letter == 99 and equal(html, name, name_end, _WORDED[0]):
                    words = add_words(html, value, stop, 0, word, words, most)
                elif letter == 105 and equal(html, name, name_end, _WORDED[1]):
                    words = add_words(html, value, stop, 1, word, words, most)
                elif letter == 105 and equal(html, name, name_end, _WORDED[2]):
                    words = add_words(html, value, stop, 2, word, words, most)
                elif letter == 114 and equal(html, name, name_end, _WORDED[3]):
                    words = add_words(html, value, stop, 3, word, words, most)
                elif letter == 105 and equal(html, name, name_end, _WORDED[4]):
                    words = add_words(html, value, stop, 4, word, words, most)
                elif letter == 97 and equal(html, name, name_end, _WORDED[5]):
                    words = add_words(html, value, stop, 5, word, words, most)
                elif letter == 100 and equal(html, name, name_end, _WORDED[6]):
                    words = add_words(html, value, stop, 6, word, words, most)
                elif letter == 104 and equal(html, name, name_end, _HIDING[0]):
                    concealed = True
                elif letter == 97 and equal(html, name, name_end, _HIDING[1]):
                    concealed = concealed or equal(html, value, stop, _TRUE)
                elif letter == 115 and equal(html, name, name_end, _HIDING[2]):
                    concealed = (
                        concealed or holds(html, value, stop, _DISPLAY_NONE)
                        or holds(html, value, stop, _DISPLAY_NONE_SPACED)
                    )  # fmt: skip
            hidden[e] = concealed or (here >= 0 and hidden[here])
            word[words] = np.uint32(tag[i] + 1)  # the tag itself is a word
            words += 1
            word_start[e + 1] = words
            here = e
            if tag[i] == _A:
                links += 1
                new_link = True
            stressed += _STRESS[tag[i]]
            coded += _CODE[tag[i]]
        elif kind[i] == CLOSE:
            if here >= 0:
                last[here] = seen
                links -= tag[i] == _A
                stressed -= _STRESS[tag[i]]
                coded -= _CODE[tag[i]]
                here = parent[here]
        elif block[i] >= 0:
            b = block[i]
            if b >= seen:
                seen = b + 1
                e = here
                while e >= 0 and _IS_INLINE[el_tag[e]]:
                    e = parent[e]
                element[b] = max(e, 0)
            row = counts[b]
            before = count
            count = add_tokens(html, start[i], end[i], ESCAPED, classes, lower, token, count, row)
            row[TOKENS] += count - before
            if links:
                row[LINKED] += count - before
                row[LINKS] += new_link
                new_link = False
            if stressed:
                row[STRESSED] += count - before
            if coded:
                row[CODED] += count - before
            for k in range(before, count):
                token_block[k] = b
                row[DIGEST] = np.int32(np.uint32((np.uint32(row[DIGEST]) ^ token[k]) * np.uint32(16777619)))
                row[TITLED] += has(title, token[k])
                if k >= 2 and token_block[k - 2] == b:
                    row[TRIGRAMS] += 1
                    row[DESCRIBED] += has(described, trigram(token[k - 2], token[k - 1], token[k]))
    while here >= 0:
        last[here] = seen
        here = parent[here]
    return (
        token[:count], token_block[:count], counts, element, el_tag[:elements], parent[:elements], depth[:elements],
        hidden[:elements], first[:elements], last[:elements], word[:words], word_start[: elements + 1], page,
    )  # fmt: skip
