"""One automaton over code points for all that makes ftfy change a line, built from ftfy's own patterns.

`ftfy.fix_and_explain` runs each of its fixers over each line, and gives a line back as it was unless one of a few
regular expressions matches in it: `BADNESS_RE` (mojibake), the entities of HTML, C1 controls, terminal escapes, and
the characters of tables (ligatures, widths, quotes). They are read here as `re` parses them, and become a table of
transitions, so a kernel asks all of them in one step a character. The answer is exact, and follows ftfy's release.

Kernels hold the bits below as constants: `stages.kernels` finds this file by its name here.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ftfy import chardata, fixes
from ftfy.badness import BADNESS_RE

from stages.text.characters import CODES, every_code

CHANGES = 1 << 14
"""In `Automaton.steps`: ftfy may change the line."""
ENTITY = 1 << 15
"""In `Automaton.steps`: an entity of HTML ends here, which ftfy may decode."""
STATE = CHANGES - 1

_parser: Any = importlib.import_module("re._parser")
_Members = tuple[int, ...]
"""A set of code points: those that begin a run of members or of others, ascending, members first."""


class Automaton(NamedTuple):
    """What a line's characters lead to: state 0 is a line's start."""

    kinds: npt.NDArray[np.uint16]
    """By code point: which of the kinds of characters it is that the patterns tell apart."""
    steps: npt.NDArray[np.uint16]
    """By (state, kind): the next state, and the bits `CHANGES` and `ENTITY` where a pattern is complete."""


@functools.cache
def automaton(entities: bool, widths: bool, quotes: bool) -> Automaton:
    """The automaton for ftfy with these of its fixers on, beside those that always are."""
    patterns = [BADNESS_RE, chardata.C1_CONTROL_RE, fixes.ANSI_RE, _one_of(chardata.LIGATURES)]
    patterns += [_one_of(chardata.WIDTH_MAP)] * widths
    patterns += [chardata.SINGLE_QUOTE_RE, chardata.DOUBLE_QUOTE_RE] * quotes
    machine = _Machine()
    for pattern in patterns:
        machine.add(pattern, CHANGES)
    if entities:
        machine.add(chardata.HTML_ENTITY_RE, ENTITY)
    return machine.table()


def _one_of(codes: Iterable[int]) -> re.Pattern[str]:
    return re.compile("[" + "".join(map(re.escape, map(chr, codes))) + "]")


class _Machine:
    """A nondeterministic automaton (Thompson's construction), and the deterministic one made of it."""

    def __init__(self) -> None:
        self.sets: set[_Members] = set()
        self.free: list[list[int]] = []  # by node: nodes reached without a character
        self.taken: list[tuple[_Members, int] | None] = []  # by node: the character's set, and the node behind it
        self.complete: dict[int, int] = {}
        self.at_start: list[int] = []  # of patterns that begin with ^
        self.anywhere: list[int] = []

    def add(self, pattern: re.Pattern[str], label: int) -> None:
        """Adds what `pattern` finds. Raises NotImplementedError where it has a construct that ftfy never used."""
        tree = _parser.parse(pattern.pattern, pattern.flags)
        first, last = self._node(), self._node()
        self._sequence(list(tree), first, last)
        self.anywhere.append(first)
        self.complete[last] = label

    def _node(self) -> int:
        self.free.append([])
        self.taken.append(None)
        return len(self.free) - 1

    def _sequence(self, items: list[tuple[Any, Any]], first: int, last: int) -> None:
        at = self._node()  # of its own, since branches begin at one node
        self.free[first].append(at)
        for item in items:
            following = self._node()
            self._item(item, at, following)
            at = following
        self.free[at].append(last)

    def _item(self, item: tuple[Any, Any], first: int, last: int) -> None:
        name, value = str(item[0]), item[1]
        if name == "BRANCH":
            for branch in value[1]:
                self._sequence(list(branch), first, last)
        elif name == "SUBPATTERN":
            self._sequence(list(value[3]), first, last)
        elif name == "MAX_REPEAT":
            least, most, body = value
            at = first
            for _ in range(least):
                following = self._node()
                self._sequence(list(body), at, following)
                at = following
            if most == _parser.MAXREPEAT:
                again = self._node()
                self.free[at].append(again)
                self._sequence(list(body), again, again)
                at = again
            else:
                for _ in range(most - least):
                    self.free[at].append(last)
                    following = self._node()
                    self._sequence(list(body), at, following)
                    at = following
            self.free[at].append(last)
        elif name == "AT" and str(value) in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            behind = self._node()
            self.free[behind].append(last)
            self.at_start.append(behind)
        else:
            self.taken[first] = (self._members(name, value), last)

    def _members(self, name: str, value: Any) -> _Members:
        """The set of characters that an element takes."""
        if name == "ANY":
            members = _others(_joined([(10, 11)]))
        elif name in ("LITERAL", "NOT_LITERAL"):
            members = _joined([(value, value + 1)])
        elif name == "IN":
            members = _joined([run for part, content in value for run in _runs(str(part), content)])
        else:
            raise NotImplementedError(f"this release of ftfy has a pattern with {name}, which `normalize` cannot read")
        if name == "NOT_LITERAL" or (name == "IN" and str(value[0][0]) == "NEGATE"):
            members = _others(members)
        self.sets.add(members)
        return members

    def _reached(self, nodes: Iterable[int]) -> int:
        """All nodes that these lead to without a character, as bits."""
        found: set[int] = set()
        rest = list(nodes)
        while rest:
            node = rest.pop()
            if node not in found:
                found.add(node)
                rest += self.free[node]
        return sum(1 << node for node in found)

    def table(self) -> Automaton:
        """The deterministic automaton: a state is the set of nodes that one may be at."""
        kinds, takes = _partition(sorted(self.sets))
        edges = {node: (takes[edge[0]], self._reached([edge[1]])) for node, edge in enumerate(self.taken) if edge}
        anywhere = self._reached(self.anywhere)
        every = range(int(kinds.max()) + 1)
        usual = [self._following(anywhere, edges, kind) | anywhere for kind in every]
        start = self._reached([*self.anywhere, *self.at_start])
        numbers, states = {start: 0}, [start]
        rows: list[npt.NDArray[np.uint16]] = []
        for state in states:  # grows as it goes
            row = np.zeros(len(every), np.uint16)
            more = state & ~anywhere
            for kind in every:
                target = self._following(more, edges, kind) | usual[kind]
                labels = 0
                for node, label in self.complete.items():
                    labels |= label if target >> node & 1 else 0
                if labels & CHANGES:
                    target = start  # the line is known by now: where this leads does not matter
                if target not in numbers:
                    numbers[target] = len(states)
                    states.append(target)
                row[kind] = numbers[target] | labels
            rows.append(row)
        if len(rows) >= CHANGES:
            raise NotImplementedError("this release of ftfy has patterns that need too many states")
        return Automaton(kinds, np.array(rows))

    @staticmethod
    def _following(nodes: int, edges: Mapping[int, tuple[npt.NDArray[np.bool_], int]], kind: int) -> int:
        found = 0
        while nodes:
            node = (nodes & -nodes).bit_length() - 1
            nodes &= nodes - 1
            if node in edges and edges[node][0][kind]:
                found |= edges[node][1]
        return found


def _runs(part: str, content: Any) -> list[tuple[int, int]]:
    """The code points of a part of a set, as half-open ranges."""
    if part == "LITERAL":
        return [(content, content + 1)]
    if part == "RANGE":
        return [(content[0], content[1] + 1)]
    if part == "CATEGORY":
        return _category(str(content))
    if part == "NEGATE":
        return []
    raise NotImplementedError(f"this release of ftfy has a pattern with {part}, which `normalize` cannot read")


@functools.cache
def _category(name: str) -> list[tuple[int, int]]:
    """Python's `\\w`, `\\s`, `\\d` and their opposites."""
    letter = {"WORD": "w", "SPACE": "s", "DIGIT": "d"}[name.removeprefix("CATEGORY_").removeprefix("NOT_")]
    letter = letter.upper() if "NOT_" in name else letter
    return [match.span() for match in re.finditer(rf"\{letter}+", every_code())]


def _joined(runs: list[tuple[int, int]]) -> _Members:
    """The set of what lies in any of these ranges."""
    found: list[int] = []
    for begin, end in sorted(run for run in runs if run[0] < run[1]):
        if found and begin <= found[-1]:
            found[-1] = max(found[-1], end)
        else:
            found += [begin, end]
    return tuple(found)


def _others(members: _Members) -> _Members:
    """The set of all others."""
    return _joined(list(itertools.pairwise((0, *members, CODES)))[::2])


def _partition(sets: list[_Members]) -> tuple[npt.NDArray[np.uint16], dict[_Members, npt.NDArray[np.bool_]]]:
    """The kinds of code points that these sets tell apart: kind by code point, and by set whether it has each kind."""
    begins = np.unique(np.array([0, *itertools.chain(*sets)]))
    begins = begins[begins < CODES]
    inside = np.array([np.searchsorted(members, begins, side="right") % 2 == 1 for members in sets])
    columns, kinds = np.unique(inside, axis=1, return_inverse=True)
    lengths = np.diff([*begins, CODES])
    return np.repeat(kinds.ravel().astype(np.uint16), lengths), dict(zip(sets, columns, strict=True))
