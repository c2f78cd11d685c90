"""Words to look for in URLs, made into one automaton (Aho and Corasick 1975)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.words import fold, is_spaceless

MOST_STATES = 1_000_000


class Automaton(NamedTuple):
    """What `kernels.spell` takes."""

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
