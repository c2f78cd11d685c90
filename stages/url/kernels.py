"""Hosts and paths of URLs hashed where they lie: into the table of a list's entries, and against it.

A host is hashed from its end, so that one pass gives the hash of each domain above it; a path is hashed on from the
host's hash, so that one pass gives that of each path above it. What a kernel cannot read for sure (letters beyond
ASCII, escapes in a host, an IPv6 address ...) it reports as odd, and `stages.url.hosts` spells it anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.kernels import inline, njit
from stages.lookup import SEED_1, SEED_2, find, step_1, step_2

BLOCK = 1
ALLOW = 2
CURATED = 4
PATHS = 8
"""A host of which some URLs are in a list."""
BELOW = 16
"""A URL's entry that holds for the hosts below its own too."""

PLAIN, HOSTS, ADBLOCK, SPELLED = 0, 1, 2, 3
"""Forms of lines; SPELLED: by `hosts.split`, to be taken as they are."""

SUFFIX, WILD, EXCEPT = 1, 2, 4
NO_CATEGORY = 0xFFFF
CATEGORY = 8
"""A value of the table: its flags, and from this bit on the number of a category (NO_CATEGORY: it does not block)."""
FLAGS = (1 << CATEGORY) - 1


@inline
def lower(byte: Any) -> Any:
    """An ASCII letter in lower case."""
    return byte + 32 if 65 <= byte <= 90 else byte


@inline
def _hex(byte: Any) -> Any:
    if 48 <= byte <= 57:
        return byte - 48
    byte = lower(byte)
    return byte - 87 if 97 <= byte <= 102 else -1


@inline
def plain_byte(data: Any, at: int, end: int) -> tuple[Any, int]:
    """One byte of a path in lower case, its escape undone as `hosts.split` does; and where the next one lies."""
    byte: Any = np.int64(data[at])
    if byte == 37 and at + 2 < end:
        high, low = _hex(np.int64(data[at + 1])), _hex(np.int64(data[at + 2]))
        if high >= 0 and low >= 0:
            value = high * 16 + low
            small = lower(value)
            if value >= 0x80 or 97 <= small <= 122 or 48 <= value <= 57 or value in (45, 46, 95, 126):
                return small, at + 3
    if byte == 92:
        byte = 47
    return lower(byte), at + 1


@inline
def _blank(byte: Any) -> Any:
    return byte == 32 or 9 <= byte <= 13


@inline
def parts(data: Any, at: int, end: int) -> tuple[int, int, int, int, int, bool]:
    """Where host, port and path lie: (host, its end, port, its end, path, whether it is odd). No port: an empty
    span."""
    while at < end and _blank(data[at]):
        at += 1
    mark = at
    while mark < end and (
        97 <= lower(data[mark]) <= 122 or (mark > at and (48 <= data[mark] <= 57 or data[mark] in (43, 45, 46)))
    ):
        mark += 1
    if mark > at and mark + 2 < end and data[mark] == 58 and data[mark + 1] == 47 and data[mark + 2] == 47:
        at = mark + 3
    elif at + 1 < end and data[at] == 47 and data[at + 1] == 47:
        at += 2
    host, colon, path = at, -1, at
    odd = False
    while path < end:
        byte = data[path]
        if byte == 47 or byte == 63 or byte == 35 or byte == 92:
            break
        if byte == 64:
            host, colon, odd = path + 1, -1, False
        elif byte == 58 and colon < 0:
            colon = path
        elif not (97 <= lower(byte) <= 122 or 48 <= byte <= 57 or byte == 45 or byte == 46 or byte == 95):
            odd = True  # unless an @ follows, before which all is the user's name
        elif colon >= 0 and not 48 <= byte <= 57:
            odd = True
        path += 1
    host_end = path if colon < 0 else colon
    port = path if colon < 0 else colon + 1
    while host_end > host and data[host_end - 1] == 46:
        host_end -= 1
    while port < path and data[port] == 48:
        port += 1
    size = path - port
    if (size == 2 and data[port] == 56 and data[port + 1] == 48) or (
        size == 3 and data[port] == 52 and data[port + 1] == 52 and data[port + 2] == 51
    ):
        port = path
    return host, host_end, port, path, path, odd


