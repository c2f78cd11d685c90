"""Which documents hang together, from verified edges between ranks: a compiled union-find, four bytes a document.

Nodes are places in the total order, older generations first, so the least node of a component is its survivor. A
generation is joined within itself; then each of its components goes to the least older cluster that an edge leads
to, and older clusters are never joined by it: nothing that was published is taken back.

Helpers of these kernels stand in this file or in stages, so that numba's cache notices their changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.union_find import join, root

Nodes = npt.NDArray[np.uint32]
Edges = tuple[Nodes, Nodes]

MOST = 2**32 - 1
"""Documents that one run can join."""


@dataclass(frozen=True)
class Cap:
    """Components above a size are taken apart into stars, whose members each resemble the leader."""

    size: int
    """Documents that a component may have."""
    stars: Callable[[Nodes, npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.int64]]
    """(members, neighbours, bounds) -> (members,) the place of each member's leader: see `pipeline.matching.stars`."""


def leaders(
    edges: Sequence[Edges],
    bounds: Sequence[int],
    start: Nodes,
    cap: Cap | None = None,
    known: int = 0,
    joined: bool = False,
) -> tuple[Nodes, int]:
    """(documents,) the least node of each node's cluster, and how many components were above the cap.

    `edges` are arrays (left, right) of nodes; generation g has the nodes from `bounds[g]` up to `bounds[g + 1]`.
    `start` (documents,) holds the least node of each node's cluster where an earlier run has found it, which is of the
    first `known` nodes, and the node itself elsewhere; it is overwritten and returned. With `joined` it also holds, in
    each later generation, the least node of what edges join within it (`pipeline.phases.stars`).
    """
    parent = start
    taken_apart = 0
    for low, high in itertools.pairwise(bounds):
        if high <= known:
            continue
        if not joined:
            for left, right in edges:
                _unite(parent, left, right, low, high)
            _flatten(parent, low, high)
        if cap is not None:
            taken_apart += _apart(parent, edges, low, high, cap)
        if low:
            best = np.full(high - low, MOST, np.uint32)
            for left, right in edges:
                _touch(parent, left, right, low, high, best)
            _attach(parent, best, low)
            _flatten(parent, low, high)
    return parent, taken_apart


def _apart(parent: Nodes, edges: Sequence[Edges], low: int, high: int, cap: Cap) -> int:
    """Gives each member of a large component the leader of its star; returns the number of such components."""
    own = parent[low:high]  # of this generation alone: it has not been attached to older clusters yet
    large = np.zeros(high - low, bool)
    roots = np.flatnonzero(np.bincount(own - low, minlength=high - low) > cap.size) + low
    if not len(roots):
        return 0
    large[roots - low] = True
    nodes: Nodes = (np.flatnonzero(large[own - low]) + low).astype(np.uint32)
    nodes = nodes[np.argsort(parent[nodes], kind="stable")]
    pairs = [np.zeros((0, 2), np.uint32)]
    for left, right in edges:
        inside = (left >= low) & (left < high) & (right >= low) & (right < high)
        inside[inside] = large[parent[left[inside]] - low]  # both ends have one root
        pairs.append(np.stack([np.minimum(left[inside], right[inside]), np.maximum(left[inside], right[inside])], 1))
    both = np.concatenate(pairs)
    both = both[np.argsort(parent[both[:, 0]], kind="stable")]
    cuts = [np.searchsorted(parent[some], np.append(roots, high)) for some in (nodes, both[:, 0])]
    found = parent.copy()  # which the roots above are looked up in
    for number in range(len(roots)):
        members = nodes[cuts[0][number] : cuts[0][number + 1]]
        places = np.unique(np.searchsorted(members, both[cuts[1][number] : cuts[1][number + 1]]), axis=0)
        places = places[np.argsort(places[:, 1], kind="stable")]
        starts = np.searchsorted(places[:, 1], np.arange(len(members) + 1))
        found[members] = members[cap.stars(members, places[:, 0].astype(np.int64), starts.astype(np.int64))]
    parent[low:high] = found[low:high]
    return len(roots)


@njit
def _unite(parent: Any, left: Any, right: Any, low: int, high: int) -> None:
    """Joins what edges join within a generation; the lesser root leads."""
    for edge in range(len(left)):
        one, other = np.int64(left[edge]), np.int64(right[edge])
        if low <= one < high and low <= other < high:
            join(parent, one, other)


@njit
def _touch(parent: Any, left: Any, right: Any, low: int, high: int, best: Any) -> None:
    """`best` gets, for the root of each component of a generation, the least older cluster that an edge leads to."""
    for edge in range(len(left)):
        one, other = np.int64(left[edge]), np.int64(right[edge])
        if one > other:
            one, other = other, one
        if one < low <= other < high:
            place = root(parent, other) - low
            best[place] = min(best[place], np.uint32(root(parent, one)))


@njit
def _attach(parent: Any, best: Any, low: int) -> None:
    for place in range(len(best)):
        if best[place] != MOST:
            parent[low + place] = best[place]


@njit
def _flatten(parent: Any, low: int, high: int) -> None:
    for node in range(low, high):
        parent[node] = parent[parent[node]]  # of a lesser node, which is flat already
