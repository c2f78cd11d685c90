"""What each code point is to the kernels of `normalize`: one small number, and the bits that belong to it.

Kernels take the tables as arguments and hold the bits as constants: `stages.kernels` finds this file by its name
here, and takes it into the digest of their sources.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import regex

from stages.normalize.suspicious import automaton
from stages.text.characters import CODES, every_code

END = 1 << 0
"""The line end `\\n`."""
RETURN = 1 << 1
"""`\\r`."""
BREAK = 1 << 2
"""Other line ends: U+000B, U+000C, U+0085, U+2028, U+2029."""
REMOVED = 1 << 3
"""Removed wherever it stands."""
NON_JOINER = 1 << 4
JOINER = 1 << 5
ZERO_SPACE = 1 << 6
BLANK = 1 << 7
HYPHEN = 1 << 8
CASED = 1 << 9
"""A letter of a script that parts words by hyphens."""
LOWER = 1 << 10
"""A lower-case one."""
JOINING = 1 << 11
"""A letter or mark of a script in which joiners change how letters are written."""
PICTURE = 1 << 12
"""What a joiner may bind into one emoji with what stands before it."""
PICTURE_END = 1 << 13
"""What an emoji may end with before a joiner."""
UNSPACED = 1 << 14
"""A letter or mark of the scripts that mark breaks between words by U+200B."""
TAG = 1 << 15
"""`<`: from its line on, ftfy leaves entities alone."""
NEVER = 1 << 16
"""In no text of the form asked for: the Unicode form replaces it."""
MARK = 1 << 17
"""A mark with a combining class: its order among others matters."""
MEETS = 1 << 18
"""May be composed with what stands before it."""
DECOMPOSES = 1 << 19
"""Has a canonical decomposition."""

STEM = 1 << 20
"""What a Persian suffix may be set off from by a non-joiner: letters, marks, digits, closing marks (125th, PDFs)."""

ORDER = NEVER | MARK | MEETS

_HYPHENS = "-\u00ad\u058a\u2010"
_CONTROL = "[^\\P{Cc}\n\t]|[\ufeff\u206a-\u206f\ufff9-\ufffc]"  # as ftfy, and the rest of Cc
_BLANKS = "[\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]"
_CASED = "Latin Greek Cyrillic Armenian Coptic"
_JOINING = (
    "Arabic Syriac Mandaic Nko Mongolian Phags_Pa Manichaean Psalter_Pahlavi Sogdian Old_Uyghur Adlam "
    "Hanifi_Rohingya Chorasmian Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam "
    "Sinhala Tibetan Myanmar Khmer Balinese Javanese Sundanese Meetei_Mayek Saurashtra Kaithi Grantha Newa "
    "Tirhuta Siddham Modi Sharada Chakma Takri Khojki Khudawadi Mahajani Multani Brahmi Limbu Lepcha Buginese "
    "Batak Rejang Cham Tai_Tham Nandinagari Masaram_Gondi Gunjala_Gondi Bhaiksuki Zanabazar_Square Soyombo "
    "Marchen Dogra"
)
_UNSPACED = "Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Javanese Balinese Cham Batak"


def _of(scripts: str, letters: str) -> str:
    """Those of these letters that the scripts are written with."""
    return "[[" + "".join(rf"\p{{Script_Extensions={name}}}" for name in scripts.split()) + f"]&&{letters}]"


_PATTERNS = {
    END: "\n",
    RETURN: "\r",
    BREAK: "[\v\f\x85\u2028\u2029]",
    BLANK: _BLANKS,
    HYPHEN: f"[{regex.escape(_HYPHENS)}]",
    CASED: _of(_CASED, r"\p{L}"),
    LOWER: _of(_CASED, r"\p{Ll}"),
    JOINING: _of(_JOINING, r"[\p{L}\p{M}]"),
    PICTURE: r"\p{Extended_Pictographic}",
    PICTURE_END: r"[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]",
    UNSPACED: _of(_UNSPACED, r"[\p{L}\p{M}]"),
    TAG: "<",
    STEM: r"[\p{L}\p{M}\p{N}\p{Pe}\p{Pf}\"']",
}
_LETTERS = 0x20000
"""All that has one of these bits lies before the ideographs, but for a tag."""
ZERO_WIDTH = "\u200b\u200c\u200d\u2060-\u2064"


class Kinds(NamedTuple):
    """The tables of one choice of settings."""

    kinds: npt.NDArray[np.uint16]
    """By code point."""
    bits: npt.NDArray[np.uint32]
    """By kind: the bits above."""
    steps: npt.NDArray[np.uint16]
    """By (state, kind): as in `suspicious.Automaton`."""


@functools.cache
def kinds_of(entities: bool, widths: bool, quotes: bool, form: str, zero_width: str, soft_hyphens: str) -> Kinds:
    """The kinds of code points that either the automaton or the bits tell apart, by the settings of `Normalize`."""
    machine = automaton(entities, widths, quotes)
    bits = _bits().copy() | _form_bits(form)
    text = every_code()
    removed = [regex.compile(_CONTROL)]
    if zero_width == "remove":
        removed.append(regex.compile(f"[{ZERO_WIDTH}]"))
    elif zero_width == "meaningful":
        removed.append(regex.compile("[\u2060-\u2064]"))
        bits[0x200B] |= ZERO_SPACE
        bits[0x200C] |= NON_JOINER
        bits[0x200D] |= JOINER
    if soft_hyphens == "remove":
        removed.append(regex.compile("\xad"))
    for pattern in removed:
        for match in pattern.finditer(text, endpos=_LETTERS):
            bits[match.start() : match.end()] |= np.uint32(REMOVED)
    bits[(bits & np.uint32(END | RETURN | BREAK)) != 0] &= ~np.uint32(REMOVED)
    both = bits.astype(np.int64) << 16 | machine.kinds
    _, examples, kinds = np.unique(both, return_index=True, return_inverse=True)
    steps = np.ascontiguousarray(machine.steps[:, machine.kinds[examples]])
    return Kinds(kinds.astype(np.uint16), bits[examples], steps)


@functools.cache
def _bits() -> npt.NDArray[np.uint32]:
    """The bits that no setting changes, by code point."""
    table = np.zeros(CODES, np.uint32)
    text = every_code()
    for bit, pattern in _PATTERNS.items():
        for match in regex.finditer(f"(?:{pattern})+", text, regex.V1, endpos=_LETTERS):
            table[match.start() : match.end()] |= np.uint32(bit)
    table[0xE007F] |= np.uint32(PICTURE_END)  # the tag that ends the flag of Scotland
    table.setflags(write=False)
    return table


@functools.cache
def _form_bits(form: str) -> npt.NDArray[np.uint32]:
    """The bits of the Unicode form, by code point: see the quick check of UAX #15, section 9."""
    table = np.zeros(CODES, np.uint32)
    table[combining() != 0] |= np.uint32(MARK)
    for pair in pairs().tolist():
        table[pair & 0x1FFFFF] |= np.uint32(MEETS)
    table[0x1161:0x1176] |= np.uint32(MEETS)
    table[0x11A8:0x11C3] |= np.uint32(MEETS)
    table[0xAC00:0xD7A4] |= np.uint32(DECOMPOSES)
    for code in _assigned():
        character = chr(code)
        parts = unicodedata.decomposition(character)
        if parts and parts[0] != "<":
            table[code] |= np.uint32(DECOMPOSES)
        if parts and unicodedata.normalize(form, character) != character:  # type: ignore[arg-type]
            table[code] |= np.uint32(NEVER)
    table.setflags(write=False)
    return table


@functools.cache
def combining() -> npt.NDArray[np.uint8]:
    """The combining class of each code point."""
    table = np.zeros(CODES, np.uint8)
    for code in _assigned():
        table[code] = unicodedata.combining(chr(code))
    table.setflags(write=False)
    return table


@functools.cache
def pairs() -> npt.NDArray[np.int64]:
    """Pairs of code points that are composed to one, as `first << 21 | second`, ascending; less Hangul."""
    found = []
    for code in _assigned():
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<" and unicodedata.is_normalized("NFC", chr(code)):
            found.append(int(parts[0], 16) << 21 | int(parts[1], 16))
    return np.array(sorted(found), np.int64)


@functools.cache
def _assigned() -> list[int]:
    """Code points that may have a decomposition or a combining class; large uniform ranges are left out."""
    bare = re.compile("[\u3400-\u4dbf\u4e00-\ua48c\uac00-\uf8ff\U00017000-\U0001afff\U00020000-\U0002f7ff]")
    whole = (code for code in range(0x2FA20) if not bare.match(chr(code)))
    return [*whole, *range(0xE0000, 0xE0200)]
