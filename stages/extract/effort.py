"""How much work a page asks of an HTML parser, estimated in one compiled pass before any parser sees it.

Parsers are quadratic in places: they compare each attribute of an element with all others, look for an element
among all that are open, open formatting elements again in every block (HTML standard, 13.2.4.3), look through all
options of a list. 5 MB of such markup take a parser minutes. The limit is a count, so it says the same everywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import inline, njit

Bytes = npt.NDArray[np.uint8]

MOST_WORK = 250_000_000
"""Steps of at most some 10 ns each. Measured with lexbor: what is below takes under 3 s of CPU."""
_REOPENED = 100
"""Steps that one formatting element costs, opened again: it takes memory as well."""

_VOID, _IMPLIED, _FORMATTING, _RAW, _FOREIGN, _OPTION, _SELECT, _ROOT = range(1, 9)
_KINDS = {
    _VOID: "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr image",
    # closed by what follows them, or never nested within their like
    _IMPLIED: "p li dd dt tr td th thead tbody tfoot caption colgroup rb rp rt rtc a nobr button form head optgroup "
    "h1 h2 h3 h4 h5 h6",
    _FORMATTING: "b big code em font i s small strike strong tt u",
    _RAW: "script style title textarea xmp iframe noembed noframes",
    _FOREIGN: "svg math",
    _OPTION: "option",
    _SELECT: "select",
    _ROOT: "html body",
}
_SLOTS = 4096


def _hash(name: bytes) -> int:
    value = 2166136261
    for byte in name:
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


_KIND = np.zeros(_SLOTS, np.uint8)
_NAME = np.zeros(_SLOTS, np.uint32)  # which name the slot is for: another one that falls into it has no kind
for _kind, _names in _KINDS.items():
    for _name in _names.split():
        _value = _hash(_name.encode())
        _slot = (_value ^ _value >> 12) % _SLOTS
        assert not _KIND[_slot], _name
        _KIND[_slot], _NAME[_slot] = _kind, _value


class Effort(NamedTuple):
    """What a page asks of a parser."""

    work: int
    """Estimated steps, to be held against MOST_WORK."""
    unclosed: int
    """Most elements that are open at a time, where those of optional end tags do not count."""
    attributes: int
    """Most attributes of one tag."""


def effort(html: bytes) -> Effort:
    """The effort of a page in UTF-8."""
    return Effort(*map(int, _effort(np.frombuffer(html, np.uint8), _KIND, _NAME)))


@inline
def _ends_name(byte: int) -> bool:
    return byte == 62 or byte == 47 or byte == 32 or 9 <= byte <= 13


@inline
def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122


@inline
def _raw_end(html: Bytes, at: int, name: int, name_end: int) -> int:
    """Where the end tag of a raw text element begins, whose name stands at `name`."""
    size = len(html)
    length = name_end - name
    while at < size:
        if html[at] == 60 and at + 2 + length < size and html[at + 1] == 47 and _ends_name(html[at + 2 + length]):
            same = True
            for place in range(length):
                if html[at + 2 + place] | 32 != html[name + place] | 32:
                    same = False
                    break
            if same:
                return at
        at += 1
    return size


@njit
def _effort(html: Bytes, kinds: Bytes, names: npt.NDArray[np.uint32]) -> Any:
    size = len(html)
    open_of = np.zeros(_SLOTS, np.int32)  # elements that are open, by the hash of their name
    bytes_of = np.zeros(_SLOTS, np.int64)  # and of formatting ones the bytes of their tags
    work = unclosed = deepest = most = at = 0
    formatting = foreign = options = roots = 0
    written = 0  # bytes of the formatting elements that are open: all are written again where they are opened again
    while at < size:
        if html[at] != 60:
            at += 1
            continue
        at += 1
        if at >= size:
            break
        if html[at] == 33 and at + 2 < size and html[at + 1] == 45 and html[at + 2] == 45:  # a comment
            at += 1  # `<!-->` is one, too
            while at + 2 < size and not (html[at] == 45 and html[at + 1] == 45 and html[at + 2] == 62):
                if (
                    html[at] == 45
                    and html[at + 1] == 45
                    and html[at + 2] == 33
                    and at + 3 < size
                    and html[at + 3] == 62
                ):
                    break
                at += 1
            if at + 2 >= size:
                break
            at += 3
            continue
        closing = html[at] == 47
        if closing:
            at += 1
        if at >= size or not _is_letter(html[at]):
            if at < size and (closing or html[at] == 33 or html[at] == 63):  # a bogus comment, a doctype
                while at < size and html[at] != 62:
                    at += 1
            continue
        name = at
        value = np.uint32(2166136261)
        while at < size and not _ends_name(html[at]):
            byte = html[at]
            if 65 <= byte <= 90:
                byte |= 32
            value = np.uint32((value ^ np.uint32(byte)) * np.uint32(16777619))
            at += 1
        name_end = at
        slot = np.int64(value ^ (value >> np.uint32(12))) % _SLOTS
        attributes = 0
        slash = False
        while at < size and html[at] != 62:
            byte = html[at]
            if byte == 47 or byte == 32 or 9 <= byte <= 13:
                slash = byte == 47
                at += 1
                continue
            attributes += 1
            slash = False
            at += 1  # the first byte of a name may be anything
            while at < size and html[at] != 61 and not _ends_name(html[at]):
                at += 1
            while at < size and (html[at] == 32 or 9 <= html[at] <= 13):
                at += 1
            if at >= size or html[at] != 61:
                continue
            at += 1
            while at < size and (html[at] == 32 or 9 <= html[at] <= 13):
                at += 1
            if at < size and (html[at] == 34 or html[at] == 39):
                quote = html[at]
                at += 1
                while at < size and html[at] != quote:
                    at += 1
                at += 1
            else:
                while at < size and html[at] != 62 and html[at] != 32 and not 9 <= html[at] <= 13:
                    at += 1
        at += 1
        most = max(most, attributes)
        work += attributes * attributes + unclosed
        kind = kinds[slot] if names[slot] == value else 0
        if kind == _VOID:
            work += formatting * _REOPENED + written
            continue
        if kind == _ROOT:
            roots += attributes
            work += attributes * roots
            continue
        if closing:
            if kind in (_IMPLIED, _OPTION):
                continue
            if open_of[slot] > 0:
                if kind == _FORMATTING:
                    formatting -= 1
                    size_of_one = bytes_of[slot] // open_of[slot]
                    bytes_of[slot] -= size_of_one
                    written -= size_of_one
                open_of[slot] -= 1
                unclosed -= 1
                if kind == _FOREIGN:
                    foreign -= 1
            continue
        if kind != _FORMATTING:
            work += formatting * _REOPENED + written
        if kind == _OPTION:
            options += 1
            work += options
        elif kind == _RAW and foreign == 0:
            at = _raw_end(html, at, name, name_end)
        elif kind != _IMPLIED and not (slash and foreign > 0):
            if kind == _SELECT:
                options = 0
            open_of[slot] += 1
            unclosed += 1
            deepest = max(deepest, unclosed)
            if kind == _FORMATTING:
                formatting += 1
                bytes_of[slot] += at - name
                written += at - name
            elif kind == _FOREIGN:
                foreign += 1
    return work, deepest, most
