"""The classifier's features, windows and sums in plain Python over strings: slow, and easy to read."""

from __future__ import annotations

import regex

from stages.classifier import symbols
from stages.classifier.features import LONGEST, RUN, SHORTEST
from stages.classifier.model import Model
from stages.classifier.windows import PARAGRAPH, WEIGHT, WINDOW

M64 = (1 << 64) - 1
EDGE = symbols.CODE
URL = [ord(sign) for sign in "://"]


def symbol(character: str) -> int:
    return int(symbols.symbols()[ord(character)])


def size(text: str) -> int:
    """In the units of windows."""
    found = [symbol(character) for character in text]
    return sum(0 if s & symbols.BLANK else WEIGHT if s & symbols.SPACELESS else 1 for s in found)


def paragraphs(text: str) -> list[str]:
    lines = [line for line in regex.split("(?<=[\n\x0b\x0c\r\x85\u2028\u2029])", text) if line]
    made: list[str] = []
    held = ""
    for number, line in enumerate(lines):
        held += line
        broken = bool(symbol(line[-1]) & symbols.BREAK)
        if broken and size(held) >= PARAGRAPH and size("".join(lines[number + 1 :])) >= PARAGRAPH:
            made.append(held)
            held = ""
    return [*made, held] if held else made


def cut(paragraph: str) -> list[str]:
    whole = size(paragraph)
    parts = max(-(-whole // WINDOW), 1)
    made, place, done = [], 0, 0
    for part in range(1, parts + 1):
        begin = place
        target = whole * part // parts
        while place < len(paragraph):
            here = symbol(paragraph[place])
            fit = here & (symbols.BLANK | symbols.SPACELESS) or done >= target + 64
            if fit and part < parts and done >= target:
                break
            done += size(paragraph[place])
            place += 1
        if place > begin:
            made.append(paragraph[begin:place])
    return made


def step(state: int, code: int) -> int:
    return (state ^ code) * 0x9E3779B97F4A7C15 & M64


def done(state: int) -> int:
    return ((state ^ state >> 33) * 0xFF51AFD7ED558CCD & M64) >> 32


def start(kind: int) -> int:
    return 0x2545F4914F6CDD1D * kind & M64


def tokens(text: str) -> list[list[tuple[int, bool]] | int]:
    """Of each token the folded codes and whether they belong to words; of a letter without spaces its code."""
    made: list[list[tuple[int, bool]] | int] = []
    token: list[tuple[int, bool]] = []
    for character in [*text, " "]:
        here = symbol(character)
        if here & (symbols.BLANK | symbols.SPACELESS):
            if token:
                made.append(token)
            token = []
            if here & symbols.SPACELESS:
                made.append(here & symbols.CODE)
        elif not here & symbols.IGNORED:
            one = (here & symbols.CODE, bool(here & symbols.WORD))
            if token[-2:] != [one, one]:
                token.append(one)
    return made


def hashes(text: str) -> list[int]:
    """The features of a window."""
    made: list[int] = []
    row: list[int] = []
    before = 0
    for token in tokens(text):
        if isinstance(token, int):
            row = [*row, token][-RUN:]
            for n in range(1, len(row) + 1):
                state = start(1)
                for code in row[-n:]:
                    state = step(state, code)
                made.append(done(state))
            before = 0
            continue
        row = []
        codes = [code for code, _ in token]
        for at in range(len(codes) - 2):
            if codes[at : at + 3] == URL:
                token = token[:at]
                break
        word = 0
        for at in range(len(token) + 1):
            code, inside = token[at] if at < len(token) else (0, False)
            if not inside and word and code in (0x27, 0x2019) and at + 1 < len(token) and token[at + 1][1]:
                code, inside = 0x27, True
            if inside:
                word = step(word or start(3), code)
            elif word:
                made.append(done(word))
                if before:
                    made.append(done(step(before * 3 & M64, word >> 7)))
                before, word = word, 0
        edged = [EDGE, *(code for code, _ in token), EDGE]
        for at in range(len(edged)):
            for n in range(SHORTEST, LONGEST + 1):
                if at + n <= len(edged):
                    state = start(5)
                    for code in edged[at : at + n]:
                        state = step(state, code)
                    made.append(done(state))
    return made


def log_odds(model: Model, text: str) -> list[list[int]]:
    """A row for each window that has features, a figure for each class."""
    made = []
    for paragraph in paragraphs(text):
        for window in cut(paragraph):
            found = [value >> 32 - model.bits for value in hashes(window)]
            if found:
                root = round(65536 / len(found) ** 0.5)
                row = []
                for weights, scale, bias in zip(model.weights, model.scales, model.biases, strict=True):
                    total = sum(int(weights[at]) * abs(int(weights[at])) for at in found)
                    row.append((total * root * int(scale) >> 32) + int(bias))
                made.append(row)
    return made
