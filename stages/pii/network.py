"""Public IP addresses. Private, loopback, documentation and reserved ones say nothing about a person and stay."""

from __future__ import annotations

import ipaddress

import regex

from stages.pii.cues import IP, before, versioned
from stages.pii.found import Found

V4 = regex.compile(
    r"(?<!\w)(?<!\d[.,:/-])(?<![A-Za-z]\.)(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}(?![A-Za-z0-9_]|[.-]\d)",
    regex.A,
)
_V6 = regex.compile(r"[0-9A-Fa-f:]+(?:\.[0-9]+){0,3}")
_WORD = regex.compile(r"[G-Zg-z_]")
_HEX = regex.compile(r"[0-9A-Fa-f:]")
_BESIDE = regex.compile(r"[A-Za-z0-9_:]")


def v4(text: str, start: int, end: int) -> Found | None:
    """The first public address in `text[start:end]`.

    Four small numbers are more often a version or a section than an address: after a word that says so, or where none
    is above 30 and nothing says `address`. Addresses that end in 0 are networks.
    """
    for match in V4.finditer(text, start, end + 2):
        if match.end() > end:
            break
        address = ipaddress.IPv4Address(match.group())
        if not address.is_global or address.is_multicast or match.group().endswith(".0"):
            continue
        left = before(text, match.start())
        if versioned(left):
            continue
        if max(address.packed) <= 30 and IP.last(left) < 0 and text[match.end() : match.end() + 1] != ":":
            continue
        return Found("ip", match.start(), match.end(), match.group())
    return None


def v6(text: str, start: int, end: int) -> Found | None:
    """The public address in a run of hexadecimal digits and colons."""
    head = text.find(":", start, end)
    if head >= 0 and text[head + 1 : head + 2] != ":" and (head == start or _WORD.match(text, max(0, start - 1))):
        start = head + 1  # `address:2a00::1`, `IPv6:2a00::1`
    elif start and _BESIDE.match(text, start - 1) and (text[start - 1] != ":" or _HEX.match(text, start - 2)):
        return None
    match = _V6.match(text, start, end)
    if match is None:
        return None
    written = match.group().rstrip(":.") if not match.group().endswith("::") else match.group()
    stop = start + len(written)
    if _BESIDE.match(text, stop) and text[stop] != ":":
        return None
    try:
        address = ipaddress.IPv6Address(written)
    except ValueError:
        return None
    groups = [group for group in written.split(":") if group]
    if int(address) >> 125 == 1:  # 2000::/3, all that was ever given out
        if not address.is_global:
            return None
    elif len(groups) != 8 or sum(len(group) >= 3 for group in groups) < 5 or address.is_private or address.is_multicast:
        return None
    return Found("ip", start, stop, address.compressed)
