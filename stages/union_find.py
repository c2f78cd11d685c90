"""Union-find for kernels: a forest as an array of parents, in which the least node of a tree is its root."""

from __future__ import annotations

from typing import Any

from stages.kernels import inline


@inline
def root(parent: Any, node: int) -> int:
    """The root of a node's tree; the path there is halved."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@inline
def join(parent: Any, one: int, other: int) -> None:
    """Makes one tree of the trees of two nodes; the lesser root stays."""
    one, other = root(parent, one), root(parent, other)
    if one < other:
        parent[other] = one
    else:
        parent[one] = other
