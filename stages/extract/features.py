"""The figures by which the model judges a block, as one row of a matrix for each block.

First come figures of the block itself, of the elements around it, of its neighbours and of its page (`matrix`).
The second model sees in addition what the first one thinks of the block's surroundings (`context`). Sums,
differences and quotients only, which IEEE 754 gives alike on every machine; no logarithm, no fast-math.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.extract.blocks import (
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
    PAGE_WORDS,
    STOPS,
    STRESSED,
    SYMBOLS,
    TITLED,
    TOKENS,
    TRIGRAMS,
    Blocks,
)  # fmt: skip
from stages.extract.scan import TAG_NUMBER, TAGS, Bytes
from stages.kernels import inline, njit

Matrix = npt.NDArray[np.float32]
Weights = npt.NDArray[np.int8]
Numbers = npt.NDArray[np.int32]

WORD_SLOTS, TOKEN_SLOTS = 1 << 15, 1 << 16
"""Places of the tables of word weights: a word of an attribute, a token (or two in a row) of a text."""
EARLY_TOKENS = 24
"""How many tokens of a block are looked up: what a menu or a button says is short."""

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
_HEADING = np.zeros(256, np.int64)
for _level in range(1, 7):
    _HEADING[TAG_NUMBER[f"h{_level}"]] = _level
_LI, _H1, _BODY = TAG_NUMBER["li"], TAG_NUMBER["h1"], TAG_NUMBER["body"]
_LEVELS = 5
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
    *(f"level{level}_{what}" for level in range(1, _LEVELS + 1) for what in
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
CONTEXT_NAMES: tuple[str, ...] = (
    *"own prev1 prev2 prev3 next1 next2 next3 around wide before after alike alike_best level1 level2 level3".split(),
    *"level4 level5 page best kept_share heading section since_good until_good path_good parent_rest".split(),
    *"long_prev long_next".split(),
)
"""What each column of `context` is."""


def matrix(blocks: Blocks, word_weights: Weights, token_weights: Weights) -> Matrix:
    """B rows of NAMES, float32. The weights are log odds in sixteenths, WORD_SLOTS and TOKEN_SLOTS of them."""
    made: Matrix = _matrix(
        blocks.token, blocks.token_block, blocks.counts, blocks.element, blocks.tag, blocks.parent, blocks.depth,
        blocks.hidden, blocks.first, blocks.last, blocks.word, blocks.word_start, blocks.page,
        word_weights, token_weights, len(NAMES), _PATH_BIT, _OWN_PLACE, _HEADING,
    )  # fmt: skip
    return made


def context(blocks: Blocks, score: npt.NDArray[np.int32]) -> Matrix:
    """B rows of CONTEXT_NAMES, float32, from the first model's probabilities in 1/65,536."""
    made: Matrix = _context(
        blocks.counts, blocks.element, blocks.tag, blocks.parent, blocks.first, blocks.last, blocks.word,
        blocks.word_start, score, len(CONTEXT_NAMES), _HEADING,
    )  # fmt: skip
    return made


@inline
def _signature(
    e: int, tag: npt.NDArray[np.uint8], parent: npt.NDArray[np.int32], word: npt.NDArray[np.uint32],
    word_start: npt.NDArray[np.int32],
) -> int:  # fmt: skip
    """A hash of the element's tag and first class word, and of its parent's and grandparent's: equal for siblings."""
    value = np.uint64(14695981039346656037)
    for _ in range(3):
        if e < 0:
            break
        value = (value ^ np.uint64(tag[e] + 1)) * np.uint64(1099511628211)
        value = (value ^ np.uint64(word[word_start[e]])) * np.uint64(1099511628211)
        e = parent[e]
    return np.int64(value >> np.uint64(2))


@inline
def _groups(keys: npt.NDArray[np.int64]) -> Any:
    """The number of the group of equal keys that each key belongs to, and how many groups there are."""
    order = np.argsort(keys, kind="mergesort")
    group = np.zeros(len(keys), np.int32)
    number = -1
    for i in range(len(keys)):
        if i == 0 or keys[order[i]] != keys[order[i - 1]]:
            number += 1
        group[order[i]] = number
    return group, number + 1


@inline
def _ratio(a: float, b: float) -> float:
    return np.float32(a) / np.float32(b) if b > 0 else np.float32(0)


@inline
def _one(value: float) -> float:
    return np.float32(value)


