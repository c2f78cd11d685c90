"""Which East Asian charset a page is written in, whatever it says: only the right one gives common characters.

Each of these charsets takes most bytes of the others without an error, and makes rare characters of them. Charsets
sort their characters by how common they are (level 1 and level 2), and running text keeps to the first level.
"""

from __future__ import annotations

import codecs
import itertools

import regex

_HIGH = bytes(range(0x80, 0x100))
_FOREIGN = regex.compile(r"[^\x00-\x7f]+")
_MOST = 2_000  # characters that are looked at
_FEWEST = 20
_SHARE = 0.9
_HANGUL_SHARE = 0.95
_KANA_SHARE = 0.05  # of Japanese; English with curly quotes makes Shift-JIS as well, of kanji alone
_RUN = 2  # characters in a row, on average; letters with accents stand alone
_SIGNS = frozenset("　、。「」『』・ー…—“”‘’·！（），．：；？《》〈〉【】〔〕％～")


def _level(codec: str, first: int, last: int, trails: range) -> frozenset[str]:
    pairs = itertools.product(range(first, last + 1), trails)
    return frozenset(bytes(pair).decode(codec, "ignore") for pair in pairs) - {""}


_HIGH_TRAILS = range(0xA1, 0xFF)
_ALL_TRAILS = range(0x40, 0xFF)
_KANA = frozenset(map(chr, range(0x3041, 0x30FD)))
_JIS = _level("euc_jp", 0xB0, 0xCF, _HIGH_TRAILS) | _KANA | _SIGNS
_COMMON = {
    "cp949": _level("cp949", 0xB0, 0xC8, _HIGH_TRAILS) | _SIGNS,
    "cp932": _JIS,
    "euc_jp": _JIS,
    "gb18030": _level("gb2312", 0xB0, 0xD7, _HIGH_TRAILS) | _SIGNS,
    "big5hkscs": _level("big5", 0xA4, 0xC6, _ALL_TRAILS) | _SIGNS,
}
"""Common characters by codec. Korean comes first: it keeps to the first half of what is common in GB 2312 and in JIS
X 0208, so it passes for both, while hardly any text of theirs passes for Korean."""


def evident(payload: bytes, declared: list[str]) -> tuple[str, str] | None:
    """(text, codec) of the East Asian charset that these bytes are in, against the declared codecs or in want of them;
    None where the first that is declared fits, none fits, or there are too few characters to tell."""
    if codecs.BOM_UTF8 in payload[:3] or len(payload) - len(payload.translate(None, _HIGH)) < 2 * _FEWEST:
        return None
    for codec, common in _COMMON.items():
        try:
            # A last character that the crawl cut off is let go.
            text = codecs.getincrementaldecoder(codec)("strict").decode(payload)
        except UnicodeError:
            continue
        if _share(text, common) >= (_HANGUL_SHARE if codec == "cp949" else _SHARE):
            return None if codec in declared[:1] else (text, codec)
    return None


def _share(text: str, common: frozenset[str]) -> float:
    """The share of common characters among those that are not ASCII; 0 where they are too few, or no such text."""
    seen = known = runs = kana = 0
    for match in _FOREIGN.finditer(text):
        part = match[0]
        runs += 1
        seen += len(part)
        known += sum(map(common.__contains__, part))
        kana += sum(map(_KANA.__contains__, part))
        if seen >= _MOST:
            break
    if seen < max(_FEWEST, _RUN * runs) or (common is _JIS and kana < _KANA_SHARE * seen):
        return 0.0
    return known / seen
