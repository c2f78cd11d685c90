"""Which formatting elements (`b`, `code`, `a` ...) an HTML parser may open again, in a bound that needs no tree.

A parser keeps a list of them, and opens all that are in it but no longer open in front of the next text (HTML
standard, 13.2.4.3). Their end tag takes them from the list (13.2.6.4.7), unless a table, a select, a drawing or
another wall stands between (13.2.4.2), or more blocks than the parser looks through. Here an end tag counts only where
it surely does that: each doubt leaves an element too many in the list, and none too few.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline

Ints = npt.NDArray[np.int64]

REOPENED = 100
"""Steps that one formatting element costs, opened again: it takes memory as well."""
MOST_BLOCKS = 8
"""Out of so many blocks an end tag takes its element (13.2.6.4.7, the outer loop); behind more it is ignored."""
TABLE, CELL, SELECT, FOREIGN, SCOPE, POINT, WALL, ROW, ROWS, COLUMNS = range(10)
"""Walls: FOREIGN are `svg` and `math`, POINT what holds HTML within them, SCOPE `object` and its like; WALL stands
for one of which nothing is known, and which no end tag takes away. The last three are no walls, but end a cell."""

ENTRIES, LISTED, WRITTEN, WALLS, HIDDEN = range(5)
_WEIGHT, _DEPTH, _BELOW, SLOT = range(4)
KIND, _FLOOR, _INSIDE = range(3)  # and SLOT


class Listed(NamedTuple):
    """The state of the list."""

    now: Ints
    """Entries in use; formatting elements LISTED, and bytes of their tags, which are WRITTEN with each opening;
    WALLS: the row of the innermost; how many HIDE what is text elsewhere: selects and drawings."""
    entries: Ints
    """(bytes of the tag, elements open, the entry of the same name below or -1, SLOT of the name)"""
    walls: Ints
    """(KIND, first entry within, elements open, SLOT of the name), from row 1 on; row 0 is the page."""
    last_of: Ints
    """By slot of a name: the last entry of that name that is in the list, or -1."""


@inline
def nothing_listed(most: int, slots: int) -> Any:
    """The list of a page with at most `most` tags."""
    walls = np.empty((most + 2, 4), np.int64)
    walls[0, KIND] = walls[0, SLOT] = -1
    walls[0, _FLOOR] = 0
    return Listed(np.zeros(5, np.int64), np.empty((most + 1, 4), np.int64), walls, np.full(slots, -1, np.int64))


@inline
def push(listed: Any, slot: int, weight: int, depth: int) -> None:
    """A formatting element is opened, within `depth` elements."""
    entry = listed.now[ENTRIES]
    listed.entries[entry, _WEIGHT] = weight
    listed.entries[entry, _DEPTH] = depth
    listed.entries[entry, _BELOW] = listed.last_of[slot]
    listed.entries[entry, SLOT] = slot
    listed.last_of[slot] = entry
    listed.now[ENTRIES] += 1
    listed.now[LISTED] += 1
    listed.now[WRITTEN] += weight


@inline
def take(listed: Any, slot: int, depth: int, surely: bool) -> Any:
    """An end tag: takes the last element of that name from the list. `surely`: however many blocks are open in it.

    Gives the steps: each block in the element is put into copies of what is in the list.
    """
    entry = listed.last_of[slot]
    if entry < listed.walls[listed.now[WALLS], _FLOOR]:
        return 0
    blocks = max(depth - listed.entries[entry, _DEPTH], 0)
    steps = min(blocks, MOST_BLOCKS) * (listed.now[LISTED] * REOPENED + listed.now[WRITTEN])
    if surely or blocks < MOST_BLOCKS:
        listed.last_of[slot] = listed.entries[entry, _BELOW]
        listed.now[LISTED] -= 1
        listed.now[WRITTEN] -= listed.entries[entry, _WEIGHT]
    return steps


@inline
def build(listed: Any, kind: int, slot: int, depth: int) -> None:
    """A wall is opened, within `depth` elements."""
    listed.now[WALLS] += 1
    inner = listed.now[WALLS]
    listed.walls[inner, KIND] = kind
    listed.walls[inner, _FLOOR] = listed.now[ENTRIES]
    listed.walls[inner, _INSIDE] = depth
    listed.walls[inner, SLOT] = slot
    listed.now[HIDDEN] += kind in (FOREIGN, SELECT)


@inline
def pull_down(listed: Any) -> None:
    """The innermost wall is closed. With a cell goes what was listed in it."""
    inner = listed.now[WALLS]
    kind = listed.walls[inner, KIND]
    if kind == CELL and listed.walls[inner - 1, KIND] == TABLE:  # elsewhere `<td>` may be ignored
        while listed.now[ENTRIES] > listed.walls[inner, _FLOOR]:
            entry = listed.now[ENTRIES] - 1
            slot = listed.entries[entry, SLOT]
            if listed.last_of[slot] == entry:
                listed.last_of[slot] = listed.entries[entry, _BELOW]
                listed.now[LISTED] -= 1
                listed.now[WRITTEN] -= listed.entries[entry, _WEIGHT]
            listed.now[ENTRIES] = entry
    listed.now[WALLS] -= 1
    listed.now[HIDDEN] -= kind in (FOREIGN, SELECT)


@inline
def end_of_wall(listed: Any, slot: int, depth: int) -> None:
    """The end tag of a wall other than a table: it counts for the innermost one alone."""
    inner = listed.now[WALLS]
    if listed.walls[inner, SLOT] == slot and (
        listed.walls[inner, KIND] != POINT or listed.walls[inner, _INSIDE] == depth  # else it is within an open block
    ):
        pull_down(listed)


@inline
def table_tag(listed: Any, kind: int, slot: int, closing: bool, sure: bool, caption: bool, depth: int) -> None:
    """A tag of a table or a part of it. `sure`: the parser sees it as one; `caption`: the innermost cell is one."""
    inner = listed.walls[listed.now[WALLS], KIND]
    if not sure or not (inner in (-1, TABLE, CELL, WALL) or (kind == TABLE and not closing)):
        if inner != WALL:  # the parser may close walls by it that we take to be open: they are not looked at any more
            build(listed, WALL, -1, depth)
        elif not closing:
            listed.walls[listed.now[WALLS], _FLOOR] = listed.now[ENTRIES]
        return
    if closing and kind == TABLE:
        table = listed.now[WALLS]
        while listed.walls[table, KIND] == CELL:
            table -= 1
        if listed.walls[table, KIND] == TABLE:
            while listed.now[WALLS] >= table:
                pull_down(listed)
    elif closing:
        if inner == CELL and (
            (kind == CELL and listed.walls[listed.now[WALLS], SLOT] == slot) or (kind == ROW and not caption)
        ):
            pull_down(listed)
        elif inner == CELL and kind == ROWS and not caption:  # where it ends the rows that the cell is in
            build(listed, WALL, -1, depth)
    else:
        if (inner == CELL and kind != TABLE) or inner == TABLE == kind:
            pull_down(listed)
        if kind in (TABLE, CELL):
            build(listed, kind, slot, depth)
