"""The features of a stretch of text: hashes of its words, pairs of words and character n-grams."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from stages.classifier import symbols
from stages.kernels import inline
from stages.text.utf8 import Bytes, code_at, width

SHORTEST, LONGEST = 3, 6
"""Character n-grams, of a token with a mark for each of its edges."""
RUN = 3
"""Longest n-gram of the characters of scripts without spaces, each of which is a word."""
PER_CODE = 6
"""Most features that one code point may bring (of a token's code points and edges `LONGEST - SHORTEST + 1` each, and
for every second one a word and a pair of words)."""

Hashes = npt.NDArray[np.uint32]
Spans = npt.NDArray[np.int64]

_CODE, _BLANK, _WORD = np.uint32(symbols.CODE), np.uint32(symbols.BLANK), np.uint32(symbols.WORD)
_SPACELESS, _IGNORED = np.uint32(symbols.SPACELESS), np.uint32(symbols.IGNORED)
_EDGE = np.uint32(symbols.CODE)  # no code point
_APOSTROPHE, _QUOTE, _COLON, _SLASH = (np.uint32(ord(sign)) for sign in "'’:/")
# Where the hashes of each kind begin, so that a word and an n-gram of the same letters are two features.
_WORDS, _GRAMS, _RUNS = (np.uint64(0x2545F4914F6CDD1D * kind & 0xFFFFFFFFFFFFFFFF) for kind in (3, 5, 1))
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_PAIR, _SHIFT, _HALF, _THIRD = np.uint64(3), np.uint64(7), np.uint64(32), np.uint64(33)
_NONE = np.uint64(0)


@inline
def _step(state: Any, code: Any) -> Any:
    return (state ^ np.uint64(code)) * _PRIME


@inline
def _done(state: Any) -> Any:
    """32 well mixed bits (the first half of MurmurHash3's finaliser)."""
    state ^= state >> _THIRD
    state *= _MIX
    return np.uint32(state >> _HALF)


@inline
def features(
    data: Bytes, start: int, end: int, table: npt.NDArray[np.uint32], codes: Hashes, places: Spans,
    out: Hashes, spans: Spans,
) -> Any:  # fmt: skip
    """Writes the hashes of `data[start:end]` to `out` and gives their number.

    `codes` and `places` are room for as many code points as the stretch has, and three more; `out` for
    `PER_CODE` times as many. `spans`, if it has rows, gets of each feature the bytes from which it is made.
    """
    count = 0
    at = start
    trace = len(spans) > 0
    last = _NONE  # the word before this one, none at the start and behind a script without spaces
    last_start = start
    run = 0  # how many characters of scripts without spaces stand in a row
    runs = np.zeros(RUN, np.uint64)
    run_starts = np.zeros(RUN, np.int64)
    while at < end:
        # A token: what stands between blanks, or one character of a script without spaces.
        codes[0] = _EDGE
        places[0] = at
        size = 1
        single = False
        while at < end:
            symbol = table[code_at(data, at)]
            if symbol & _BLANK:
                break
            if symbol & _SPACELESS:
                single = size == 1
                break
            place = at
            at += width(data[at])
            code = symbol & (_CODE | _WORD)
            if symbol & _IGNORED or (size > 2 and codes[size - 1] == code and codes[size - 2] == code):
                continue  # sooooo: two letters say as much as five
            codes[size] = code
            places[size] = place
            size += 1
        if single:
            code = table[code_at(data, at)] & _CODE
            place = at
            at += width(data[at])
            run = min(run + 1, RUN)
            for n in range(run - 1, 0, -1):
                runs[n], run_starts[n] = runs[n - 1], run_starts[n - 1]
            runs[0], run_starts[0] = _RUNS, place
            for n in range(run):
                runs[n] = _step(runs[n], code)
                if trace:
                    spans[count, 0], spans[count, 1] = run_starts[n], at
                out[count] = _done(runs[n])
                count += 1
            last = _NONE
            continue
        if at < end and table[code_at(data, at)] & _BLANK:
            at += width(data[at])
        if size == 1:
            continue
        run = 0
        for i in range(1, size - 2):  # of an address, what stands before its sign
            if (codes[i] & _CODE) == _COLON and (codes[i + 1] & _CODE) == _SLASH and (codes[i + 2] & _CODE) == _SLASH:
                size = i
                break
        codes[size] = _EDGE
        places[size] = places[size - 1] + width(data[places[size - 1]])
        size += 1
        # Its words, and the pairs of words that end in it.
        word = _NONE
        word_start = start
        for i in range(1, size):
            code = codes[i]
            letter = code & _CODE
            inside = code & _WORD != 0
            if not inside and word and letter in (_APOSTROPHE, _QUOTE) and codes[i + 1] & _WORD:
                inside = True
                letter = _APOSTROPHE
            if inside:
                if not word:
                    word, word_start = _WORDS, places[i]
                word = _step(word, letter)
            elif word:
                if trace:
                    spans[count, 0], spans[count, 1] = word_start, places[i]
                out[count] = _done(word)
                count += 1
                if last:
                    if trace:
                        spans[count, 0], spans[count, 1] = last_start, places[i]
                    out[count] = _done(_step(last * _PAIR, word >> _SHIFT))
                    count += 1
                last, last_start = word, word_start
                word = _NONE
        # Its n-grams.
        for i in range(size):
            state = _GRAMS
            for n in range(min(LONGEST, size - i)):
                state = _step(state, codes[i + n] & _CODE)
                if n + 1 >= SHORTEST:
                    if trace:
                        spans[count, 0], spans[count, 1] = places[i], places[min(i + n + 1, size - 1)]
                    out[count] = _done(state)
                    count += 1
    return count
