"""The emoji package's table as a trie of arrays: every entry of every status, and what the kernel does with it.

The kernel holds the numbers below as constants: `stages.kernels` finds this file by its name here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import emoji
import numpy as np
import numpy.typing as npt
import regex
from emoji import unicode_codes

from stages.emoji_names.emoticons import EMOTICONS

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]

LEFT = 0
"""In `Trie.what`: an entry that writers mean as text; it stays."""
EMOJI = 1
EMOTICON = 2

_ROOTS = 0x20000  # all first characters lie below
# Letters, digits and typography that Unicode counts as emoji but writers do not mean as such.
_NEVER = frozenset("©®™")
# Below this code point, symbols shown as text by default (arrows, ‼, ℹ, Ⓜ, geometric shapes) are typography
# too, unless VARIATION SELECTOR-16 asks for the emoji; likewise the four CJK symbols.
_PICTOGRAPHS = 0x2600
_CJK_SYMBOLS = frozenset("〰〽㊗㊙")
_KEYS = "0123456789#*"


class Trie(NamedTuple):
    """Entries by their code points. Keycaps have no place here: the kernel finds them from U+20E3 backwards."""

    pairs: Bools
    """By first and second byte: whether an entry begins with them. All second bytes are true behind ASCII."""
    roots: Numbers
    """By code point below 0x20000: the node that it leads to from the start, 0 for none."""
    edges: Numbers
    """By node: where its edges begin in the two arrays below; one more at the end."""
    codes: Numbers
    """The code points of edges, ascending within a node."""
    targets: Numbers
    entries: Numbers
    """By node: number of the entry that ends there, -1 for none."""
    what: Numbers
    """By entry: `LEFT`, `EMOJI` or `EMOTICON`."""
    keycaps: Numbers
    """By byte: the entry of its keycap, -1 for none."""


@functools.cache
def symbols(emoticons: bool) -> tuple[str, ...]:
    """The emoji that each entry stands for, by its number."""
    return (*emoji.EMOJI_DATA, *(EMOTICONS.values() if emoticons else ()))


@functools.cache
def names(language: str, emoticons: bool) -> tuple[str, ...]:
    """The name of each entry in a language of the emoji package, as it has it but for the colons around it."""
    if language != "en":
        unicode_codes.load_from_json(language)
    found = (emoji.EMOJI_DATA[symbol] for symbol in symbols(emoticons))
    return tuple(str(data.get(language) or data["en"])[1:-1] for data in found)


@functools.cache
def trie(emoticons: bool) -> Trie:
    """The trie of the emoji package's entries, and of `EMOTICONS` if asked for."""
    keys = [*emoji.EMOJI_DATA, *(EMOTICONS if emoticons else ())]
    children: list[dict[int, int]] = [{}]
    entries = [-1]
    for number, key in enumerate(keys):
        if key[0] in _KEYS and number < len(emoji.EMOJI_DATA):
            continue
        node = 0
        for character in key:
            following = children[node].setdefault(ord(character), len(children))
            if following == len(children):
                children.append({})
                entries.append(-1)
            node = following
        entries[node] = number
    roots = np.zeros(_ROOTS, np.int32)
    pairs = np.zeros((256, 256), np.bool_)
    for code, node in children[0].items():
        roots[code] = node
        pairs[chr(code).encode()[0], chr(code).encode()[1] if code >= 0x80 else slice(None)] = True
    pairs["\u20e3".encode()[0], "\u20e3".encode()[1]] = True
    edges = [sorted(node.items()) for node in [{}, *children[1:]]]
    what = [EMOJI if _meant(key) else LEFT for key in emoji.EMOJI_DATA]
    what += [EMOTICON] * (len(keys) - len(what))
    keycaps = np.full(256, -1, np.int32)
    for number, key in enumerate(emoji.EMOJI_DATA):
        if key[0] in _KEYS:
            keycaps[ord(key[0])] = number
    return Trie(
        pairs,
        roots,
        np.cumsum([0, *map(len, edges)]).astype(np.int32),
        np.array([code for node in edges for code, _ in node], np.int32),
        np.array([target for node in edges for _, target in node], np.int32),
        np.array(entries, np.int32),
        np.array(what, np.int32),
        keycaps,
    )


def _meant(symbol: str) -> bool:
    """Whether an entry of the table is meant as an emoji wherever it stands."""
    if symbol[0] in _NEVER:
        return False
    if len(symbol) > 1:
        return True
    if ord(symbol) >= _PICTOGRAPHS and symbol not in _CJK_SYMBOLS:
        return True
    return regex.match(r"\p{Emoji_Presentation}", symbol) is not None