@inline
def _slot_of_word(value: int) -> int:
    return np.int64((np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(49))


@inline
def _slot_of_token(before: int, value: int) -> int:
    """The place of a token by itself (`before` is 0) or behind another."""
    mixed = (np.uint64(before) * np.uint64(0xC2B2AE3D27D4EB4F)) ^ np.uint64(value)
    return np.int64((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48))


@njit
def word_slots(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """The places of words in the table of word weights."""
    slots = np.empty(len(word), np.int64)
    for i in range(len(word)):
        slots[i] = _slot_of_word(word[i])
    return slots


@njit
def token_slots(token: npt.NDArray[np.uint32], token_block: npt.NDArray[np.int32]) -> Any:
    """Places in the table of token weights, of single tokens and of pairs, and the blocks that they stand in."""
    slots = np.empty(2 * len(token), np.int64)
    block = np.empty(2 * len(token), np.int32)
    count = run = 0
    for i in range(len(token)):
        run = run + 1 if i and token_block[i] == token_block[i - 1] else 0
        if run >= EARLY_TOKENS:
            continue
        slots[count] = _slot_of_token(0, token[i])
        block[count] = token_block[i]
        count += 1
        if run:
            slots[count] = _slot_of_token(token[i - 1], token[i])
            block[count] = token_block[i]
            count += 1
    return slots[:count], block[:count]


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
    # elements: weights of their words, and what the path down to them adds up to
    own = np.zeros((elements, 3), np.int32)
    path = np.zeros((elements, 5), np.int32)
    bits = np.zeros(elements, np.int64)
    lists = np.zeros(elements, np.int32)
    for e in range(elements):
        total = lowest = highest = 0
        for k in range(word_start[e], word_start[e + 1]):
            weight = np.int32(word_weights[_slot_of_word(word[k])])
            total += weight
            lowest = min(lowest, weight)
            highest = max(highest, weight)
        own[e, 0], own[e, 1], own[e, 2] = total, lowest, highest
        up = parent[e]
        bits[e] = path_bit[tag[e]]
        lists[e] = tag[e] == _LI
        path[e, 0], path[e, 1], path[e, 2] = total, lowest, highest
        path[e, 3] = lowest < -16
        path[e, 4] = highest > 16
        if up >= 0:
            bits[e] |= bits[up]
            lists[e] += lists[up]
            path[e, 0] += path[up, 0]
            path[e, 1] = min(path[e, 1], path[up, 1])
            path[e, 2] = max(path[e, 2], path[up, 2])
            path[e, 3] += path[up, 3]
            path[e, 4] += path[up, 4]
    # sums over the blocks before each block
    sums = np.zeros((blocks + 1, 6), np.int64)  # tokens, linked, stops and commas, long tokens, images, described
    h1s = h2s = articles = rows = 0
    for e in range(elements):
        h1s += heading[tag[e]] == 1
        h2s += heading[tag[e]] == 2
        articles += path_bit[tag[e]] == 16
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
        cells += (bits[element[b]] >> 9) & 1
    total, total_linked, total_stops, total_long = sums[blocks, 0], sums[blocks, 1], sums[blocks, 2], sums[blocks, 3]
    # the innermost elements that hold 35, 60 and 85 % of the long texts
    holders = np.zeros(3, np.int32)
    for e in range(elements):
        good = sums[last[e], 3] - sums[first[e], 3]
        for k in range(3):
            if 20 * good >= (7, 12, 17)[k] * total_long and depth[e] > depth[holders[k]]:
                holders[k] = e
    # text weights
    text = np.zeros((blocks, 5), np.int32)  # sum, least, greatest, of the first token, how many
    run = 0
    for i in range(len(token)):
        b = token_block[i]
        run = run + 1 if i and token_block[i - 1] == b else 0
        if run >= EARLY_TOKENS:
            continue
        weight = np.int32(token_weights[_slot_of_token(0, token[i])])
        if run:
            pair = np.int32(token_weights[_slot_of_token(token[i - 1], token[i])])
            weight = pair if abs(pair) > abs(weight) else weight
        else:
            text[b, 3] = weight
        text[b, 0] += weight
        text[b, 1] = min(text[b, 1], weight)
        text[b, 2] = max(text[b, 2], weight)
        text[b, 4] += 1
    page_text = np.int64(0)
    for b in range(blocks):
        page_text += text[b, 0]
    # siblings of one make, and equal texts
    keys = np.empty(blocks, np.int64)
    digests = np.empty(blocks, np.int64)
    for b in range(blocks):
        keys[b] = _signature(element[b], tag, parent, word, word_start)
        digests[b] = counts[b, DIGEST]
    group, groups = _groups(keys)
    alike = np.zeros((groups, 3), np.int64)
    for b in range(blocks):
        alike[group[b], 0] += 1
        alike[group[b], 1] += counts[b, TOKENS]
        alike[group[b], 2] += counts[b, LINKED]
    same, sames = _groups(digests)
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
            _one(tokens), _ratio(row[LINKED], tokens), _ratio(row[CHARACTERS], tokens),
            _ratio(row[CAPITALISED], tokens), _ratio(row[NUMBERS], tokens), _one(row[STOPS]),
            _ratio(row[STOPS], tokens), _ratio(row[COMMAS], tokens), _ratio(row[SYMBOLS], tokens), _one(row[ENDS]),
            _ratio(row[STRESSED], tokens), _one(row[IMAGES]), _one(row[BREAKS]), _ratio(row[CODED], tokens),
            _one(row[LINKS]), _one(row[CAPITAL]), _ratio(row[DESCRIBED], row[TRIGRAMS]), _ratio(row[TITLED], tokens),
            _one(row[CHARACTERS]), _ratio(tokens, row[LINKS]),
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
        x[b, f] = _ratio(text[b, 0], text[b, 4])
        x[b, f + 1], x[b, f + 2], x[b, f + 3], x[b, f + 4] = text[b, 1], text[b, 2], text[b, 3], text[b, 0]
        f += 5
        x[b, f] = _ratio(b, blocks)
        x[b, f + 1] = _ratio(sums[b, 0], total)
        x[b, f + 2] = total - sums[b + 1, 0]
        x[b, f + 3] = sums[b, 0] - sums[last_h1, 0] if last_h1 >= 0 else -1
        x[b, f + 4] = sums[first_h1, 0] - sums[b, 0] if first_h1 < blocks and b < first_h1 else 0
        x[b, f + 5] = sums[b, 0] - sums[last_heading, 0] if last_heading >= 0 else -1
        x[b, f + 6] = level
        x[b, f + 7] = b - last_heading if last_heading >= 0 else -1
        x[b, f + 8] = first_h1 < blocks and b < first_h1
        f += 9
        up = e
        for _ in range(_LEVELS):
            # the next element up that holds more than what is seen so far
            below = up
            while up >= 0 and first[up] == first[below] and last[up] == last[below] and parent[up] >= 0:
                up = parent[up]
            a, z = first[up], last[up]
            many = sums[z, 0] - sums[a, 0]
            x[b, f] = many
            x[b, f + 1] = _ratio(sums[z, 1] - sums[a, 1], many)
            x[b, f + 2] = _ratio(sums[z, 2] - sums[a, 2], many)
            x[b, f + 3] = z - a
            x[b, f + 4] = _ratio(sums[z, 3] - sums[a, 3], many)
            x[b, f + 5] = _ratio(many, total)
            f += 6
        for step in (-1, -2, 1, 2):
            n = b + step
            if 0 <= n < blocks:
                x[b, f] = counts[n, TOKENS]
                x[b, f + 1] = _ratio(counts[n, LINKED], counts[n, TOKENS])
                x[b, f + 2] = _ratio(counts[n, STOPS] + counts[n, COMMAS], counts[n, TOKENS])
                x[b, f + 3] = group[n] == group[b]
                x[b, f + 4] = _ratio(text[n, 0], text[n, 4])
            else:
                x[b, f] = -1
            f += 5
        for reach in (3, 10):
            a, z = max(b - reach, 0), min(b + reach + 1, blocks)
            many = sums[z, 0] - sums[a, 0]
            x[b, f] = many
            x[b, f + 1] = _ratio(sums[z, 1] - sums[a, 1], many)
            x[b, f + 2] = _ratio(sums[z, 2] - sums[a, 2], many)
            f += 3
        g = group[b]
        x[b, f] = alike[g, 0]
        x[b, f + 1] = _ratio(alike[g, 1], alike[g, 0])
        x[b, f + 2] = _ratio(alike[g, 2], alike[g, 1])
        x[b, f + 3] = _ratio(alike[g, 1], total)
        x[b, f + 4] = copies[same[b]]
        f += 5
        for k in range(3):
            h = holders[k]
            x[b, f] = first[h] <= b < last[h]
            x[b, f + 1] = depth[e] - depth[h]
            x[b, f + 2] = _ratio(sums[last[h], 0] - sums[first[h], 0], total)
            f += 3
        for value in (
            _one(total), _one(blocks), _ratio(total_linked, total), _ratio(total_long, total),
            _ratio(total_stops, total), _one(sums[blocks, 4]), _one(h1s), _one(h2s), _one(articles), _one(rows),
            _ratio(capitals, total), _ratio(sums[blocks, 5], total), _ratio(cells, blocks), _ratio(page_text, blocks),
        ):  # fmt: skip
            x[b, f] = value
            f += 1
        for k in range(len(page)):
            x[b, f] = page[k]
            f += 1
    return x


@njit
def _context(
    counts: Numbers, element: Numbers, tag: Bytes, parent: Numbers, first: Numbers, last: Numbers,
    word: npt.NDArray[np.uint32], word_start: Numbers, score: Numbers, columns: int, heading: npt.NDArray[np.int64],
) -> Any:  # fmt: skip
    blocks = len(counts)
    x = np.zeros((blocks, columns), np.float32)
    if blocks == 0:
        return x
    sums = np.zeros((blocks + 1, 2), np.int64)  # tokens, and tokens times score
    keys = np.empty(blocks, np.int64)
    best = 0
    kept = np.int64(0)
    for b in range(blocks):
        tokens = np.int64(counts[b, TOKENS]) + 1
        sums[b + 1, 0] = sums[b, 0] + tokens
        sums[b + 1, 1] = sums[b, 1] + tokens * score[b]
        keys[b] = _signature(element[b], tag, parent, word, word_start)
        best = max(best, score[b])
        kept += tokens if score[b] > 32768 else 0
    group, groups = _groups(keys)
    alike = np.zeros((groups, 3), np.int64)
    for b in range(blocks):
        tokens = np.int64(counts[b, TOKENS]) + 1
        alike[group[b], 0] += tokens
        alike[group[b], 1] += tokens * score[b]
        alike[group[b], 2] = max(alike[group[b], 2], score[b])
    until = np.full(blocks, -1, np.int64)  # tokens up to the next good block, and that block's score
    long_next = np.zeros(blocks, np.int32)
    section_end = np.full(blocks, blocks, np.int64)
    after = long_score = -1
    stop = blocks
    for b in range(blocks - 1, -1, -1):
        until[b] = sums[after, 0] - sums[b + 1, 0] if after >= 0 else -1
        long_next[b] = long_score
        section_end[b] = stop
        if score[b] > 45000 and counts[b, TOKENS] >= 10:
            after = b
        if counts[b, TOKENS] >= 20:
            long_score = score[b]
        if heading[tag[element[b]]]:
            stop = b
    before = last_heading = -1
    long_score = -1
    for b in range(blocks):
        e = element[b]
        f = 0
        x[b, f] = score[b]
        f += 1
        for step in (-1, -2, -3, 1, 2, 3):
            n = b + step
            x[b, f] = score[n] if 0 <= n < blocks else -1
            f += 1
        for reach in (2, 8):
            a, z = max(b - reach, 0), min(b + reach + 1, blocks)
            x[b, f] = _ratio(sums[z, 1] - sums[a, 1], sums[z, 0] - sums[a, 0])
            f += 1
        a, z = max(b - 20, 0), min(b + 21, blocks)
        x[b, f] = _ratio(sums[b, 1] - sums[a, 1], sums[b, 0] - sums[a, 0])
        x[b, f + 1] = _ratio(sums[z, 1] - sums[b + 1, 1], sums[z, 0] - sums[b + 1, 0])
        x[b, f + 2] = _ratio(alike[group[b], 1], alike[group[b], 0])
        x[b, f + 3] = alike[group[b], 2]
        f += 4
        up = e
        for _ in range(_LEVELS):
            below = up
            while up >= 0 and first[up] == first[below] and last[up] == last[below] and parent[up] >= 0:
                up = parent[up]
            x[b, f] = _ratio(sums[last[up], 1] - sums[first[up], 1], sums[last[up], 0] - sums[first[up], 0])
            f += 1
        x[b, f] = _ratio(sums[blocks, 1], sums[blocks, 0])
        x[b, f + 1] = best
        x[b, f + 2] = _ratio(kept, sums[blocks, 0])
        f += 3
        if heading[tag[e]]:
            last_heading = b
        x[b, f] = score[last_heading] if last_heading >= 0 else -1
        x[b, f + 1] = _ratio(sums[section_end[b], 1] - sums[b + 1, 1], sums[section_end[b], 0] - sums[b + 1, 0])
        f += 2
        x[b, f] = sums[b, 0] - sums[before + 1, 0] if before >= 0 else -1
        x[b, f + 1] = until[b]
        f += 2
        if score[b] > 45000 and counts[b, TOKENS] >= 10:
            before = b
        up = e
        good = 0
        while up >= 0:
            good += 2 * (sums[last[up], 1] - sums[first[up], 1]) > 65536 * (sums[last[up], 0] - sums[first[up], 0])
            up = parent[up]
        x[b, f] = good
        rest = sums[last[e], 0] - sums[first[e], 0] - counts[b, TOKENS] - 1
        x[b, f + 1] = _ratio(
            sums[last[e], 1] - sums[first[e], 1] - (np.int64(counts[b, TOKENS]) + 1) * score[b], rest
        )  # fmt: skip
        x[b, f + 2] = long_score
        x[b, f + 3] = long_next[b]
        if counts[b, TOKENS] >= 20:
            long_score = score[b]
    return x
