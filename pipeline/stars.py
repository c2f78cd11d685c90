"""Connected components by rounds of large-star and small-star, for graphs whose nodes no process can hold.

Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii 2014, Connected Components in MapReduce and Beyond, section 3.
Nodes are numbers, edges pairs (higher, lower). Large-star joins every higher neighbour of a node to the node's least
neighbour, small-star every lower one and the node itself; neither parts what was joined, nor adds an edge. Where both
change nothing, each component is a star around its least node. Where small-star changes nothing, each node has one
lower neighbour at most; large-star leaves it so (it moves the lower end of an edge), and is all that is still needed.

Both need of a node only its least neighbour: an array of 4 bytes a node of one partition, filled by a first pass over
the edges, which a second pass then rewrites. So a node with any number of neighbours costs no memory, and nothing is
sorted. A node's partition is its last bits: those of a range of ranks would be of very different sizes, as the low
ones gather the edges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from stages.kernels import njit

Edges = npt.NDArray[np.uint32]
"""(edges, 2) pairs of nodes, the higher first."""
Least = npt.NDArray[np.uint32]
"""(nodes of a partition,) the least of each node and its neighbours; node n stands at n >> bits."""

PART_NODES = 1 << 24
"""Most nodes of a partition: 64 MB of least neighbours."""
CHUNK = 1 << 20
"""Edges at once in memory: 8 MB."""


def bits_for(nodes: int, part_nodes: int | None = None) -> int:
    """How many of a node's last bits name its partition, so that none has more than PART_NODES nodes."""
    bits = 0
    while nodes > (part_nodes or PART_NODES) << bits:
        bits += 1
    return bits


def oriented(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer]) -> Edges:
    """Pairs of nodes as edges, the higher node first; pairs of equal nodes are left out."""
    edges = np.empty((len(left), 2), np.uint32)
    np.maximum(left, right, out=edges[:, 0], casting="unsafe")
    np.minimum(left, right, out=edges[:, 1], casting="unsafe")
    found: Edges = edges[edges[:, 0] != edges[:, 1]]
    return found


def within(edges: Edges, bounds: npt.NDArray[np.integer]) -> Edges:
    """The edges inside of a generation, each of which begins at one of `bounds`; all where there are none."""
    if not len(bounds) or (len(bounds) == 1 and bounds[0] == 0):
        return edges
    of = np.searchsorted(bounds, edges, "right")
    found: Edges = edges[(of[:, 0] == of[:, 1]) & (of[:, 1] > 0)]
    return found


def alone(part: int, bits: int, nodes: int) -> Least:
    """The nodes of a partition, each its own least neighbour; `nodes` in all partitions together."""
    return np.arange(part, nodes, 1 << bits, dtype=np.uint32)


@njit
def lessen(edges: Edges, bits: int, least: Least) -> None:
    """Enters edges whose higher node is of the partition into its table of least neighbours."""
    for row in range(len(edges)):
        place = edges[row, 0] >> bits
        least[place] = min(least[place], edges[row, 1])


@njit
def large_star(edges: Edges, bits: int, least: Least, out: Edges) -> int:
    """Writes to `out`, an edge for an edge, what large-star makes of edges whose lower node is of the partition.

    Returns how many changed.
    """
    changed = 0
    for row in range(len(edges)):
        low = edges[row, 1]
        best = least[low >> bits]
        out[row, 0] = edges[row, 0]
        out[row, 1] = best
        changed += best != low
    return changed


@njit
def small_star(edges: Edges, bits: int, least: Least, out: Edges) -> int:
    """Writes to `out` what small-star makes of edges whose higher node is of the partition, less those that join a node
    to its least neighbour, of which `spokes` gives each once. Returns how many there are; each of them is a change."""
    count = 0
    for row in range(len(edges)):
        low = edges[row, 1]
        best = least[edges[row, 0] >> bits]
        if best != low:
            out[count, 0] = low
            out[count, 1] = best
            count += 1
    return count


@njit
def tally(edges: Edges, column: int, mask: int, counts: npt.NDArray[np.int64]) -> None:
    """Counts the edges of each partition, by the node in this column."""
    for row in range(len(edges)):
        counts[edges[row, column] & mask] += 1


@njit
def place(edges: Edges, column: int, mask: int, ends: npt.NDArray[np.int64], out: Edges) -> None:
    """Copies edges to where the edges of their partition end in `out`, by the node in this column."""
    for row in range(len(edges)):
        part = edges[row, column] & mask
        out[ends[part], 0] = edges[row, 0]
        out[ends[part], 1] = edges[row, 1]
        ends[part] += 1


def spokes(part: int, bits: int, least: Least) -> Iterator[Edges]:
    """The edges from each node of a partition to its least neighbour, in pieces; none where no neighbour is lower."""
    for start in range(0, len(least), CHUNK):
        piece = least[start : start + CHUNK]
        node = (np.arange(start, start + len(piece), dtype=np.uint32) << np.uint32(bits)) | np.uint32(part)
        joined = piece != node
        yield np.stack([node[joined], piece[joined]], axis=1)


def leasts(chunks: Iterable[Edges], part: int, bits: int, nodes: int) -> Least:
    """The table of least neighbours of a partition, from all edges whose higher node is of it."""
    least = alone(part, bits, nodes)
    for edges in chunks:
        lessen(edges, bits, least)
    return least


def after_large(chunks: Iterable[Edges], bits: int, least: Least) -> Iterator[tuple[Edges, int]]:
    """Large-star over edges whose lower node is of the partition: new edges, and how many changed, piece by piece."""
    for edges in chunks:
        out = np.empty_like(edges)
        changed = int(large_star(edges, bits, least, out))
        yield out, changed


def after_small(chunks: Iterable[Edges], part: int, bits: int, least: Least) -> Iterator[tuple[Edges, int]]:
    """Small-star over edges whose higher node is of the partition, likewise."""
    for edges in chunks:
        out = np.empty_like(edges)
        count = int(small_star(edges, bits, least, out))
        yield out[:count], count
    for edges in spokes(part, bits, least):
        yield edges, 0


def components(left: npt.NDArray[np.integer], right: npt.NDArray[np.integer], nodes: int) -> tuple[Least, int]:
    """(nodes,) the least node of each node's component, and the rounds that it took: all in memory, one partition.

    What `pipeline.phases.stars` does in files; here to try it out.
    """
    edges, rounds, forest, small = oriented(left, right), 0, False, True
    while True:
        least = leasts([edges], 0, 0, nodes)
        pieces = list(after_small([edges], 0, 0, least) if small else after_large([edges], 0, least))
        edges = np.concatenate([piece for piece, _ in pieces])
        changed = sum(count for _, count in pieces)
        rounds += 1
        if forest and not changed:
            break
        forest = forest or (small and not changed)
        small = not small and not forest
    return leasts([edges], 0, 0, nodes), rounds
