"""The pairs of a bucket, compared: compiled, over the signatures of one stretch of a band table.

A bucket holds documents whose signatures agree in a band. It proposes, the whole signatures decide: a pair counts
where `need` of their values agree (and, where shingle sets are given, where their exact Jaccard similarity meets the
threshold). Within a generation the edges connect exactly what all pairs that count would connect, without comparing
them all:

- **Leader rounds**: the least member leads and is compared with those that no edge has reached; those that agree lead
  in their turn; where none is left to lead, the least of the rest does. Copies of one page cost one comparison each.
- **Refinement**, where a bucket is large and its members do not agree: two signatures of which `need` of
  `permutations` values agree differ in at most `permutations - need` places; so of one more groups of columns than
  that, one agrees as a whole (the pigeonhole principle, as PartEnum uses it: Arasu et al. 2006, Efficient Exact
  Set-Similarity Joins, section 4). Leader rounds within the groups' own buckets lose no pair, and meet few strangers.
- A bucket that still costs more than `most` comparisons is narrowed to leaders alone, and left at twice that: both
  are counted, and fall alike for every order of the input, since members come in the total order.

Between generations an edge joins a newer document to each older cluster of the bucket that it agrees with, by one
member. What becomes of that: `pipeline.components`.

Helpers of these kernels stand in this file or in stages, so that numba's cache notices their changes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import inline, njit
from stages.shingles import intersection
from stages.union_find import join, root

NAMES = ("largest", "comparisons", "refined", "narrowed", "unresolved")
"""Figures of a search: documents in the largest bucket, pairs compared, buckets that were refined, that went over the
most comparisons, and documents left behind uncompared with a part of their bucket, because it went over twice that."""
FIGURES = len(NAMES)
LARGEST, COMPARED, REFINED, NARROWED, UNRESOLVED = range(FIGURES)
_SEED = np.uint64(0x9E3779B97F4A7C15)


@inline
def _agree(signatures: Any, one: int, other: int, need: int, sets: Any, bounds: Any, millionths: int) -> bool:
    """Whether two members count as a pair. `millionths`: the threshold for the shingle sets; 0: signatures decide."""
    width = signatures.shape[1]
    left, right = signatures[one], signatures[other]
    equal = 0
    start = 0
    while start < width:
        stop = min(start + 32, width)
        for place in range(start, stop):
            equal += left[place] == right[place]
        if equal + width - stop < need:
            return False
        start = stop
    if equal < need:
        return False
    if millionths == 0:
        return True
    a, a_end, b, b_end = bounds[one, 0], bounds[one, 1], bounds[other, 0], bounds[other, 1]
    both = intersection(sets, a, a_end, sets, b, b_end)
    union = (a_end - a) + (b_end - b) - both
    enough: bool = np.int64(both) * 1_000_000 >= millionths * union
    return enough


@njit
def _room(edges: Any, used: int, more: int) -> Any:
    """`edges` with room for so many more."""
    if used + more <= len(edges):
        return edges
    larger = np.empty((max(2 * len(edges), used + more), 2), np.int64)
    larger[:used] = edges[:used]
    return larger


@inline
def _mixed(key: Any, value: Any) -> Any:
    """A step of splitmix64 (Steele et al. 2014)."""
    key ^= np.uint64(value)
    key ^= key >> np.uint64(30)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(27)
    key *= np.uint64(0x94D049BB133111EB)
    key ^= key >> np.uint64(31)
    return key


@njit
def band_keys(values: Any, rows: int, keys: Any) -> None:
    """Fills `keys` (bands, documents) with a hash of the values that each document has in each band."""
    for document in range(len(values)):
        for band in range(len(keys)):
            key = _SEED
            for column in range(band * rows, (band + 1) * rows):
                key = _mixed(key, values[document, column])
            keys[band, document] = key


@inline
def _group_hash(signatures: Any, member: int, group: int, groups: int, band: int, rows: int) -> Any:
    """A hash of the group's columns; the band's own, in which all agree, are in no group."""
    width = signatures.shape[1] - rows
    key = _SEED
    for place in range(group * width // groups, (group + 1) * width // groups):
        column = place if place < band * rows else place + rows
        key = _mixed(key, signatures[member, column])
    return key


@njit
def _rounds(
    members: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int, parent: Any,
    edges: Any, used: int, figures: Any, free: int, most: int, queue: Any,
) -> tuple[Any, int, int]:  # fmt: skip
    """Leader rounds over `members`, ascending in the total order; a copy, which is overwritten.

    Returns the edges, how many there are, and how many members are left to be compared with one another: they
    stand at the front of `members`, because the rounds cost more than `free` (then the rounds can be refined).
    With `most` > 0 they are narrowed instead, then left.
    """
    left = len(members)
    head = tail = 0
    cost = 0
    narrowed = False
    while left:
        if head == tail:
            leader = members[0]
            for place in range(1, left):
                members[place - 1] = members[place]
            left -= 1
        else:
            leader = queue[head]
            head += 1
        kept = 0
        edges = _room(edges, used, left)
        for place in range(left):
            other = members[place]
            if root(parent, leader) == root(parent, other):
                reached = True
            else:
                cost += 1
                reached = _agree(signatures, leader, other, need, sets, bounds, millionths)
                if reached:
                    edges[used, 0], edges[used, 1] = leader, other
                    used += 1
                    join(parent, leader, other)
            if reached:
                queue[tail] = other
                tail += 1
            else:
                members[kept] = other
                kept += 1
        left = kept
        if cost > free and left:
            if most == 0:
                for place in range(head, tail):
                    members[left] = queue[place]
                    left += 1
                break
            narrowed = True
            head = tail
            if cost > 2 * most:
                figures[UNRESOLVED] += left
                left = 0
    figures[NARROWED] += narrowed
    figures[COMPARED] += cost
    return edges, used, left


@njit
def _runs(members: Any, signatures: Any, group: int, groups: int, band: int, rows: int) -> tuple[Any, Any]:
    """The order of the members in which those that agree in a group of columns stand together, otherwise as they came;
    and the bounds of these runs."""
    keys = np.empty(len(members), np.uint64)
    for place in range(len(members)):
        keys[place] = _group_hash(signatures, members[place], group, groups, band, rows)
    order = np.argsort(keys, kind="mergesort")
    starts = np.empty(len(members) + 1, np.int64)
    count = 0
    for place in range(len(order)):
        if place == 0 or keys[order[place]] != keys[order[place - 1]]:
            starts[count] = place
            count += 1
    starts[count] = len(members)
    return order, starts[: count + 1]


@njit
def _refined(
    members: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int, parent: Any,
    edges: Any, used: int, figures: Any, most: int, queue: Any, band: int, rows: int,
) -> tuple[Any, int]:  # fmt: skip
    """Leader rounds within the buckets of each group of columns, of which a pair that counts shares one."""
    groups = max(1, min(signatures.shape[1] - need + 1, signatures.shape[1] - rows))
    figures[REFINED] += 1
    for group in range(groups):
        order, starts = _runs(members, signatures, group, groups, band, rows)
        for run in range(len(starts) - 1):
            if starts[run + 1] - starts[run] > 1:
                some = members[order[starts[run] : starts[run + 1]]]
                edges, used, _ = _rounds(
                    some, signatures, need, sets, bounds, millionths, parent, edges, used, figures, most, most, queue
                )
    return edges, used


@njit
def _clusters(members: Any, parent: Any, signatures: Any, alike: bool) -> tuple[Any, Any]:
    """The members, cluster by cluster, and the bounds of the clusters among them. Where signatures decide (`alike`),
    one member stands for all of its cluster that have its signature."""
    roots = np.empty(len(members), np.int64)
    keys = np.empty(len(members), np.uint64)
    for place in range(len(members)):
        roots[place] = root(parent, members[place])
        keys[place] = _group_hash(signatures, members[place], 0, 1, 0, 0)
    order = np.argsort(keys, kind="mergesort")
    order = order[np.argsort(roots[order], kind="mergesort")]
    chosen = np.empty(len(members), np.int64)
    bounds = np.empty(len(members) + 1, np.int64)
    count = clusters = 0
    for place in range(len(order)):
        one, before = order[place], order[place - 1]
        if place == 0 or roots[one] != roots[before]:
            bounds[clusters] = count
            clusters += 1
        elif alike and keys[one] == keys[before]:
            same = True
            last = chosen[count - 1]
            for column in range(signatures.shape[1]):
                same &= signatures[members[one], column] == signatures[last, column]
            if same:
                continue
        chosen[count] = members[one]
        count += 1
    bounds[clusters] = count
    return chosen[:count], bounds[: clusters + 1]


@njit
def _meet(
    older: Any, newer: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int, parent: Any,
    edges: Any, used: int, figures: Any, free: int, most: int,
) -> tuple[Any, int, bool]:  # fmt: skip
    """An edge from each cluster of newer members to each of older ones that it agrees with. Returns whether it came to
    the end: otherwise it cost more than `free` (to be refined) or, where `most` > 0, more than that."""
    olds, clusters = _clusters(older, parent, signatures, millionths == 0)
    news, groups = _clusters(newer, parent, signatures, millionths == 0)
    limit = most if most else free
    cost = 0
    for group in range(len(groups) - 1):
        for cluster in range(len(clusters) - 1):
            found = False
            for new in range(groups[group], groups[group + 1]):
                for old in range(clusters[cluster], clusters[cluster + 1]):
                    cost += 1
                    found = _agree(signatures, olds[old], news[new], need, sets, bounds, millionths)
                    if found:
                        edges = _room(edges, used, 1)
                        edges[used, 0], edges[used, 1] = olds[old], news[new]
                        used += 1
                        break
                if found or cost > limit:
                    break
            if cost > limit:
                last = found and group + 2 == len(groups) and cluster + 2 == len(clusters)
                figures[COMPARED] += cost
                if most and not last:
                    figures[NARROWED] += 1
                    figures[UNRESOLVED] += len(news) - groups[group]
                return edges, used, last
    figures[COMPARED] += cost
    return edges, used, True


@njit
def _met_refined(
    older: Any, newer: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int, parent: Any,
    edges: Any, used: int, figures: Any, most: int, band: int, rows: int,
) -> tuple[Any, int]:  # fmt: skip
    groups = max(1, min(signatures.shape[1] - need + 1, signatures.shape[1] - rows))
    olds = len(older)
    both = np.concatenate((older, newer))
    figures[REFINED] += 1
    for group in range(groups):
        order, starts = _runs(both, signatures, group, groups, band, rows)
        for run in range(len(starts) - 1):
            start, stop = starts[run], starts[run + 1]
            split = start
            while split < stop and order[split] < olds:
                split += 1
            if start < split < stop:
                edges, used, _ = _meet(
                    both[order[start:split]], both[order[split:stop]], signatures, need, sets, bounds, millionths,
                    parent, edges, used, figures, most, most,
                )  # fmt: skip
    return edges, used


@njit
def match(
    starts: Any, generation: Any, known: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int,
    most: int, figures: Any, band: int, rows: int, free_each: int,
) -> Any:  # fmt: skip
    """(edges, 2) the pairs of members that count, bucket by bucket.

    `starts` (buckets + 1,) bounds the buckets in the members, which come in each bucket in the total order, older
    generations first. `generation` (members,); `known` (members,) is the cluster of a member that is known from an
    earlier run, -1 of the others; pairs of members that are both known are not looked for. `signatures` (members,
    permutations) uint32. `sets` are shingle sets, sorted, and `bounds` (members, 2) where a member's one begins and
    ends in them, used where `millionths` > 0. A bucket may cost `free_each` comparisons a member before it is refined,
    and about `most` in all. All members of a bucket agree in the columns of `band`, which has `rows` of them.
    `figures` (FIGURES,) int64 is added to.
    """
    members = len(generation)
    parent = np.arange(members)
    queue = np.empty(members, np.int64)
    edges = np.empty((max(16, members // 4), 2), np.int64)
    used = 0
    for bucket in range(len(starts) - 1):
        low, high = starts[bucket], starts[bucket + 1]
        figures[LARGEST] = max(figures[LARGEST], high - low)
        free = free_each * (high - low)
        # Known members of one cluster are one from the start.
        fresh = low
        while fresh < high and known[fresh] >= 0:
            fresh += 1
        if fresh == high:
            continue
        if fresh > low:
            order = np.argsort(known[low:fresh], kind="mergesort")
            for place in range(1, len(order)):
                if known[low + order[place]] == known[low + order[place - 1]]:
                    join(parent, low + order[place - 1], low + order[place])
        begin = fresh
        while begin < high:
            end = begin + 1
            while end < high and generation[end] == generation[begin]:
                end += 1
            if end - begin > 1:
                some = np.arange(begin, end)
                edges, used, left = _rounds(
                    some, signatures, need, sets, bounds, millionths, parent, edges, used, figures, free, 0, queue
                )
                if left:
                    rest = np.sort(some[:left])
                    edges, used = _refined(
                        rest, signatures, need, sets, bounds, millionths, parent, edges, used, figures, most, queue,
                        band, rows,
                    )  # fmt: skip
            if begin > low:
                older, newer = np.arange(low, begin), np.arange(begin, end)
                before = used
                edges, used, done = _meet(
                    older, newer, signatures, need, sets, bounds, millionths, parent, edges, used, figures, free, 0
                )
                if not done:
                    edges, used = _met_refined(
                        older, newer, signatures, need, sets, bounds, millionths, parent, edges, before, figures, most,
                        band, rows,
                    )  # fmt: skip
            begin = end
    return edges[:used].copy()


@njit
def stars(neighbours: Any, starts: Any, signatures: Any, need: int, sets: Any, bounds: Any, millionths: int) -> Any:
    """(members,) the place of the leader of each member of one component, taken apart.

    In the total order, a member goes to the least leader of its lesser neighbours that it resembles itself, else it
    leads. The lesser neighbours of the i-th are `neighbours[starts[i]:starts[i + 1]]`; the others as in `match`.
    """
    members = len(starts) - 1
    leader = np.empty(members, np.int64)
    for member in range(members):
        best = member
        for place in range(starts[member], starts[member + 1]):
            other = leader[neighbours[place]]
            if other < best and _agree(signatures, other, member, need, sets, bounds, millionths):
                best = other
        leader[member] = best
    return leader


@njit
def jaccard(sets: Any, bounds: Any, others: Any, other_bounds: Any) -> Any:
    """(pairs,) the Jaccard similarity of the i-th set with the i-th other one; both as in `match`."""
    found = np.empty(len(bounds), np.float64)
    for pair in range(len(bounds)):
        a, a_end, b, b_end = bounds[pair, 0], bounds[pair, 1], other_bounds[pair, 0], other_bounds[pair, 1]
        both = intersection(sets, a, a_end, others, b, b_end)
        union = (a_end - a) + (b_end - b) - both
        found[pair] = both / union if union else 1.0
    return found
