"""What a page's blocks are made of: their tokens and characters, the elements around them, the words of their classes.

Everything here is counted from one page alone and is an integer. `features.py` makes a matrix of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.extract.characters import CLASSES, COMMA, DIGIT, IDEOGRAPH, LETTER, LOWER, OTHER, STOP, SYMBOL
from stages.extract.scan import CLOSE, IS_VOID, OPEN, TAG_NUMBER, TEXT, TRAITS, Bytes, Events
from stages.kernels import inline, njit

COUNTS = (
    "tokens linked characters capitalised numbers stops commas symbols ends stressed images breaks coded links "
    "capital described trigrams titled digest"
).split()
"""The columns of `Blocks.counts`. `linked`, `stressed` and `coded` count tokens inside links, emphasis and code;
`ends` says whether the text ends a sentence, `capital` whether it begins with a capital letter; `described` counts
the trigrams of tokens that the page's own description or its JSON-LD holds too, `titled` the tokens that its
title holds; `digest` tells equal texts."""
(
    TOKENS, LINKED, CHARACTERS, CAPITALISED, NUMBERS, STOPS, COMMAS, SYMBOLS, ENDS, STRESSED, IMAGES, BREAKS, CODED,
    LINKS, CAPITAL, DESCRIBED, TRIGRAMS, TITLED, DIGEST,
) = range(len(COUNTS))  # fmt: skip

_A, _BR, _IMG, _META, _SCRIPT, _TITLE, _HEAD = (TAG_NUMBER[name] for name in "a br img meta script title head".split())
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


def word_hash(text: str) -> int:
    """The hash of a token as `Blocks.token` has it: FNV-1a over the code points of its small letters."""
    value = 2166136261
    for character in text.lower():
        value = ((value ^ ord(character)) * 16777619) & 0xFFFFFFFF
    return value


PAGE_WORDS = (
    "article newsarticle blogposting product discussionforumposting qapage question collectionpage itemlist faqpage "
    "recipe organization website breadcrumblist techarticle event jobposting localbusiness profile video"
).split()
"""Words of `og:type` and of JSON-LD's types whose presence is a figure of the page."""
_PAGE_HASHES = np.array([word_hash(word) for word in PAGE_WORDS], np.uint32)


def _text(name: str) -> Bytes:
    return np.frombuffer(name.encode(), np.uint8)


_NAME, _PROPERTY, _CONTENT, _TYPE = map(_text, ("name", "property", "content", "type"))
_DESCRIPTION, _OG_TYPE, _LD_JSON = map(_text, ("description", "og:type", "ld+json"))
_WORDED = tuple(map(_text, ("class", "id", "itemprop", "role", "itemtype", "aria-label", "data-testid", "rel")))
_HIDING = tuple(map(_text, ("hidden", "aria-hidden", "style")))
_DISPLAY_NONE, _DISPLAY_NONE_SPACED = map(_text, ("display:none", "display: none"))
_TRUE = _text("true")
_WORDS_AN_ELEMENT = 24


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
            CLASSES, LOWER, _PAGE_HASHES, TRAITS,
        )
    )  # fmt: skip


def tokens(text: str) -> npt.NDArray[np.uint32]:
    """The token hashes of a plain text, as `Blocks.token` would have them."""
    data = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    found = np.empty(len(data) + 1, np.uint32)
    row = np.zeros(len(COUNTS), np.int32)
    return found[: _tokens(data, 0, len(data), PLAIN, CLASSES, LOWER, found, 0, row)]


PLAIN, ESCAPED, JSON = 0, 1, 2


@inline
def _hex(byte: int) -> int:
    if 48 <= byte <= 57:
        return byte - 48
    byte |= 32
    return byte - 87 if 97 <= byte <= 102 else 0