@inline
def bare(data: Any, host: int, end: int) -> int:
    """Where the host begins without `www.`, as `hosts.bare_www`."""
    named = end - host > 4 and data[host + 3] == 46 and lower(data[host]) == 119
    if named and lower(data[host + 1]) == 119 and lower(data[host + 2]) == 119:
        for at in range(host + 4, end):
            if data[at] == 46:
                return host + 4
    return host


@inline
def _line(data: Any, at: int, end: int, form: int) -> tuple[int, int, bool]:
    """The span of a trimmed line's one entry by its form; whether the line needs another look."""
    if form == HOSTS:
        mark = at
        while mark < end and not _blank(data[mark]):
            mark += 1
        zeros = mark - at == 7 and data[at] == 48 and data[at + 1] == 46 and data[at + 6] == 48
        local = mark - at == 9 and data[at] == 49 and data[at + 3] == 46 and data[at + 8] == 49
        if mark == end or not (zeros or local):
            return at, end, True
        at = mark
        while _blank(data[at]):
            at += 1
    elif form == ADBLOCK:
        if end - at < 4 or data[at] != 124 or data[at + 1] != 124 or data[end - 1] != 94:
            return at, end, True
        at, end = at + 2, end - 1
    for mark in range(at, end):
        byte = data[mark]
        if byte <= 32 or byte >= 127 or byte in (34, 36, 42, 60, 62, 94, 96, 123, 124, 125):
            return at, end, True
    return at, end, False


