"""Lists of hosts and URLs in the forms that people keep them in, read into one table."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stages.listfiles import opened
from stages.lookup import SEED_1, SEED_2, Hashes, Keys, keys
from stages.url import kernels
from stages.url.hosts import is_public_suffix, packed, public_suffixes, split

FORMS = ("plain", "domains", "urls", "expressions", "hosts", "adblock")
"""What a list may be in, as `FORM:PATH` names it; `domains` and `urls` are `plain` by other names, those of UT1."""

Suffixes = Literal["refuse", "skip", "block"]

_CHUNK = 1 << 22
_LOCAL = re.compile(r"local|localhost|broadcasthost|ip6-.*|.*\.localdomain|0\.0\.0\.0")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(?:%\w+)?")
_WWW = re.compile(r"(?:[A-Za-z]+:)?(?://)?(?:[^/@]*@)?www\.", re.I)
_OPTIONS = {"all", "document", "doc", "important", "popup"}
_UT1 = {"domains", "urls", "expressions", "domains.txt", "urls.txt", "expressions.txt"}


class Table(NamedTuple):
    """The entries of all lists."""

    keys: Keys
    flags: npt.NDArray[np.uint8]
    """What each key means: the bits of `kernels`."""
    categories: npt.NDArray[np.uint16]
    """Number of the first category that blocks it."""
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
    kinds: npt.NDArray[np.uint8]
    category: int
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
            one = found[0]
            places = np.full(number, one.category, np.uint16)
            return self._made(one.first[:number], one.second[:number], one.kinds[:number], places)
        first, second = np.empty(number, np.uint64), np.empty(number, np.uint64)
        kinds, places = np.empty(number, np.uint8), np.empty(number, np.uint16)
        while found:  # from the end, so that each part's memory is given back
            part = found.pop()
            place = slice(number - part.used, number)
            first[place], second[place] = part.first[: part.used], part.second[: part.used]
            kinds[place], places[place] = part.kinds[: part.used], part.category
            number -= part.used
            del part
        return self._made(first, second, kinds, places)

    def _made(
        self, first: Hashes, second: Hashes, kinds: npt.NDArray[np.uint8], places: npt.NDArray[np.uint16]
    ) -> Table:
        rooted = bool(((first == SEED_1) & (second == SEED_2)).any())
        table, (order, starts) = keys(first, second)
        places[kinds & kernels.BLOCK == 0] = kernels.NO_CATEGORY
        flags = np.bitwise_or.reduceat(kinds[order], starts) if len(starts) else kinds
        categories = np.minimum.reduceat(places[order], starts) if len(starts) else places
        return Table(table, flags, categories, rooted, tuple(self.names), tuple(self.expressions))

    def _entries(self, shown: str, data: bytes, form: str, flag: int, place: int) -> None:
        number = {"hosts": kernels.HOSTS, "adblock": kernels.ADBLOCK}.get(form, kernels.PLAIN)
        buffer = np.frombuffer(data, np.uint8)
        begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        line = 0
        most = 2 * (data.count(b"\n") + 1)
        room = _Room(np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.uint8), place)
        self._found.append(room)
        spelled: dict[int, list[bytes]] = {}
        while begin < len(buffer):
            end = min(begin + _CHUNK, len(buffer))
            stop = data.find(b"\n", end - 1)
            end = len(buffer) if stop < 0 else stop + 1
            odd, line = self._scan(buffer, begin, end, number, line, flag, room)
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
            room = _Room(np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.uint8), place)
            self._scan(again, 0, len(again), kernels.SPELLED, 0, meaning, room)
            if form == "adblock":
                room.kinds[: room.used][room.kinds[: room.used] != kernels.PATHS] |= kernels.BELOW
            self._found.append(room)

    def _scan(
        self, data: npt.NDArray[np.uint8], begin: int, end: int, form: int, line: int, flag: int, room: _Room,
    ) -> tuple[npt.NDArray[np.int64], int]:  # fmt: skip
        lines = int(np.count_nonzero(data[begin:end] == 10)) + 1
        odd = np.empty((lines, 3), np.int64)
        first, second, kinds = (part[room.used :] for part in (room.first, room.second, room.kinds))
        suffixes, suffix_kinds = self._suffixes
        if form == kernels.SPELLED:
            suffix_kinds = suffix_kinds[:0]
        count, odds, line = kernels.scan(
            data, begin, end, form, first, second, kinds, odd, line, flag, *suffixes, suffix_kinds
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


def detected(data: bytes) -> str:
    """The form of a list, by its first lines that are no comments."""
    lines = (line.strip() for line in data[: 1 << 16].decode("utf-8", "replace").splitlines()[:1000])
    for line in lines:
        if line.startswith(("[Adblock", "[uBlock", "!", "||", "@@")) or "##" in line:
            return "adblock"
        words = line.split()
        if not words or line.startswith("#"):
            continue
        return "hosts" if len(words) > 1 and _is_address(words[0]) else "plain"
    return "plain"


def spellings(line: str, form: str, public: Suffixes) -> Iterator[tuple[bool, bytes]]:
    """The entries of a line that a kernel found odd: (whether it is an exception, its entry as `hosts.split` spells
    it).

    Raises ValueError where the line is not in this form, or blocks a public suffix and `public` says to refuse that.
    """
    if form == "adblock":
        read = _adblock(line)
        if read is None:
            return
        allows, entries = read[0], [read[1]]
    elif form == "hosts":
        allows, entries = False, _hosts(line)
    else:
        entry = re.sub(r"\s+#.*", "", line)
        if re.search(r'[\s"<>|^`{}]', entry):
            raise ValueError(f"{line[:80]!r} is no domain and no URL{_hint(line)}")
        allows, entries = False, [entry.removeprefix("*.").removeprefix(".")]
    for entry in entries:
        host, port, path = split(entry)
        path = path.rstrip("/")
        rooted = entry.startswith("/") and not entry.startswith("//")
        if rooted:
            _, _, path = split("host.example" + entry)
            host, port, path = "", "", path.rstrip("/")
        elif not host or ("." not in host and not is_public_suffix(host)):
            raise ValueError(f"{line[:80]!r} is no domain and no URL{_hint(line)}")
        if not path and not port and not rooted:
            if is_public_suffix(host) and _WWW.match(entry):
                host = f"www.{host}"  # somebody's name all the same, such as www.com
            if is_public_suffix(host) and not allows:
                if public == "skip":
                    continue
                if public == "refuse":
                    raise ValueError(
                        f"{line[:80]!r} is a public suffix: it would block each site below it; "
                        "public_suffixes: skip passes over such lines, block takes them at their word"
                    )
        if host or path:
            yield allows, f"{host}{':' if port else ''}{port}{path}".encode("latin-1")


def _hint(line: str) -> str:
    form = detected(line.encode())
    return f": is the list in the form {form}?" if form != "plain" else ""


def _hosts(line: str) -> list[str]:
    words = line.partition("#")[0].split()
    if not words or not _is_address(words[0]):
        raise ValueError(f"{line[:80]!r} is not in the hosts form, `0.0.0.0 bad.example`{_hint(line)}")
    return [word for word in words[1:] if not _LOCAL.fullmatch(word)]


def _is_address(word: str) -> bool:
    if not _ADDRESS.fullmatch(word):
        return False
    try:
        ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return False
    return True


def _adblock(line: str) -> tuple[bool, str] | None:
    """(whether it is an exception, its host or URL); None for rules about parts of pages, which are no matter of
    ours."""
    if line.startswith(("!", "[")) or re.search(r"#[@?$%]*#", line):
        return None
    if re.match(r"[0-9A-Fa-f:.]+\s", line):
        raise ValueError(f"{line[:80]!r} is not in the adblock form, `||bad.example^`{_hint(line)}")
    allows = line.startswith("@@")
    rule, _, options = line.removeprefix("@@").partition("$")
    if not set(filter(None, options.split(","))) <= _OPTIONS:
        return None
    if not rule.startswith("||"):
        return None
    rule = rule[2:].removesuffix("|").removesuffix("*").removesuffix("^")
    if "*" in rule or "^" in rule or "." not in rule:
        return None
    if re.search(r"\s", rule):
        raise ValueError(f"{line[:80]!r} is not in the adblock form, `||bad.example^`")
    return allows, rule


@functools.cache
def _suffix_table() -> tuple[Keys, npt.NDArray[np.uint8]]:
    """Public suffixes by hash, with the bits of `kernels`."""
    suffixes, wild, but = public_suffixes()
    names: dict[str, int] = dict.fromkeys(suffixes, kernels.SUFFIX)
    for group, bit in ((wild, kernels.WILD), (but, kernels.EXCEPT)):
        for name in group:
            names[name] = names.get(name, 0) | bit
    first, second = np.empty(len(names) * 2, np.uint64), np.empty(len(names) * 2, np.uint64)
    kinds, odd = np.empty(len(names) * 2, np.uint8), np.empty((len(names), 3), np.int64)
    data, _ = packed([name.encode() + b"\n" for name in names])
    none, _ = keys(first[:0], second[:0])
    kernels.scan(data, 0, len(data), kernels.SPELLED, first, second, kinds, odd, 0, 1, *none, np.zeros(0, np.uint8))
    table, (order, _) = keys(first[: len(names)], second[: len(names)])
    return table, np.array(list(names.values()), np.uint8)[order]