@inline
def _tokens(
    data: Bytes, start: int, end: int, form: int, classes: Bytes, lower: npt.NDArray[np.uint16],
    found: npt.NDArray[np.uint32], count: int, row: npt.NDArray[np.int32],
) -> int:  # fmt: skip
    """Appends the hashes of a text's tokens to `found`, adds what its characters are to `row`; gives the new count."""
    at = start
    inside = False  # a word
    value = np.uint32(0)
    number = False
    ends = row[ENDS]
    begun = row[CHARACTERS] > 0
    while at < end:
        byte = data[at]
        code = np.int64(byte)
        step = 1
        if byte >= 0x80:
            if byte >= 0xF0 and at + 3 < end:
                code = (code & 7) << 18 | (data[at + 1] & 63) << 12 | (data[at + 2] & 63) << 6 | (data[at + 3] & 63)
                step = 4
            elif byte >= 0xE0 and at + 2 < end:
                code = (code & 15) << 12 | (data[at + 1] & 63) << 6 | (data[at + 2] & 63)
                step = 3
            elif at + 1 < end:
                code = (code & 31) << 6 | (data[at + 1] & 63)
                step = 2
        elif byte == 38 and form == 1:  # an entity: only &nbsp; is no symbol
            stop = at + 1
            while stop < end and stop < at + 6 and data[stop] != 59:
                stop += 1
            code = 32 if data[at + 1] == 110 else 38
            step = stop - at + 1
        elif byte == 92 and form == 2 and at + 1 < end:
            after = data[at + 1]
            step = 2
            code = 32
            if after == 117 and at + 5 < end:
                code = (
                    np.int64(_hex(data[at + 2])) << 12 | _hex(data[at + 3]) << 8 | _hex(data[at + 4]) << 4
                    | _hex(data[at + 5])
                )  # fmt: skip
                step = 6
            elif after == 34:
                code = 34
        at += step
        kind = classes[code] if code < 0x10000 else IDEOGRAPH if 0x20000 <= code < 0x40000 else SYMBOL
        if kind in (LETTER, DIGIT):
            small = np.uint32(lower[code] if code < 0x10000 else code)
            if not inside:
                inside = True
                value = np.uint32(2166136261)
                number = kind == DIGIT
                if small != code:
                    row[CAPITALISED] += 1
                    if not begun:
                        row[CAPITAL] = 1
            value = np.uint32((value ^ small) * np.uint32(16777619))
            row[CHARACTERS] += 1
            begun = True
            ends = 0
            continue
        if inside:
            inside = False
            found[count] = value
            count += 1
            row[NUMBERS] += number
        if kind == OTHER:
            continue
        row[CHARACTERS] += 1
        begun = True
        ends = 0
        if kind == IDEOGRAPH:
            found[count] = np.uint32((np.uint32(2166136261) ^ np.uint32(code)) * np.uint32(16777619))
            count += 1
        elif kind == STOP:
            row[STOPS] += 1
            ends = 1
        elif kind == COMMA:
            row[COMMAS] += 1
        else:
            row[SYMBOLS] += 1
            ends = ends if code == 34 or code == 0x201D or code == 0x300D or code == 41 else 0
    if inside:
        found[count] = value
        count += 1
        row[NUMBERS] += number
    row[ENDS] = ends
    return count