@njit
def scan(
    data: Any, at: int, end: int, form: int, first: Any, second: Any, values: Any, odd: Any, line: int, value: int,
    places: Any, suffix_1: Any, suffix_2: Any, shift: int, gate: Any, suffix_kinds: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Hashes the entries of whole lines: (entries, odd lines, lines).

    `first`, `second`, `values`: room for two entries a line, which get `value`. `odd`: (line number, start, end) of
    what Python must read, such as a public suffix. Comments and empty lines are passed over.
    """
    found = odds = 0
    while at < end:
        stop = at
        while stop < end and data[stop] != 10:
            stop += 1
        start, after, last = at, stop + 1, stop
        at = after
        line += 1
        while start < last and _blank(data[start]):
            start += 1
        while last > start and _blank(data[last - 1]):
            last -= 1
        if start == last or data[start] == (33 if form == ADBLOCK else 35):
            continue
        begin, finish, strange = _line(data, start, last, form)
        host, host_end, port, port_end, path, strange_host = parts(data, begin, finish)
        strange |= strange_host
        path_end = path
        while path_end < finish and data[path_end] != 35:
            path_end += 1
        while path_end > path and data[path_end - 1] in (47, 92):
            path_end -= 1
        dotted = False
        for mark in range(host, host_end):
            dotted |= data[mark] == 46
        if form == SPELLED:
            strange = False
        else:
            host = bare(data, host, host_end)
            rooted = host == host_end and path == begin and path_end > path
            strange |= not (dotted or rooted) or (host < host_end and data[host] == 46)
        one, two = SEED_1, SEED_2
        above = 0
        number = -1
        for mark in range(host_end - 1, host - 1, -1):
            byte = lower(data[mark])
            if byte == 46:
                above = suffix_kinds[number] if number >= 0 else 0
            one, two = step_1(one, byte), step_2(two, byte)
            if len(suffix_kinds) and (mark == host or data[mark - 1] == 46):
                number = find(places, suffix_1, suffix_2, shift, gate, one, two)
        here = suffix_kinds[number] if number >= 0 else 0
        whole = path_end == path and port == port_end
        if whole and not here & EXCEPT and (here & SUFFIX or above & WILD):
            strange = True
        if strange:
            odd[odds, 0], odd[odds, 1], odd[odds, 2] = line, start, last
            odds += 1
            continue
        if whole:
            first[found], second[found], values[found] = one, two, value
            found += 1
            continue
        first[found], second[found], values[found] = one, two, PATHS
        found += 1
        if port < port_end:
            one, two = step_1(one, 58), step_2(two, 58)
            for mark in range(port, port_end):
                one, two = step_1(one, data[mark]), step_2(two, data[mark])
        if path_end > path and data[path] == 63:
            one, two = step_1(one, 47), step_2(two, 47)
        while path < path_end:
            byte, path = plain_byte(data, path, path_end)
            one, two = step_1(one, byte), step_2(two, byte)
        first[found], second[found], values[found] = one, two, value | (BELOW if form == ADBLOCK else 0)
        found += 1
    return found, odds, line


@njit
def merge(first: Any, second: Any, values: Any) -> int:
    """Makes entries that are in order one for each key, in place: flags OR-ed, the least category that blocks.

    Gives the number of keys.
    """
    count = 0
    for at in range(len(first)):
        flags: Any = np.int64(values[at]) & FLAGS
        category: Any = np.int64(values[at]) >> CATEGORY
        if not flags & BLOCK:
            category = NO_CATEGORY
        if count and first[count - 1] == first[at] and second[count - 1] == second[at]:
            flags |= np.int64(values[count - 1]) & FLAGS
            category = min(category, np.int64(values[count - 1]) >> CATEGORY)
        else:
            first[count], second[count] = first[at], second[at]
            count += 1
        values[count - 1] = flags | category << CATEGORY
    return count


@inline
def _paths(
    data: Any, path: int, end: int, one: Any, two: Any, exact: bool, bare_host: bool, places: Any, first: Any,
    second: Any, shift: int, gate: Any, values: Any,
) -> tuple[int, int]:  # fmt: skip
    """What the table says of a path and of the paths above it: (flags, least category among the blocked)."""
    said: Any = 0
    category: Any = NO_CATEGORY
    size = 0
    if path < end and data[path] == 63:
        one, two = step_1(one, 47), step_2(two, 47)
        size = 1
    while path <= end:
        byte, after = (0, path + 1) if path == end else plain_byte(data, path, end)
        if (size > 1 or (size == 0 and not bare_host)) and (
            byte == 0 or byte == 47 or byte == 63 or byte == 38 or byte == 59
        ):
            number = find(places, first, second, shift, gate, one, two)
            if number >= 0 and (exact or values[number] & BELOW):
                said |= np.int64(values[number]) & FLAGS
                category = min(category, np.int64(values[number]) >> CATEGORY)
        one, two = step_1(one, byte), step_2(two, byte)
        size += 1
        path = after
    return said, category


@njit
def judge(
    data: Any, offsets: Any, places: Any, first: Any, second: Any, shift: int, gate: Any, values: Any,
    rooted: bool, hosts_said: Any, paths_said: Any, category: Any, odd: Any,
) -> None:  # fmt: skip
    """For each URL what the table says of its host and the domains above it, and of its path: flags OR-ed.

    `category`: the least among the entries that block. `odd`: True for those that must be spelled anew.
    """
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        while end > start and _blank(data[end - 1]):
            end -= 1
        hosts_said[row] = paths_said[row] = 0
        category[row] = NO_CATEGORY
        host, host_end, port, port_end, path, strange = parts(data, start, end)
        odd[row] = strange
        if strange or host == host_end:
            continue
        path_end = path
        while path_end < end and data[path_end] != 35:
            path_end += 1
        own = bare(data, host, host_end)
        if rooted:
            said, least = _paths(
                data, path, path_end, SEED_1, SEED_2, True, True, places, first, second, shift, gate, values
            )
            paths_said[row] |= said
            category[row] = min(category[row], least)
        one, two = SEED_1, SEED_2
        for mark in range(host_end - 1, host - 1, -1):
            byte = lower(data[mark])
            one, two = step_1(one, byte), step_2(two, byte)
            if mark > host and data[mark - 1] != 46:
                continue
            number = find(places, first, second, shift, gate, one, two)
            if number < 0:
                continue
            said = np.int64(values[number]) & FLAGS
            hosts_said[row] |= said
            category[row] = min(category[row], np.int64(values[number]) >> CATEGORY)
            if not said & PATHS:
                continue
            said, least = _paths(
                data, path, path_end, one, two, mark == own, True, places, first, second, shift, gate, values
            )
            paths_said[row] |= said
            category[row] = min(category[row], least)
            if port < port_end:
                one_port, two_port = step_1(one, 58), step_2(two, 58)
                for place in range(port, port_end):
                    one_port, two_port = step_1(one_port, data[place]), step_2(two_port, data[place])
                said, least = _paths(
                    data, path, path_end, one_port, two_port, mark == own, False, places, first, second, shift,
                    gate, values,
                )  # fmt: skip
                paths_said[row] |= said
                category[row] = min(category[row], least)
