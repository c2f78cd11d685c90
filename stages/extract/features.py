"""The figures by which the model judges a block, as one row of a matrix for each block.

First come figures of the block itself, of the elements around it, of its neighbours and of its page (`matrix`).
The second model sees in addition what the first one thinks of the block's surroundings (`context.py`). Sums,
differences and quotients only, which IEEE 754 gives alike on every machine; no logarithm, no fast-math.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.extract.blocks import Blocks
from stages.extract.context import CONTEXT_NAMES, HEADING, LEVELS, Matrix, Numbers, context
from stages.extract.said import PAGE_WORDS
from stages.extract.scan import TAG_NUMBER, TAGS, Bytes
from stages.extract.siblings import groups, ratio, signature
from stages.extract.tokens import (
    BREAKS,
    CAPITAL,
    CAPITALISED,
    CHARACTERS,
    CODED,
    COMMAS,
    DESCRIBED,
    DIGEST,
    ENDS,
    IMAGES,
    LINKED,
    LINKS,
    NUMBERS,
    STOPS,
    STRESSED,
    SYMBOLS,
    TITLED,
    TOKENS,
    TRIGRAMS,
)
from stages.extract.weights import Weights, element_weights, text_weights
from stages.kernels import inline, njit

__all__ = ["CONTEXT_NAMES", "NAMES", "Matrix", "context", "matrix"]

_PATH = (
    "nav header footer aside article main section form table td th ul ol li dl dd figure figcaption blockquote pre "
    "h1 h2 h3 h4 h5 h6 p a button label address noscript details dialog fieldset center code menu tfoot thead caption"
).split()
_PATH_BIT = np.zeros(256, np.int64)
for _place, _name in enumerate(_PATH):
    _PATH_BIT[TAG_NUMBER[_name]] = 1 << _place
_OWN = "p div li td th dt dd h1 h2 h3 h4 h5 h6 pre blockquote section article span figcaption button".split()
_OWN_PLACE = np.full(256, -1, np.int64)
for _place, _name in enumerate(_OWN):
    _OWN_PLACE[TAG_NUMBER[_name]] = _place
_LI = TAG_NUMBER["li"]
_ARTICLE, _CELL = (1 << _PATH.index(name) for name in ("article", "td"))
_OWNS, _PATHS = len(_OWN), len(_PATH)
assert len(TAGS) < 256

NAMES: tuple[str, ...] = (
    *"tokens linked chars_token capitalised numbers stops stops_token commas_token symbols_token ends stressed images "
    "breaks coded links capital described titled characters tokens_link".split(),
    *(f"own_{name}" for name in _OWN), "own_tag",
    *(f"in_{name}" for name in _PATH), "depth", "list_depth", "hidden",
    *(f"{part}_{what}" for part in ("self", "up1", "up2") for what in ("sum", "min", "max")),
    "path_sum", "path_min", "path_max", "path_low", "path_high",
    "text_mean", "text_min", "text_max", "text_first", "text_sum",
    *"place token_place tokens_after since_h1 before_h1 since_heading heading_level blocks_since_heading "
    "h1_later".split(),
    *(f"level{level}_{what}" for level in range(1, LEVELS + 1) for what in
      ("tokens", "linked", "stops", "blocks", "long", "share")),
    *(f"{side}_{what}" for side in ("prev1", "prev2", "next1", "next2") for what in
      ("tokens", "linked", "stops", "same", "text")),
    *"around_tokens around_linked around_stops wide_tokens wide_linked wide_stops".split(),
    *"alike alike_tokens alike_linked alike_share copies".split(),
    *(f"inside{share}_{what}" for share in (35, 60, 85) for what in ("in", "depth", "share")),
    *"page_tokens page_blocks page_linked page_long page_stops page_images page_h1 page_h2 page_articles "
    "page_lists page_capitals page_described page_rows page_text".split(),
    *(f"says_{word}" for word in PAGE_WORDS),
)  # fmt: skip
"""What each column of `matrix` is."""


def matrix(blocks: Blocks, word_weights: Weights, token_weights: Weights) -> Matrix:
    """B rows of NAMES, float32. The weights are log odds in sixteenths, WORD_SLOTS and TOKEN_SLOTS of them."""
    made: Matrix = _matrix(
        blocks.token, blocks.token_block, blocks.counts, blocks.element, blocks.tag, blocks.parent, blocks.depth,
        blocks.hidden, blocks.first, blocks.last, blocks.word, blocks.word_start, blocks.page,
        word_weights, token_weights, len(NAMES), _PATH_BIT, _OWN_PLACE, HEADING,
    )  # fmt: skip
    return made


@inline
def _one(value: float) -> float:
    return np.float32(value)


@njit
def _matrix(
    token: npt.NDArray[np.uint32], token_block: Numbers, counts: Numbers, element: Numbers, tag: Bytes,
    parent: Numbers, depth: Numbers, hidden: npt.NDArray[np.bool_], first: Numbers, last: Numbers,
    word: npt.NDArray[np.uint32], word_start: Numbers, page: Numbers, word_weights: Weights, token_weights: Weights,
    columns: int, path_bit: npt.NDArray[np.int64], own_place: npt.NDArray[np.int64], heading: npt.NDArray[np.int64],
) -> Any:  # fmt: skip
    blocks = len(counts)
    elements = len(tag)
    x = np.zeros((blocks, columns), np.float32)
    if blocks == 0:
        return x
    own, path = element_weights(parent, word, word_start, word_weights)
    text = text_weights(token, token_block, token_weights, blocks)
    bits = np.zeros(elements, np.int64)
    lists = np.zeros(elements, np.int32)
    for e in range(elements):
        bits[e] = path_bit[tag[e]]
        lists[e] = tag[e] == _LI
        if parent[e] >= 0:
            bits[e] |= bits[parent[e]]
            lists[e] += lists[parent[e]]
    # sums over the blocks before each block
    sums = np.zeros((blocks + 1, 6), np.int64)  # tokens, linked, stops and commas, long tokens, images, described
    h1s = h2s = articles = rows = 0
    for e in range(elements):
        h1s += heading[tag[e]] == 1
        h2s += heading[tag[e]] == 2
        articles += path_bit[tag[e]] == _ARTICLE
        rows += lists[e] > 0 and tag[e] == _LI
    capitals = cells = 0
    for b in range(blocks):
        row = counts[b]
        long = row[TOKENS] >= 15 and 3 * row[LINKED] < row[TOKENS]
        sums[b + 1, 0] = sums[b, 0] + row[TOKENS]
        sums[b + 1, 1] = sums[b, 1] + row[LINKED]
        sums[b + 1, 2] = sums[b, 2] + row[STOPS] + row[COMMAS]
        sums[b + 1, 3] = sums[b, 3] + (row[TOKENS] if long else 0)
        sums[b + 1, 4] = sums[b, 4] + row[IMAGES]
        sums[b + 1, 5] = sums[b, 5] + row[DESCRIBED]
        capitals += row[CAPITALISED]
        cells += bits[element[b]] & _CELL != 0
    total, total_linked, total_stops, total_long = sums[blocks, 0], sums[blocks, 1], sums[blocks, 2], sums[blocks, 3]
    # the innermost elements that hold 35, 60 and 85 % of the long texts
    holders = np.zeros(3, np.int32)
    for e in range(elements):
        good = sums[last[e], 3] - sums[first[e], 3]
        for k in range(3):
            if 20 * good >= (7, 12, 17)[k] * total_long and depth[e] > depth[holders[k]]:
                holders[k] = e
    page_text = np.int64(0)
    for b in range(blocks):
        page_text += text[b, 0]
    # siblings of one make, and equal texts
    keys = np.empty(blocks, np.int64)
    digests = np.empty(blocks, np.int64)
    for b in range(blocks):
        keys[b] = signature(element[b], tag, parent, word, word_start)
        digests[b] = counts[b, DIGEST]
    group, makes = groups(keys)
    alike = np.zeros((makes, 3), np.int64)
    for b in range(blocks):
        alike[group[b], 0] += 1
        alike[group[b], 1] += counts[b, TOKENS]
        alike[group[b], 2] += counts[b, LINKED]
    same, sames = groups(digests)
    copies = np.zeros(sames, np.int32)
    for b in range(blocks):
        copies[same[b]] += 1

    first_h1 = blocks
    for b in range(blocks - 1, -1, -1):
        if heading[tag[element[b]]] == 1:
            first_h1 = b
    last_h1 = last_heading = -1
    level = 0
    for b in range(blocks):
        row = counts[b]
        e = element[b]
        tokens = row[TOKENS]
        if heading[tag[e]]:
            last_heading = b
            level = heading[tag[e]]
            if level == 1:
                last_h1 = b
        f = 0
        for value in (
            _one(tokens), ratio(row[LINKED], tokens), ratio(row[CHARACTERS], tokens),
            ratio(row[CAPITALISED], tokens), ratio(row[NUMBERS], tokens), _one(row[STOPS]),
            ratio(row[STOPS], tokens), ratio(row[COMMAS], tokens), ratio(row[SYMBOLS], tokens), _one(row[ENDS]),
            ratio(row[STRESSED], tokens), _one(row[IMAGES]), _one(row[BREAKS]), ratio(row[CODED], tokens),
            _one(row[LINKS]), _one(row[CAPITAL]), ratio(row[DESCRIBED], row[TRIGRAMS]), ratio(row[TITLED], tokens),
            _one(row[CHARACTERS]), ratio(tokens, row[LINKS]),
        ):  # fmt: skip
            x[b, f] = value
            f += 1
        if own_place[tag[e]] >= 0:
            x[b, f + own_place[tag[e]]] = 1
        f += _OWNS
        x[b, f] = tag[e]
        f += 1
        for k in range(_PATHS):
            x[b, f + k] = (bits[e] >> k) & 1
        f += _PATHS
        x[b, f], x[b, f + 1], x[b, f + 2] = depth[e], lists[e], hidden[e]
        f += 3
        up = e
        for _ in range(3):
            if up >= 0:
                x[b, f], x[b, f + 1], x[b, f + 2] = own[up, 0], own[up, 1], own[up, 2]
                up = parent[up]
            f += 3
        for k in range(5):
            x[b, f] = path[e, k]
            f += 1
        x[b, f] = ratio(text[b, 0], text[b, 4])
        x[b, f + 1], x[b, f + 2], x[b, f + 3], x[b, f + 4] = text[b, 1], text[b, 2], text[b, 3], text[b, 0]
        f += 5
        x[b, f] = ratio(b, blocks)
        x[b, f + 1] = ratio(sums[b, 0], total)
        x[b, f + 2] = total - sums[b + 1, 0]
        x[b, f + 3] = sums[b, 0] - sums[last_h1, 0] if last_h1 >= 0 else -1
        x[b, f + 4] = sums[first_h1, 0] - sums[b, 0] if first_h1 < blocks and b < first_h1 else 0
        x[b, f + 5] = sums[b, 0] - sums[last_heading, 0] if last_heading >= 0 else -1
        x[b, f + 6] = level
        x[b, f + 7] = b - last_heading if last_heading >= 0 else -1
        x[b, f + 8] = first_h1 < blocks and b < first_h1
        f += 9
        up = e
        for _ in range(LEVELS):
            # the next element up that holds more than what is seen so far
            below = up
            while up >= 0 and first[up] == first[below] and last[up] == last[below] and parent[up] >= 0:
                up = parent[up]
            a, z = first[up], last[up]
            many = sums[z, 0] - sums[a, 0]
            x[b, f] = many
            x[b, f + 1] = ratio(sums[z, 1] - sums[a, 1], many)
            x[b, f + 2] = ratio(sums[z, 2] - sums[a, 2], many)
            x[b, f + 3] = z - a
            x[b, f + 4] = ratio(sums[z, 3] - sums[a, 3], many)
            x[b, f + 5] = ratio(many, total)
            f += 6
        for step in (-1, -2, 1, 2):
            n = b + step
            if 0 <= n < blocks:
                x[b, f] = counts[n, TOKENS]
                x[b, f + 1] = ratio(counts[n, LINKED], counts[n, TOKENS])
                x[b, f + 2] = ratio(counts[n, STOPS] + counts[n, COMMAS], counts[n, TOKENS])
                x[b, f + 3] = group[n] == group[b]
                x[b, f + 4] = ratio(text[n, 0], text[n, 4])
            else:
                x[b, f] = -1
            f += 5
        for reach in (3, 10):
            a, z = max(b - reach, 0), min(b + reach + 1, blocks)
            many = sums[z, 0] - sums[a, 0]
            x[b, f] = many
            x[b, f + 1] = ratio(sums[z, 1] - sums[a, 1], many)
            x[b, f + 2] = ratio(sums[z, 2] - sums[a, 2], many)
            f += 3
        g = group[b]
        x[b, f] = alike[g, 0]
        x[b, f + 1] = ratio(alike[g, 1], alike[g, 0])
        x[b, f + 2] = ratio(alike[g, 2], alike[g, 1])
        x[b, f + 3] = ratio(alike[g, 1], total)
        x[b, f + 4] = copies[same[b]]
        f += 5
        for k in range(3):
            h = holders[k]
            x[b, f] = first[h] <= b < last[h]
            x[b, f + 1] = depth[e] - depth[h]
            x[b, f + 2] = ratio(sums[last[h], 0] - sums[first[h], 0], total)
            f += 3
        for value in (
            _one(total), _one(blocks), ratio(total_linked, total), ratio(total_long, total),
            ratio(total_stops, total), _one(sums[blocks, 4]), _one(h1s), _one(h2s), _one(articles), _one(rows),
            ratio(capitals, total), ratio(sums[blocks, 5], total), ratio(cells, blocks), ratio(page_text, blocks),
        ):  # fmt: skip
            x[b, f] = value
            f += 1
        for k in range(len(page)):
            x[b, f] = page[k]
            f += 1
    return x
