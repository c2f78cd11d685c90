"""What the stage `normalize` should make of a text, in plain Python: ftfy on every text, and regular expressions."""

from __future__ import annotations

import unicodedata

import regex
from ftfy import fix_text

from stages.normalize import Normalize
from stages.normalize import kinds as k

BREAKS = regex.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
CONTROL = regex.compile(r"[^\P{Cc}\n\t]|[\ufeff\u206a-\u206f\ufff9-\ufffc]")
TRAILING = regex.compile(r"(?<![^\S\n])[^\S\n]++$", regex.M)
BLANKS = "[\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]"
CASED = r"[\p{scx=Latin}\p{scx=Greek}\p{scx=Cyrillic}\p{scx=Armenian}\p{scx=Coptic}&&\p{%s}]"
UPPER, LOWER = CASED % "L", CASED % "Ll"
HYPHENATED = regex.compile(f"(?<={UPPER})[-\xad\u058a\u2010]{BLANKS}*\n(?={LOWER})", regex.V1)
# Soft hyphens that go away do not keep letter, hyphen and line end apart.
SOFT = regex.compile(f"(?<={UPPER}\xad*)[-\xad\u058a\u2010](?:{BLANKS}|\xad)*\n(?=\xad*{LOWER})", regex.V1)
RUNS = regex.compile(rf"(?<=[^\n\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000]){BLANKS}{{2,}}")


def reference(text: str, stage: Normalize) -> tuple[str, int]:
    """The text as the stage should give it, and how many characters it should count as cut."""
    mended = unicodedata.normalize(stage.form, fix_text(text.replace("\r\n", "\n"), stage._config()))
    steps = [BREAKS.sub("\n", mended)]
    if stage.zero_width == "keep":
        steps.append(CONTROL.sub("", steps[-1]))
    else:
        steps.append(without_zero_width(steps[-1], stage))
    if stage.dehyphenate:
        steps.append((SOFT if stage.soft_hyphens == "remove" else HYPHENATED).sub("", steps[-1]))
    if stage.soft_hyphens == "remove":
        steps.append(steps[-1].replace("\xad", ""))
    if stage.collapse_blanks:
        steps.append(RUNS.sub(lambda run: run[0][0] if len(set(run[0])) == 1 else " ", steps[-1]))
    steps.append(TRAILING.sub("", steps[-1]))
    most = stage.max_blank_lines
    steps.append(regex.sub(rf"\n{{{most + 2},}}", "\n" * (most + 1), steps[-1]).strip("\n"))
    return unicodedata.normalize(stage.form, steps[-1]), len(steps[0]) - len(steps[-1])


def without_zero_width(text: str, stage: Normalize) -> str:
    """The text without control characters, and without zero-width characters that have no meaning where they stand."""
    bits = k._bits()
    kept: list[str] = []
    beside = ""  # the last character that stays
    for place, character in enumerate(text):
        left = int(bits[ord(beside)]) if beside else 0
        right = int(bits[ord(text[place + 1])]) if place + 1 < len(text) else 0
        if CONTROL.match(character) or "\u2060" <= character <= "\u2064":
            continue
        if character in "\u200b\u200c\u200d":
            meant = {
                "\u200b": left & k.UNSPACED and right & k.UNSPACED,
                "\u200c": left & k.STEM and right & k.JOINING,
                "\u200d": (left | right) & k.JOINING or (left & k.PICTURE_END and right & k.PICTURE),
            }[character]
            if stage.zero_width == "remove" or not meant or beside in ("\u200c", "\u200d"):
                continue
        kept.append(character)
        if character != "\xad" or stage.soft_hyphens == "keep":
            beside = character
    return "".join(kept)
