"""Forms of lists: which one a list is in, and the lines that plain Python reads for the kernels."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal

from stages.url.hosts import is_public_suffix, split

FORMS = ("plain", "domains", "urls", "expressions", "hosts", "adblock")
"""What a list may be in, as `FORM:PATH` names it; `domains` and `urls` are `plain` by other names, those of UT1."""

Suffixes = Literal["refuse", "skip", "block"]

_LOCAL = re.compile(r"local|localhost|broadcasthost|ip6-.*|.*\.localdomain|0\.0\.0\.0")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(?:%\w+)?")
_OPTIONS = {"all", "document", "doc", "important", "popup"}
_WWW = re.compile(r"(?:[A-Za-z]+:)?(?://)?(?:[^/@]*@)?www\.", re.I)


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
