"""Words to look for in URLs, made into one automaton (Aho and Corasick 1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.kernels import njit
from stages.url.kernels import plain_byte
from stages.words import fold, is_spaceless

MOST_STATES = 1_000_000


class Automaton(NamedTuple):
    """What `spell` takes."""

    kinds: npt.NDArray[np.uint8]
    following: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    links: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    whole: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.uint8]
    """0: one is enough; 1: a soft word."""
    width: int


def automaton(inside: Iterable[str], words: Iterable[str], soft: Iterable[str]) -> Automaton | None:
    """The automaton; None where there is no word. `inside` may stand anywhere, `words` and `soft` are whole words.

    Words of scripts without spaces may stand anywhere too. A word in more than one list counts in the first. A letter
    beyond ASCII is found in lower case, in upper case, and as a capital at the start of its word.
    """
    entries: dict[bytes, tuple[bool, int]] = {}
    for found, whole, weight in ((inside, False, 0), (words, True, 0), (soft, True, 1)):
        for entry in sorted({fold(word).strip() for word in found} - {""}):
            for spelled in dict.fromkeys((entry, entry.upper(), entry.capitalize())):
                key = spelled.encode(errors="replace").lower()  # bytes: ASCII alone
                entries.setdefault(key, (whole and not is_spaceless(entry), weight))
    if not entries:
        return None
    kinds = np.zeros(256, np.uint8)
    letters = sorted({byte for word in entries for byte in word})
    kinds[letters] = np.arange(1, len(letters) + 1)
    width = len(letters) + 1
    children: list[dict[int, int]] = [{}]
    ends = [-1]
    for number, word in enumerate(entries):
        state = 0
        for byte in word:
            if byte not in children[state]:
                children[state][byte] = len(children)
                children.append({})
                ends.append(-1)
            state = children[state][byte]
        ends[state] = number
    if len(children) > MOST_STATES:
        raise ValueError(f"the words for URLs have {len(children)} beginnings together, more than {MOST_STATES}")
    following = np.zeros((len(children), width), np.int32)
    back = [0] * len(children)
    links = [-1] * len(children)
    waiting = deque([0])
    while waiting:
        state = waiting.popleft()
        if state:
            following[state] = following[back[state]]
            links[state] = back[state] if ends[back[state]] >= 0 else links[back[state]]
        for byte, child in children[state].items():
            back[child] = int(following[state, kinds[byte]]) if state else 0
            waiting.append(child)
        for byte, child in children[state].items():
            following[state, kinds[byte]] = child
    return Automaton(
        kinds, following.ravel(), np.array(ends, np.int32), np.array(links, np.int32),
        np.array([len(word) for word in entries], np.int32), np.array([whole for whole, _ in entries.values()]),
        np.array([weight for _, weight in entries.values()], np.uint8), width,
    )  # fmt: skip


@njit
def spell(
    data: Any, offsets: Any, kinds: Any, following: Any, ends: Any, links: Any, sizes: Any, whole: Any, weight: Any,
    width: int, strict: Any, soft: Any,
) -> None:  # fmt: skip
    """Looks for words in URLs with escapes undone: whether a strict one is there, how many different soft ones.

    An Aho-Corasick automaton over classes of bytes: `following[state * width + kinds[byte]]`, the word that ends in a
    state (`ends`, or -1) and the next state with a word that ends there too (`links`, or -1). A word that must be
    `whole` stands between bytes that are no letters.
    """
    seen = np.full(len(sizes), -1, np.int64)
    decoded = np.zeros(1, np.uint8)
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        if end - at > len(decoded):
            decoded = np.zeros(end - at, np.uint8)
        size = 0
        while at < end:
            byte, at = plain_byte(data, at, end)
            decoded[size] = byte
            size += 1
        strict[row] = False
        soft[row] = 0
        state = 0
        for place in range(size):
            state = following[state * width + kinds[decoded[place]]]
            hit = state if ends[state] >= 0 else links[state]
            while hit > 0:
                word = ends[hit]
                hit = links[hit]
                if seen[word] == row:
                    continue
                before = place - sizes[word]
                if whole[word]:
                    if before >= 0 and (97 <= decoded[before] <= 122 or decoded[before] >= 0x80):
                        continue
                    if place + 1 < size and (97 <= decoded[place + 1] <= 122 or decoded[place + 1] >= 0x80):
                        continue
                seen[word] = row
                if weight[word] == 0:
                    strict[row] = True
                else:
                    soft[row] += 1
