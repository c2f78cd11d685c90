"""The words by which a page describes itself, as sets that its blocks are compared with: title, description, JSON-LD.

A block that holds the same words is likely to be what the page is about. What kind of thing the page claims to be is
counted on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.extract.attributes import attribute, equal, text, value_holds
from stages.extract.scan import OPEN, TAG_NUMBER, TEXT, Bytes
from stages.extract.tokens import ESCAPED, JSON, add_tokens, word_hash
from stages.kernels import inline

PAGE_WORDS = (
    "article newsarticle blogposting product discussionforumposting qapage question collectionpage itemlist faqpage "
    "recipe organization website breadcrumblist techarticle event jobposting localbusiness profile video"
).split()
"""Words of `og:type` and of JSON-LD's types whose presence is a figure of the page."""
PAGE_HASHES = np.array([word_hash(word) for word in PAGE_WORDS], np.uint32)

_META, _SCRIPT, _TITLE = (TAG_NUMBER[name] for name in "meta script title".split())
_NAME, _PROPERTY, _CONTENT, _TYPE = map(text, ("name", "property", "content", "type"))
_DESCRIPTION, _OG_TYPE, _LD_JSON = map(text, ("description", "og:type", "ld+json"))


@inline
def put(table: npt.NDArray[np.uint32], value: int) -> None:
    """Adds to a set: a table of 2^n places, linear probing, that must never be full."""
    mask = len(table) - 1
    key = np.uint32(value) | np.uint32(1)  # 0 marks a free place
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while table[slot] != 0 and table[slot] != key:
        slot = (slot + 1) & mask
    table[slot] = key


@inline
def has(table: npt.NDArray[np.uint32], value: int) -> bool:
    """Whether the set holds a value."""
    mask = len(table) - 1
    key = np.uint32(value) | np.uint32(1)
    slot = np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) & mask
    while table[slot] != 0:
        if table[slot] == key:
            return True
        slot = (slot + 1) & mask
    return False


@inline
def trigram(a: int, b: int, c: int) -> int:
    """The hash of three tokens in a row."""
    return np.uint32((np.uint64(a) * np.uint64(0x9E3779B1) + np.uint64(b) * np.uint64(0x85EBCA77) + np.uint64(c)) >> 3)


@inline
def said(
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
            described = value_holds(html, start[i], end[i], _NAME, _DESCRIPTION) or value_holds(
                html, start[i], end[i], _PROPERTY, _DESCRIPTION
            )
            typed = value_holds(html, start[i], end[i], _PROPERTY, _OG_TYPE)
            if described or typed:
                at = start[i]
                while at < end[i]:
                    name, name_end, value, last, at = attribute(html, at, end[i])
                    if equal(html, name, name_end, _CONTENT):
                        before = count
                        count = add_tokens(html, value, last, ESCAPED, classes, lower, found, count, row)
                        if typed:
                            for k in range(before, count):
                                for j in range(len(page_hashes)):
                                    page[j] += found[k] == page_hashes[j]
        elif tag[i] == _SCRIPT and kind[i] == OPEN:
            json = value_holds(html, start[i], end[i], _TYPE, _LD_JSON)
        elif tag[i] == _SCRIPT and kind[i] == TEXT and json:
            before = count
            count = add_tokens(html, start[i], end[i], JSON, classes, lower, found, count, row)
            for k in range(before, count):
                for j in range(len(page_hashes)):
                    page[j] += found[k] == page_hashes[j]
        elif tag[i] == _TITLE and kind[i] == TEXT and not titled:
            titled = True
            here = np.empty(end[i] - start[i] + 1, np.uint32)
            for k in range(min(add_tokens(html, start[i], end[i], ESCAPED, classes, lower, here, 0, row), 64)):
                put(title, here[k])
    size = 64
    while size < 2 * count:
        size *= 2
    described_set = np.zeros(size, np.uint32)
    for k in range(2, count):
        put(described_set, trigram(found[k - 2], found[k - 1], found[k]))
    return title, described_set, page
