"""E-mail addresses, found from their at sign."""

from __future__ import annotations

import functools

import regex

from stages.pii.found import Found

BEFORE, AFTER = 80, 260
"""Code points beside an at sign that an address may take (RFC 5321: local part 64, domain 255), and some to look at."""

_OWN = frozenset({"example.com", "example.net", "example.org", "example.edu"})
_SPECIAL = frozenset({"example", "test", "invalid", "localhost"})
_ASCII_LOCAL = regex.compile(r"[A-Za-z0-9\p{Latin}._%+'&~#=/-]{1,64}$")
_OTHER_LOCAL = regex.compile(r"[\p{L}\p{M}\p{N}._-]{1,64}$")
_FIRST = regex.compile(r"^[^\p{L}\p{N}_]+|^.*(?:[=/#&]|\.\.)(?=.)")
_LABEL = regex.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?|[\p{L}\p{N}][\p{L}\p{M}\p{N}-]{0,62}")
_ASCII_LABEL = regex.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_WIDE_LABEL = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}-]{0,62}")
_DOTS = ".。"
_GLUED = regex.compile(r"[A-Za-z0-9\p{Latin}_@]|-[A-Za-z0-9]|\.[A-Za-z0-9]")
_USERINFO = regex.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#]*$")
_SERVICES = frozenset({"git", "hg", "svn"})


@functools.cache
def top_level() -> frozenset[str]:
    """The top-level domains there are, by the snapshot of the Public Suffix List in `tldextract`; in both spellings."""
    import tldextract  # brings a client for HTTP: not where no mail is looked for

    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    found = {suffix.rsplit(".", 1)[-1].lower() for suffix in suffixes}
    for name in list(found):
        if not name.isascii():
            found.add(name.encode("idna").decode())
    return frozenset(found)


def mail(text: str, at: int) -> Found | None:
    """The address around the at sign `text[at]`, where there is one; `text` is plain.

    Not: addresses of RFC 2606's example domains, handles (`@user@host`), user names inside of URLs, `git@host:path`.
    """
    stop = _domain(text, at + 1)
    if stop is None:
        return None
    left = text[max(0, at - BEFORE) : at]
    ascii_local = left[-1:].isascii() or regex.match(r"\p{Latin}", left[-1:])
    match = (_ASCII_LOCAL if ascii_local else _OTHER_LOCAL).search(left)
    if match is None:
        return None
    local = match.group()
    cut = _FIRST.match(local)
    while cut and cut.end():
        local = local[cut.end() :]
        cut = _FIRST.match(local)
    if not local or local[-1] in ".&=/#" or local.lower() in _SERVICES:
        return None
    start = at - len(local)
    domain = text[at + 1 : stop].lower()
    own = ".".join(domain.split(".")[-2:])
    if own in _OWN or domain.rsplit(".", 1)[-1] in _SPECIAL:
        return None
    if start and text[start - 1] == "@":
        return None
    if _USERINFO.search(text, max(0, start - BEFORE), start):
        return None
    return Found("email", start, stop, f"{local}@{domain}".lower())


def _domain(text: str, start: int) -> int | None:
    """Where the domain that begins at `start` ends; None where there is none with a top-level domain."""
    at, best = start, None
    limit = min(len(text), start + AFTER)
    labels = 0
    while at < limit:
        match = _ASCII_LABEL.match(text, at, limit)
        wide = _WIDE_LABEL.match(text, at, limit)
        if wide is None:
            break
        if labels:
            # The last label may be glued to a text without spaces: `.com获取`, `.中国谢谢`.
            if match and match.group().lower() in top_level() and not _GLUED.match(text, match.end()):
                best = match.end()
            elif not match or not match.group().isascii():
                for end in range(wide.end(), at, -1):
                    if text[at:end] in top_level():
                        best = end
                        break
            elif match.group().lower() in top_level() and _GLUED.match(text, match.end(), match.end() + 2):
                following = text[match.end() : match.end() + 1]
                best = match.end() if following == "." else best
        label = wide if wide.end() < limit and text[wide.end()] == "." else match
        if label is None or label.end() >= limit or text[label.end()] != ".":
            break
        at = label.end() + 1
        labels += 1
        if labels > 8:
            break
    return best
