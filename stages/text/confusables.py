"""Letters that look like others, folded for matching alone: `free` with a Cyrillic `е`, with a zero-width space in it.

After UTS #39 (Unicode Security Mechanisms), section 4, but towards one script: the script of the word list that a text
is held against. UTS #39 folds every script into one, and the same word in small and in capital letters differently.
Never write what comes out of here: text in another script that looks no different would be destroyed.
"""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt
import regex

from stages.text.characters import NOT_ALONE, every_code, folds, folds_alone

FILE = "builtin:confusables.txt"
"""What a stage declares in `files()` to get the data."""
SCRIPTS = ("Latin", "Cyrillic", "Greek")
"""The scripts that can be folded to: those whose letters are taken for one another."""
GONE = 0xFFFFFFFE
"""In a table: this code point is left out of the match (zero-width characters, soft hyphens, variation selectors)."""
LEET = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "€": "e", "+": "t"}
"""What is written in place of letters in Latin script."""


def skeletons(data: bytes, script: str = "Latin", leet: bool = False) -> npt.NDArray[np.uint32]:
    """For each code point what it is taken for, folded as `characters.folds` does, or `GONE`.

    `data` are the contents of `FILE`. Letters of the script itself stay, but for those outside of ASCII that look like
    ASCII; a code point that looks like a letter of the script becomes that letter, of the same case where there is
    one; all others are folded, or stay where folding needs their neighbours. With `leet` digits and signs become
    letters too: no number is left in what comes out. Raises ValueError where the script is none of `SCRIPTS`.
    """
    if script not in SCRIPTS:
        raise ValueError(f"no table folds to the script '{script}'; there are: {', '.join(SCRIPTS)}")
    fold = folds()
    table = folds_alone().copy()
    own = regex.compile(rf"[\p{{Script={script}}}&&\p{{L}}]", regex.V1)
    for line in data.decode("ascii").splitlines():
        if line.startswith("#"):
            continue
        codes = [int(part, 16) for part in line.split()]
        letters = [
            code for code in codes if own.match(chr(code)) and unicodedata.normalize("NFKC", chr(code)) == chr(code)
        ]
        for code in codes:
            letter = chr(code)
            if code < 0x80 and not (letter.isalpha() and script != "Latin"):
                continue
            if table[code] < 0x80 and script == "Latin":  # compatibility forms are folded already
                continue
            near = [other for other in letters if script != "Latin" or other < 0x80]
            if own.match(letter) and not (near and script == "Latin"):
                continue
            near.sort(key=lambda other: (chr(other).isupper() != letter.isupper(), other))
            if near and fold[near[0]] != NOT_ALONE:
                table[code] = fold[near[0]]
    for match in regex.finditer(r"[\p{Default_Ignorable_Code_Point}\p{Cf}]+", every_code()):
        table[match.start() : match.end()] = GONE
    if leet:
        for sign, letter in LEET.items():
            table[ord(sign)] = ord(letter)
    there = table != GONE
    table[there] = table[table[there]]  # what is folded to a letter of another script is taken on to this one
    table.setflags(write=False)
    return table


def skeleton(text: str, table: npt.NDArray[np.uint32]) -> str:
    """The text as a table of `skeletons` has it, for comparison and nothing else. Kernels do the same by code point."""
    codes = table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")]
    data: bytes = codes[codes != GONE].astype("<u4").tobytes()
    return data.decode("utf-32-le", "surrogatepass")
