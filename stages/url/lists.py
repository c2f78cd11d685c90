"""Lists of hosts and URLs in the forms that people keep them in, read into one table."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.listfiles import opened
from stages.lookup import SEED_1, SEED_2, Hashes, Keys, directory, keys, sort
from stages.url import kernels
from stages.url.forms import Suffixes, detected, spellings
from stages.url.hosts import packed, public_suffixes

_CHUNK = 1 << 22
_UT1 = {"domains", "urls", "expressions", "domains.txt", "urls.txt", "expressions.txt"}


class Table(NamedTuple):
    """The entries of all lists."""

    keys: Keys
    values: npt.NDArray[np.uint32]
    """What each key means: the bits of `kernels`, and the number of the first category that blocks it."""
    rooted: bool
    """Whether some entries are paths on any host."""
    names: tuple[str, ...]
    """The categories."""
    expressions: tuple[tuple[int, int, str], ...]
    """(flag, category, pattern in RE2's syntax) for whole URLs."""


@dataclass
class _Room:
    """Where the entries of one list go. Room that is not used costs no memory: nobody touches its pages."""

    first: Hashes
    second: Hashes
    values: npt.NDArray[np.uint32]
    used: int = 0


class Reader:
    """Takes in lists, one after the other, and makes the table of them."""

    def __init__(self, public: Suffixes) -> None:
        self.public = public
        self.names: list[str] = []
        self.expressions: list[tuple[int, int, str]] = []
        self._found: list[_Room] = []
        self._suffixes = _suffix_table()

    def read(self, path: str, data: bytes, form: str | None, flag: int, only: Sequence[str] = ()) -> int:
        """Takes in a file, or the files of an archive; gives the number of lists in it. Raises ValueError with the line
        where a list is not in its form.

        `path` names the category: the folder of UT1's `domains`, `urls` and `expressions`, else the file's name.
        `only`: the categories to read, empty for all.
        """
        number = 0
        for name, content in opened(path, data):
            inner = PurePosixPath(name)
            ut1 = inner.name in _UT1
            if (
                form is None
                and not ut1
                and (inner.name in ("usage", "README", "LICENSE", "CATEGORY") or name[-3:] == ".md")
            ):
                continue
            category = inner.parent.name if ut1 and inner.parent.name else inner.stem
            if only and category not in only:
                continue
            number += 1
            shown = path if name == path or path.startswith(name) else f"{path}: {name}"
            kind = form or (inner.stem if ut1 else detected(content))
            if category not in self.names:
                self.names.append(category)
            place = self.names.index(category)
            if place >= kernels.NO_CATEGORY:
                raise ValueError(f"{shown}: more than {kernels.NO_CATEGORY} lists")
            if kind == "expressions":
                self._patterns(shown, content, flag, place)
            else:
                self._entries(shown, content, kind, flag, place)
        return number

    @property
    def entries(self) -> int:
        """Entries and patterns read so far."""
        return sum(part.used for part in self._found) + len(self.expressions)

    def table(self) -> Table:
        """All that was read, as one table. To be called once: it takes the memory over."""
        found, self._found = self._found, []
        number = sum(part.used for part in found)
        if len(found) == 1:  # its arrays serve as they are
            return self._made(found[0].first[:number], found[0].second[:number], found[0].values[:number])
        first, second = np.empty(number, np.uint64), np.empty(number, np.uint64)
        values = np.empty(number, np.uint32)
        while found:  # from the end, so that each part's memory is given back
            part = found.pop()
            place = slice(number - part.used, number)
            first[place], second[place] = part.first[: part.used], part.second[: part.used]
            values[place] = part.values[: part.used]
            number -= part.used
            del part
        return self._made(first, second, values)

    def _made(self, first: Hashes, second: Hashes, values: npt.NDArray[np.uint32]) -> Table:
        sort(first, second, values)
        count = kernels.merge(first, second, values)
        table = directory(first[:count], second[:count])
        same = np.searchsorted(first[:count], [SEED_1, SEED_1 + np.uint64(1)])
        rooted = bool((second[same[0] : same[1]] == SEED_2).any())
        return Table(table, values[:count], rooted, tuple(self.names), tuple(self.expressions))

    def _entries(self, shown: str, data: bytes, form: str, flag: int, place: int) -> None:
        category = place << kernels.CATEGORY
        number = {"hosts": kernels.HOSTS, "adblock": kernels.ADBLOCK}.get(form, kernels.PLAIN)
        buffer = np.frombuffer(data, np.uint8)
        begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        line = 0
        most = 2 * (data.count(b"\n") + 1)
        room = _Room(np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.uint32))
        self._found.append(room)
        spelled: dict[int, list[bytes]] = {}
        while begin < len(buffer):
            end = min(begin + _CHUNK, len(buffer))
            stop = data.find(b"\n", end - 1)
            end = len(buffer) if stop < 0 else stop + 1
            odd, line = self._scan(buffer, begin, end, number, line, flag | category, room)
            begin = end
            for at, start, finish in odd.tolist():
                text = data[start:finish].decode("utf-8", "replace")
                try:
                    for allows, entry in spellings(text, form, self.public):
                        spelled.setdefault(kernels.ALLOW if allows else flag, []).append(entry)
                except ValueError as error:
                    raise ValueError(f"{shown} line {at}: {error}") from None
        for meaning, lines in spelled.items():
            again, _ = packed([entry + b"\n" for entry in lines])
            most = 2 * len(lines)
            room = _Room(np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.uint32))
            self._scan(again, 0, len(again), kernels.SPELLED, 0, meaning | category, room)
            if form == "adblock":
                values = room.values[: room.used]
                values[values != kernels.PATHS] |= kernels.BELOW
            self._found.append(room)

    def _scan(
        self, data: npt.NDArray[np.uint8], begin: int, end: int, form: int, line: int, value: int, room: _Room,
    ) -> tuple[npt.NDArray[np.int64], int]:  # fmt: skip
        lines = int(np.count_nonzero(data[begin:end] == 10)) + 1
        odd = np.empty((lines, 3), np.int64)
        first, second, values = (part[room.used :] for part in (room.first, room.second, room.values))
        suffixes, suffix_kinds = self._suffixes
        if form == kernels.SPELLED:
            suffix_kinds = suffix_kinds[:0]
        count, odds, line = kernels.scan(
            data, begin, end, form, first, second, values, odd, line, value, *suffixes, suffix_kinds
        )
        room.used += count
        return odd[:odds], line

    def _patterns(self, shown: str, data: bytes, flag: int, place: int) -> None:
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            pattern = line.strip()
            if not pattern or pattern.startswith("#"):
                continue
            try:
                pc.match_substring_regex(pa.array([""]), pattern, ignore_case=True)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{shown} line {number}: not a regular expression of RE2: {error}") from None
            self.expressions.append((flag, place, pattern))


@functools.cache
def _suffix_table() -> tuple[Keys, npt.NDArray[np.uint8]]:
    """Public suffixes by hash, with the bits of `kernels`."""
    suffixes, wild, but = public_suffixes()
    names: dict[str, int] = dict.fromkeys(suffixes, kernels.SUFFIX)
    for group, bit in ((wild, kernels.WILD), (but, kernels.EXCEPT)):
        for name in group:
            names[name] = names.get(name, 0) | bit
    first, second = np.empty(len(names) * 2, np.uint64), np.empty(len(names) * 2, np.uint64)
    values, odd = np.empty(len(names) * 2, np.uint32), np.empty((len(names), 3), np.int64)
    data, _ = packed([name.encode() + b"\n" for name in names])
    none, _ = keys(first[:0], second[:0])
    kernels.scan(data, 0, len(data), kernels.SPELLED, first, second, values, odd, 0, 1, *none, np.zeros(0, np.uint8))
    table, (order, _) = keys(first[: len(names)], second[: len(names)])
    return table, np.array(list(names.values()), np.uint8)[order]
