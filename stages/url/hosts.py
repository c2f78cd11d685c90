"""URLs in one spelling, in plain Python: what the kernels leave to it, and what tests hold them against."""

from __future__ import annotations

import functools
import ipaddress
import re

import idna
import numpy as np
import numpy.typing as npt

from stages.text.forms import normalized

_PARTS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.\-]*:(?=//))?(?://)?(?P<authority>[^/?#\\]*)(?P<path>[^#]*)", re.S)
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_KEPT = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_HOST = re.compile(r"[a-z0-9_.\-]+")
_LONGEST = 2000
"""Characters of a host: DNS has 253, each of which may be written as escapes of several bytes."""
_DEFAULT_PORTS = ("", "80", "443")


def split(url: str) -> tuple[str, str, str]:
    """Host, port and path of a URL in one spelling; a URL without a host gives empty strings.

    Host: ASCII (IDNA 2008 with the mapping of UTS 46, or the bare Punycode where that refuses), lower case, without
    user name, trailing dots and a leading `www.` (where a domain is left). Port: empty for 80 and 443. Path: with its
    query, without the fragment, in lower case, escapes undone where they stand for unreserved characters (RFC 3986,
    section 2.3) or bytes beyond ASCII; decoded as Latin-1, so that each character is a byte.
    """
    match = _PARTS.match(url.strip(" \t\r\n\f\v"))
    assert match is not None  # the pattern takes anything
    authority = match["authority"].rpartition("@")[2]
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        host, port = _ipv6(host), rest.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if len(host) > _LONGEST:
        return "", "", ""
    if not host.isascii() or "%" in host:
        host = _escaped(host).decode("utf-8", "replace")
    host = ascii_host(host)
    if not _HOST.fullmatch(host) or not ((port.isascii() and port.isdigit()) or not port):
        return "", "", ""
    port = port.lstrip("0")
    path = _escaped(match["path"].replace("\\", "/")).lower()
    if path and not path.startswith(b"/"):
        path = b"/" + path
    return bare_www(host), "" if port in _DEFAULT_PORTS else port, path.decode("latin-1")


def _ipv6(address: str) -> str:
    """An IPv6 address as a name that no host has; empty where it is none."""
    try:
        return ipaddress.IPv6Address(address).exploded.replace(":", "-") + ".ipv6-address"
    except ValueError:
        return ""


def bare_www(host: str) -> str:
    """The host without a leading `www.`, where a name with a dot is left."""
    rest = host.removeprefix("www.")
    return rest if "." in rest else host


def ascii_host(host: str) -> str:
    """The host name as DNS has it: `bücher.example.` and `XN--Bcher-KVA.example` become `xn--bcher-kva.example`."""
    host = normalized(host, "NFKC").lower() if not host.isascii() else host.lower()
    for dot in "。．｡":
        host = host.replace(dot, ".")
    host = host.strip().rstrip(".")
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        labels = (
            x if x.isascii() else "xn--" + x.casefold().encode("punycode").decode("ascii") for x in host.split(".")
        )
        return ".".join(labels).lower()


def _escaped(part: str) -> bytes:
    """UTF-8, escapes of unreserved characters and of bytes beyond ASCII undone."""

    def plain(match: re.Match[str]) -> str:
        out = b""
        for value in bytes.fromhex(match[0].replace("%", "")):
            out += bytes([value]) if value >= 0x80 or value in _KEPT else b"%%%02x" % value
        return out.decode("utf-8", "surrogateescape")

    return _ESCAPES.sub(plain, part).encode("utf-8", "surrogateescape")


@functools.cache
def public_suffixes() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Suffixes, those below which each label is a suffix (`ck` for `*.ck`), and exceptions (`www.ck`); ASCII.

    The first (ICANN) division of the Public Suffix List, in the snapshot that tldextract brings; nothing is fetched.
    Names of its second division, such as `github.io`, are domains that somebody owns: a list may well mean them.
    """
    import tldextract  # brings a client for HTTP: not where no URL is looked at

    extract = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=(), fallback_to_snapshot=True)
    rules = set(extract.tlds)
    wild = {ascii_host(rule[2:]) for rule in rules if rule.startswith("*.")}
    but = {ascii_host(rule[1:]) for rule in rules if rule.startswith("!")}
    return frozenset(ascii_host(rule) for rule in rules if rule[0] not in "*!"), frozenset(wild), frozenset(but)


def is_public_suffix(host: str) -> bool:
    """Whether names directly below this one are for sale: `com`, `co.uk`."""
    suffixes, wild, but = public_suffixes()
    return host not in but and (host in suffixes or host.partition(".")[2] in wild)


def packed(lines: list[bytes]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Byte strings as one array and the places where they begin and end."""
    ends = np.cumsum([0, *map(len, lines)]).astype(np.int64)
    return np.frombuffer(b"".join(lines) or b"\0", np.uint8), ends
