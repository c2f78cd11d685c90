"""Counting lines by host in bounded memory: keys of hosts, sorted records in files, and how many pages have a line.

A record says that a page has a line: the line's key (128 bits of host and line) and 64 bits of the page's text. So
pages with equal texts are one page, wherever they stand. A host itself is a line that each of its pages has.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline import mapping
from pipeline.recipe import RepeatedLines
from pipeline.splits import registered_domain
from stages.lookup import sort
from stages.url.hosts import ascii_host, bare_www

Keys = npt.NDArray[np.uint64]

RECORD = 24
"""Bytes of a record in a file: three columns of 64-bit numbers, one behind the other."""
_HOST = r"^\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//(?:[^/?#\\]*@)?(?P<host>\[[^\]/?#\\]*\]|[^/?#:\\]*)"


class Records(NamedTuple):
    """Records in the order of their keys: columns in memory, or mapped from a file."""

    first: Keys
    second: Keys
    value: Keys
    """The page; in a table of counts the number of pages."""

    def part(self, low: int, high: int) -> Records:
        """The records from `low` to `high`."""
        return Records(*(column[low:high] for column in self))


class HostKeys(NamedTuple):
    """The hosts of some documents."""

    keys: Keys
    """(documents, 2)."""
    known: npt.NDArray[np.bool_]
    """False where a document has no host, or is not looked at."""
    names: list[str | None]
    """The hosts there are, and None."""
    place: npt.NDArray[np.int64]
    """(documents,) which of the names is whose."""


def host_keys(urls: pa.Array, by: str) -> HostKeys:
    """Two hashes of the host of each URL, or, `by` domain, of its registered domain.

    A host is in lower case and ASCII, without a leading `www.`; a URL without one (`urn:`, `file:///`) has none.
    """
    hosts = pc.struct_field(pc.extract_regex(urls.cast(pa.string()), _HOST), "host").dictionary_encode()
    names = [_name(host, by) for host in hosts.dictionary.to_pylist()]
    digests = b"".join(xxhash.xxh3_128_digest(name.encode(errors="surrogatepass")) for name in names)
    of_name = np.append(np.frombuffer(digests, "<u8").reshape(-1, 2), np.zeros((1, 2), np.uint64), axis=0)
    known = np.array([name != "" for name in names] + [False])
    place = hosts.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return HostKeys(np.ascontiguousarray(of_name[place], np.uint64), known[place], [*names, None], place)


def hosts_of(batch: pa.RecordBatch, settings: RepeatedLines) -> HostKeys:
    """The hosts of the documents that are looked at."""
    hosts = host_keys(batch.column("url"), settings.by)
    if settings.sources:
        chosen = pc.is_in(batch.column("source"), pa.array(settings.sources, pa.string()))
        hosts = hosts._replace(known=hosts.known & chosen.to_numpy(zero_copy_only=False))
    return hosts


@functools.lru_cache(1 << 16)
def _name(host: str, by: str) -> str:
    return registered_domain(host) if by == "domain" else bare_www(ascii_host(host))


def distinct(records: Records) -> Records:
    """The records in the order of their keys and pages, each once. Takes the arrays over."""
    first, second, page = records
    order = np.arange(len(first), dtype=np.uint32)
    sort(first, page, order)  # the second half of a key follows from the first, but for a collision of 64 bits
    second = second[order]
    same = first[1:] == first[:-1]
    if (same & (second[1:] != second[:-1])).any():
        order = np.lexsort((page, second, first)).astype(np.uint32)
        first, second, page = first[order], second[order], page[order]
        same = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    new = np.ones(len(first), np.bool_)
    new[1:] = ~(same & (page[1:] == page[:-1]))
    return Records(first, second, page) if new.all() else Records(first[new], second[new], page[new])


def counts(records: Records, least: int = 1) -> Records:
    """For each key of `distinct` records, with how many pages it stands; keys with fewer than `least` left out."""
    new = np.ones(len(records.first), np.bool_)
    new[1:] = (records.first[1:] != records.first[:-1]) | (records.second[1:] != records.second[:-1])
    starts = np.flatnonzero(new)
    numbers = np.diff(np.append(starts, len(records.first)))
    starts, numbers = starts[numbers >= least], numbers[numbers >= least]
    return Records(records.first[starts], records.second[starts], numbers.astype(np.uint64))


def write(path: Path, records: Records) -> None:
    """Writes records to a file."""
    with path.open("wb") as file:
        for column in records:
            file.write(np.ascontiguousarray(column, "<u8").data)


def mapped(path: Path) -> Records:
    """The records of a file, which is read where it is looked at."""
    count = path.stat().st_size // RECORD
    if count == 0:
        return Records(*(np.zeros(0, np.uint64) for _ in range(3)))
    whole = mapping.mapped(path, "<u8").reshape(3, count)
    return Records(*whole)


def pages_of_lines(paths: Sequence[Path], low: int, high: int, least: int, budget: int) -> Iterator[Records]:
    """Of the keys whose first half is from `low` up to below `high`: those on at least `least` pages, in order.

    The files hold `distinct` records. About `budget` records are in memory, and a line of a table for each key found:
    the range is done in pieces, and a key that fills more than a piece (a line that a whole huge host has) page by
    page of hashes.
    """
    files = [mapped(path) for path in paths]
    total = sum(int(np.subtract(*_places(file, low, high)[::-1])) for file in files)
    if total <= budget or high - low == 1:
        yield _counted(files, low, high, least, max(1, -(-total // budget)))
        return
    pieces = -(-total // budget)
    ends = [low + (high - low) * number // pieces for number in range(pieces + 1)]
    for start, end in itertools.pairwise(ends):
        here = sum(int(np.subtract(*_places(file, start, end)[::-1])) for file in files)
        if here:
            yield _counted(files, start, end, least, -(-here // (2 * budget)))


def _places(file: Records, low: int, high: int) -> tuple[int, int]:
    """Where the keys from `low` up to below `high` lie."""
    start = int(np.searchsorted(file.first, np.uint64(low)))
    return start, len(file.first) if high >= 1 << 64 else int(np.searchsorted(file.first, np.uint64(high)))


def _counted(files: Sequence[Records], low: int, high: int, least: int, rounds: int) -> Records:
    """The counts of a range: in rounds of pages, each with its own pages, whose counts add up."""
    found = []
    for number in range(rounds):
        some = []
        for file in files:
            part = file.part(*_places(file, low, high))
            if rounds == 1:
                some.append(Records(*(np.array(column) for column in part)))
            else:
                mine = np.flatnonzero(part.value % np.uint64(rounds) == number)
                some.append(Records(*(column[mine] for column in part)))
        records = Records(*(np.concatenate(column) for column in zip(*some, strict=True)))
        del some
        found.append(counts(distinct(records), least if rounds == 1 else 1))
    return found[0] if rounds == 1 else _added(found, least)


def _added(tables: Sequence[Records], least: int) -> Records:
    """Tables of counts as one: keys with at least `least` in the sum."""
    first, second, number = (np.concatenate(column) for column in zip(*tables, strict=True))
    order = np.lexsort((second, first))
    first, second, number = first[order], second[order], number[order]
    new = np.ones(len(first), np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    starts = np.flatnonzero(new)
    sums = np.add.reduceat(number, starts) if len(starts) else number
    kept = sums >= least
    return Records(first[starts[kept]], second[starts[kept]], sums[kept].astype(np.uint64))


class Table:
    """Numbers of pages by key, in files that are mapped: workers share what they look at."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """`paths`: files of counts, each in order, all keys of one below those of the next."""
        self._files = [file for file in map(mapped, paths) if len(file.first)]

    def pages(self, first: Keys, second: Keys) -> npt.NDArray[np.int64]:
        """How many pages each key has, 0 for one that is not there."""
        found = np.zeros(len(first), np.int64)
        for file in self._files:
            mine = np.flatnonzero((first >= file.first[0]) & (first <= file.first[-1]))
            at = np.searchsorted(file.first, first[mine])
            while len(mine):  # once, but where two keys have one first half
                hit = file.first[at] == first[mine]
                mine, at = mine[hit], at[hit]
                equal = file.second[at] == second[mine]
                found[mine[equal]] = file.value[at[equal]]
                mine, at = mine[~equal], at[~equal] + 1
                inside = at < len(file.first)
                mine, at = mine[inside], at[inside]
        return found
