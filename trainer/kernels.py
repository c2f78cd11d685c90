"""The compiled loops of the loader and the guard: rows of a batch, the keyed permutation, best fit, dear documents.

Each has a plain-Python loop beside it in the tests. All of them stand in this one file, since numba's cache notices a
change in the file of a kernel only. They let go of Python's lock, so the look-ahead thread works beside the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic


def _njit(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles on the first call and keeps the code on disk, where there is a place for it."""
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")(kernel)
    except RuntimeError:  # neither this folder nor a home can be written to
        compiled = numba.njit(nogil=True, error_model="numpy")(kernel)
    return compiled


@intrinsic  # type: ignore[untyped-decorator]  # numba has no types
def _pointer(context: Any, address: Any) -> Any:
    """An address as a pointer: shards are many arrays of many lengths, which numba cannot take as one argument."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


TOKENS, FIRST, DOCUMENT, START, LENGTH, GOES_ON, FIRST_TARGET = range(7)
"""The columns of `where_WK` in `fill_rows`."""

SIZES = 3
"""Behind them its numbers: tokens of the shard, sequences and pieces of the window."""

COLUMNS = 10


@_njit
def fill_rows(
    where_WK: Any,
    like: Any,
    window_B: Any,
    inside_B: Any,
    holes: Any,
    joined: bool,
    onward: bool,
    most: int,
    pad: int,
    ignored: int,
    none: int,
    tokens_BT: Any,
    targets_BT: Any,
    positions_BT: Any,
    documents_BT: Any,
) -> Any:
    """Fills the rows of a batch with the pieces of sequences; returns the largest token or target, as unsigned.

    where_WK: of each window the addresses of its arrays, and their sizes; `like` is an empty array of the token type.
    window_B, inside_B: the window of each sequence and its number there. holes: sorted window << 40 | document.
    joined: documents share their row's mask and positions, and targets cross from one to the next; onward: also from
    the end of a row to the sequence behind it. most: places of a part, which divides T; pieces (joined: rows) are cut
    there. pad, ignored, none: what stands where there is no token, no target, no document.
    """
    rows, length = tokens_BT.shape
    largest = np.uint32(0)
    number = 0
    for row in range(rows):
        facts = where_WK[window_B[row]]
        sequence = inside_B[row]
        shard = numba.carray(_pointer(facts[TOKENS]), (facts[7],), like.dtype)
        first = numba.carray(_pointer(facts[FIRST]), (facts[8] + 1,), np.int64)
        document = numba.carray(_pointer(facts[DOCUMENT]), (facts[9],), np.int64)
        start = numba.carray(_pointer(facts[START]), (facts[9],), np.int64)
        size = numba.carray(_pointer(facts[LENGTH]), (facts[9],), np.int64)
        goes_on = numba.carray(_pointer(facts[GOES_ON]), (facts[9],), np.bool_)
        column = 0
        open_place = -1  # of the row: its target is the first token of the next piece
        for piece in range(first[sequence], first[sequence + 1] + 1):
            behind = piece == first[sequence + 1]  # the piece behind the row, of which one token may be a target
            if behind and not (onward and open_place == length - 1 and piece < facts[9]):
                break
            many, begin, of = size[piece], start[piece], document[piece]
            code = (window_B[row] << 40) | of
            left_out = False
            if len(holes):
                at = np.searchsorted(holes, code)
                left_out = at < len(holes) and holes[at] == code
            unasked = 0  # so many of its first tokens are no targets
            if facts[FIRST_TARGET]:
                unasked = numba.carray(_pointer(facts[FIRST_TARGET]), (of + 1,), np.int64)[of] - begin
            if open_place >= 0 and not left_out and unasked <= 0:
                targets_BT[row, open_place] = shard[begin]
                largest = max(largest, np.uint32(shard[begin]))
            if behind:
                break
            tokens = tokens_BT[row, column : column + many]
            targets = targets_BT[row, column : column + many]
            positions = positions_BT[row, column : column + many]
            documents = documents_BT[row, column : column + many]
            open_place = -1
            if left_out:
                tokens[:] = pad
                targets[:] = ignored
                positions[:] = 0
                documents[:] = none
                column += many
                continue
            here = shard[begin : begin + many]
            for n in range(many):
                tokens[n] = here[n]
                largest = max(largest, np.uint32(here[n]))
            there = shard[begin + 1 : begin + many + 1]
            ahead = many if goes_on[piece] else many - 1
            for n in range(ahead):
                targets[n] = there[n]
            if goes_on[piece]:
                largest = max(largest, np.uint32(there[many - 1]))
            else:
                targets[many - 1] = ignored
                open_place = column + many - 1 if joined else -1
            for n in range(min(max(unasked - 1, 0), many)):  # the target of a place is the token behind it
                targets[n] = ignored
            done = 0
            while done < many:  # one part, unless the row is read as several sequences
                part = min(many - done, most - (column + done) % most)
                before = (column + done) % most if joined else 0
                name = row * (length // most) + (column + done) // most if joined else number
                some_positions = positions[done : done + part]
                some_documents = documents[done : done + part]
                for n in range(part):
                    some_positions[n] = before + n
                for n in range(part):
                    some_documents[n] = name
                number += 1
                done += part
            column += many
        tokens_BT[row, column:] = pad
        targets_BT[row, column:] = ignored
        positions_BT[row, column:] = 0
        documents_BT[row, column:] = none
    return largest


@_njit
def permute(numbers: Any, sizes_N: Any, keys_KR: Any, key_N: Any, inverse: bool, result: Any) -> None:
    """The body of `trainer.permute.permuted`; number n is permuted below sizes_N[n] under the keys key_N[n]."""
    for n in range(len(numbers)):
        half = 1
        while half < 32 and (np.uint64(1) << np.uint64(2 * half)) < np.uint64(sizes_N[n]):
            half += 1
        bits = np.uint64(half)
        mask = (np.uint64(1) << bits) - np.uint64(1)
        value = np.uint64(numbers[n])
        keys = keys_KR[key_N[n]]
        while True:
            left, right = value >> bits, value & mask
            if inverse:
                left, right = right, left
            for key in keys:
                mixed = right + key  # splitmix64's finaliser (Steele et al. 2014) over value and key
                mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
                left, right = right, left ^ ((mixed ^ mixed >> np.uint64(31)) & mask)
            if inverse:
                left, right = right, left
            value = left << bits | right
            if value < np.uint64(sizes_N[n]):
                break
        result[n] = np.int64(value)


@_njit
def split(samples: Any, nodes_N5: Any, group: Any, number: Any) -> None:
    """The body of `trainer.blend.Blend.split`: each sample goes down the tree.

    nodes_N5: parts of the left half, parts of the node, offset, left child, right child; a child below 0 is ~group.
    """
    for n in range(len(samples)):
        at, node = samples[n], 0
        while node >= 0:
            left, whole, offset = nodes_N5[node, 0], nodes_N5[node, 1], nodes_N5[node, 2]
            before = (at * left + offset) // whole
            if ((at + 1) * left + offset) // whole > before:
                at, node = before, nodes_N5[node, 3]
            else:
                at, node = at - before, nodes_N5[node, 4]
        group[n], number[n] = ~node, at


@_njit
def _lowest(word: Any) -> Any:
    """The number of the lowest bit that is set."""
    number = 0
    while not word & np.uint64(0xFF):
        word >>= np.uint64(8)
        number += 8
    while not word & np.uint64(1):
        word >>= np.uint64(1)
        number += 1
    return number


@_njit
def best_fit(lengths: Any, capacity: int) -> Any:
    """For each piece (pieces,), longest first, the bin with the least room that still takes it, or a new bin.

    Of bins with equal room the one that came last to it.
    """
    bins = np.empty(len(lengths), np.int64)
    top = np.full(capacity + 1, -1, np.int64)  # of the bins with this room, the one that came last
    below = np.empty(len(lengths), np.int64)  # by bin: the one that came before it
    words = (capacity >> 6) + 1
    has = np.zeros(words, np.uint64)  # bit r % 64 of word r // 64: there are bins with room r
    some = np.zeros((words >> 6) + 1, np.uint64)  # the same of those words, so that few are looked at
    one, opened = np.uint64(1), 0
    for piece in range(len(lengths)):
        length = lengths[piece]
        word = length >> 6
        found = has[word] >> np.uint64(length & 63) << np.uint64(length & 63)
        if not found:
            block = (word + 1) >> 6
            ahead = np.uint64(0)
            if block < len(some):
                ahead = some[block] >> np.uint64((word + 1) & 63) << np.uint64((word + 1) & 63)
            while not ahead and block + 1 < len(some):
                block += 1
                ahead = some[block]
            if ahead:
                word = (block << 6) + _lowest(ahead)
                found = has[word]
        if found:
            room = (word << 6) + _lowest(found)
            chosen = top[room]
            top[room] = below[chosen]
            if top[room] < 0:
                has[word] ^= one << np.uint64(room & 63)
                if not has[word]:
                    some[word >> 6] ^= one << np.uint64(word & 63)
        else:
            room, chosen, opened = capacity, opened, opened + 1
        bins[piece] = chosen
        left = room - length
        if left > 0:
            below[chosen] = top[left]
            top[left] = chosen
            has[left >> 6] |= one << np.uint64(left & 63)
            some[left >> 12] |= one << np.uint64((left >> 6) & 63)
    return bins


@_njit
def judge(
    sums_P: Any,
    targets_P: Any,
    group_P: Any,
    known: Any,
    least_known: int,
    flat: float,
    least_targets: int,
    sigmas: float,
    most: float,
    loss_P: Any,
    outliers_P: Any,
    mean_G: Any,
    sd_G: Any,
    added: Any,
) -> None:
    """The body of `trainer.guard.Guard.of_documents`. known, added: (3 G + 1,), added of zeros; from loss_P on it is
    written to."""
    groups = len(mean_G)
    every = known[3 * groups]
    for g in range(groups):
        count = known[g]
        every += count
        mean_G[g] = sd_G[g] = np.nan
        if count >= least_known:
            mean = known[groups + g] / count
            mean_G[g] = mean
            sd_G[g] = max(np.sqrt(max(known[2 * groups + g] / count - mean * mean, 0.0)), flat * abs(mean))
    usual = known[3 * groups] > most * max(1.0, every)  # a kind of text, which is part of what is usual
    for p in range(len(sums_P)):
        group, loss = group_P[p], sums_P[p] / max(targets_P[p], 1)
        far = not usual and targets_P[p] >= least_targets and loss > mean_G[group] + sigmas * sd_G[group]
        loss_P[p], outliers_P[p] = loss, far or not np.isfinite(loss)
        if outliers_P[p]:
            added[3 * groups] += 1
        elif targets_P[p] >= least_targets:
            added[group] += 1
            added[groups + group] += loss
            added[2 * groups + group] += loss * loss


@_njit
def fade(known: Any, added: Any, groups: int, memory: float) -> None:
    """Adds sums of documents, as in `judge`, to those known, which fade to a third while `memory` documents come."""
    keep = 1.0 - min(0.25, added[:groups].sum() / memory)
    for n in range(len(known)):
        known[n] = keep * known[n] + added[n]