@inline
def _equal(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    if end - start != len(text):
        return False
    for i in range(len(text)):  # noqa: SIM110  (a loop is what compiles well)
        if data[start + i] | 32 != text[i] and data[start + i] != text[i]:
            return False
    return True


@inline
def _holds(data: Bytes, start: int, end: int, text: Bytes) -> bool:
    for at in range(start, end - len(text) + 1):
        if data[at] == text[0] and _equal(data, at, at + len(text), text):
            return True
    return False


@inline
def _attribute(data: Bytes, at: int, end: int) -> tuple[int, int, int, int, int]:
    """The attribute at a position: begin and end of its name, of its value, and where the next one begins."""
    name = at + 1
    stop = name + 1
    while stop < end and data[stop] != 61 and data[stop] != 32:
        stop += 1
    if stop >= end or data[stop] != 61:
        return name, min(stop, end), stop, stop, stop
    value = stop + 2
    last = value
    while last < end and data[last] != 34:
        last += 1
    return name, stop, min(value, end), min(last, end), last + 1


@inline
def _value_holds(data: Bytes, at: int, end: int, name: Bytes, text: Bytes) -> bool:
    """Whether the attribute of this name holds a text."""
    while at < end:
        name_start, name_end, value, last, at = _attribute(data, at, end)
        if _equal(data, name_start, name_end, name):
            return bool(_holds(data, value, last, text))
    return False


@inline
def _words(data: Bytes, start: int, end: int, salt: int, found: npt.NDArray[np.uint32], count: int, most: int) -> int:
    """Appends the hashes of an attribute's words: whole names without digits, and their parts (camelCase, a-b, a_b)."""
    at = start
    while at < end and count + 2 <= most:
        while at < end and data[at] == 32:
            at += 1
        whole = np.uint32(2166136261 + 2 * salt + 1)
        part = np.uint32(2166136261 + 2 * salt)
        length = parts = 0
        was_small = False
        while at < end and data[at] != 32:
            byte = np.int64(data[at])
            at += 1
            capital = 65 <= byte <= 90
            if capital:
                byte += 32
            letter = 97 <= byte <= 122 or byte >= 0x80
            if letter and not (capital and was_small):
                part = np.uint32((part ^ np.uint32(byte)) * np.uint32(16777619))
                length += 1
            else:
                if length > 1 and count < most:
                    found[count] = part
                    count += 1
                    parts += 1
                part = np.uint32(2166136261 + 2 * salt)
                length = 0
                if letter:
                    part = np.uint32((part ^ np.uint32(byte)) * np.uint32(16777619))
                    length = 1
            was_small = letter and not capital
            if not 48 <= byte <= 57:
                whole = np.uint32((whole ^ np.uint32(byte)) * np.uint32(16777619))
        if length > 1 and count < most:
            found[count] = part
            count += 1
            parts += 1
        if parts > 1 and count < most:
            found[count] = whole
            count += 1
    return count


@inline
def _put(table: npt.NDArray[np.uint32], value: int) -> None:
    mask = len(table) - 1
    key = np.uint32(value) | np.uint32(1)  # 0 marks a free place
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while table[slot] != 0 and table[slot] != key:
        slot = (slot + 1) & mask
    table[slot] = key


@inline
def _has(table: npt.NDArray[np.uint32], value: int) -> bool:
    mask = len(table) - 1
    key = np.uint32(value) | np.uint32(1)
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while table[slot] != 0:
        if table[slot] == key:
            return True
        slot = (slot + 1) & mask
    return False


@inline
def _trigram(a: int, b: int, c: int) -> int:
    return np.uint32((np.uint64(a) * np.uint64(0x9E3779B1) + np.uint64(b) * np.uint64(0x85EBCA77) + np.uint64(c)) >> 3)


@inline
def _said(
    html: Bytes, kind: Bytes, tag: Bytes, start: npt.NDArray[np.int32], end: npt.NDArray[np.int32],
    classes: Bytes, lower: npt.NDArray[np.uint16], page_hashes: npt.NDArray[np.uint32],
) -> Any:  # fmt: skip
    """What the page says of itself: sets of the title's tokens and of the description's trigrams; PAGE_WORDS counts."""
    room = 64
    for i in range(len(kind)):
        if (tag[i] == _SCRIPT and kind[i] == TEXT) or tag[i] == _META:
            room += end[i] - start[i]
    found = np.empty(room, np.uint32)
    page = np.zeros(len(page_hashes), np.int32)
    title = np.zeros(256, np.uint32)
    row = np.zeros(32, np.int32)
    titled = False
    count = 0
    json = False
    for i in range(len(kind)):
        if tag[i] == _META and kind[i] == OPEN:
            described = _value_holds(html, start[i], end[i], _NAME, _DESCRIPTION) or _value_holds(
                html, start[i], end[i], _PROPERTY, _DESCRIPTION
            )
            typed = _value_holds(html, start[i], end[i], _PROPERTY, _OG_TYPE)
            if described or typed:
                at = start[i]
                while at < end[i]:
                    name, name_end, value, last, at = _attribute(html, at, end[i])
                    if _equal(html, name, name_end, _CONTENT):
                        before = count
                        count = _tokens(html, value, last, ESCAPED, classes, lower, found, count, row)
                        if typed:
                            for k in range(before, count):
                                for j in range(len(page_hashes)):
                                    page[j] += found[k] == page_hashes[j]
        elif tag[i] == _SCRIPT and kind[i] == OPEN:
            json = _value_holds(html, start[i], end[i], _TYPE, _LD_JSON)
        elif tag[i] == _SCRIPT and kind[i] == TEXT and json:
            before = count
            count = _tokens(html, start[i], end[i], JSON, classes, lower, found, count, row)
            for k in range(before, count):
                for j in range(len(page_hashes)):
                    page[j] += found[k] == page_hashes[j]
        elif tag[i] == _TITLE and kind[i] == TEXT and not titled:
            titled = True
            here = np.empty(end[i] - start[i] + 1, np.uint32)
            for k in range(min(_tokens(html, start[i], end[i], ESCAPED, classes, lower, here, 0, row), 64)):
                _put(title, here[k])
    size = 64
    while size < 2 * count:
        size *= 2
    described_set = np.zeros(size, np.uint32)
    for k in range(2, count):
        _put(described_set, _trigram(found[k - 2], found[k - 1], found[k]))
    return title, described_set, page


@njit
def _read(
    html: Bytes, kind: Bytes, tag: Bytes, start: npt.NDArray[np.int32], end: npt.NDArray[np.int32],
    block: npt.NDArray[np.int32], blocks: int, classes: Bytes, lower: npt.NDArray[np.uint16],
    page_hashes: npt.NDArray[np.uint32], traits: Bytes,
) -> Any:  # fmt: skip
    title, described, page = _said(html, kind, tag, start, end, classes, lower, page_hashes)
    opens = room = attributes = 0
    for i in range(len(kind)):
        if kind[i] == OPEN:
            opens += 1
            attributes += min((end[i] - start[i]) // 2, _WORDS_AN_ELEMENT) + 2
        elif kind[i] == TEXT and block[i] >= 0:
            room += end[i] - start[i] + 1
    token = np.empty(room, np.uint32)
    token_block = np.empty(room, np.int32)
    counts = np.zeros((blocks, 19), np.int32)
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
                name, name_end, value, stop, at = _attribute(html, at, end[i])
                letter = html[name] if name < end[i] else 0
                if letter == 99 and _equal(html, name, name_end, _WORDED[0]):
                    words = _words(html, value, stop, 0, word, words, most)
                elif letter == 105 and _equal(html, name, name_end, _WORDED[1]):
                    words = _words(html, value, stop, 1, word, words, most)
                elif letter == 105 and _equal(html, name, name_end, _WORDED[2]):
                    words = _words(html, value, stop, 2, word, words, most)
                elif letter == 114 and _equal(html, name, name_end, _WORDED[3]):
                    words = _words(html, value, stop, 3, word, words, most)
                elif letter == 105 and _equal(html, name, name_end, _WORDED[4]):
                    words = _words(html, value, stop, 4, word, words, most)
                elif letter == 97 and _equal(html, name, name_end, _WORDED[5]):
                    words = _words(html, value, stop, 5, word, words, most)
                elif letter == 100 and _equal(html, name, name_end, _WORDED[6]):
                    words = _words(html, value, stop, 6, word, words, most)
                elif letter == 104 and _equal(html, name, name_end, _HIDING[0]):
                    concealed = True
                elif letter == 97 and _equal(html, name, name_end, _HIDING[1]):
                    concealed = concealed or _equal(html, value, stop, _TRUE)
                elif letter == 115 and _equal(html, name, name_end, _HIDING[2]):
                    concealed = (
                        concealed or _holds(html, value, stop, _DISPLAY_NONE)
                        or _holds(html, value, stop, _DISPLAY_NONE_SPACED)
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
            count = _tokens(html, start[i], end[i], ESCAPED, classes, lower, token, count, row)
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
                row[TITLED] += _has(title, token[k])
                if k >= 2 and token_block[k - 2] == b:
                    row[TRIGRAMS] += 1
                    row[DESCRIBED] += _has(described, _trigram(token[k - 2], token[k - 1], token[k]))
    while here >= 0:
        last[here] = seen
        here = parent[here]
    return (
        token[:count], token_block[:count], counts, element, el_tag[:elements], parent[:elements], depth[:elements],
        hidden[:elements], first[:elements], last[:elements], word[:words], word_start[: elements + 1], page,
    )  # fmt: skip
