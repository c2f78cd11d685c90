"""ftfy's fixers over one line, in ftfy's order, with an end to how often they go over it.

`ftfy.fix_text` repeats its fixers until nothing changes, and within them the decoding. That is right, but rows such as
`ÂÂÂÂÂ` or `&amp;amp;amp;` change by one character each time, so that ten thousand of them take a minute and a million
days. Here each look at a text is paid for out of a budget in characters, 32 for each of the line's: natural text,
mojibake of mojibake included, needs less than ten. As long as the budget lasts, the outcome is that of `fix_text`.
"""

from __future__ import annotations

from dataclasses import dataclass
from re import Match

import ftfy
from ftfy import TextFixerConfig, fixes
from ftfy.badness import is_bad
from ftfy.chardata import UTF8_DETECTOR_RE

_LOOKS = 32
_SHORT = 20_000  # characters: short lines need not save

# The decoding of a whole text. Mojibake within other text is decoded below, out of the same budget.
_WHOLE = TextFixerConfig(decode_inconsistent_utf8=False, explain=False)


@dataclass
class _Budget:
    left: int

    def pays(self, text: str) -> bool:
        """Whether there is enough for one more look at this text."""
        self.left -= len(text) + 1
        return self.left >= 0


def mended(line: str, config: TextFixerConfig, tagged: bool) -> str:
    """The line as `ftfy.fix_text` gives it; `tagged` says that a line before it has a `<`."""
    parts = []
    for start in range(0, len(line), config.max_decode_length):
        part = line[start : start + config.max_decode_length]
        tagged = tagged or "<" in part
        parts.append(_segment(part, config, bool(config.unescape_html) and not tagged))
    return "".join(parts)


def _segment(text: str, config: TextFixerConfig, entities: bool) -> str:
    """`ftfy.fix_and_explain`, without an explanation."""
    budget = _Budget(_LOOKS * len(text) + _SHORT)
    while budget.pays(text):
        before = text
        if entities:
            text = fixes.unescape_html(text)
        if config.fix_encoding:
            text = _decoded(text, budget)
        text = fixes.fix_latin_ligatures(fixes.fix_c1_controls(text))
        if config.fix_character_width:
            text = fixes.fix_character_width(text)
        if config.uncurl_quotes:
            text = fixes.uncurl_quotes(text)
        text = fixes.remove_terminal_escapes(fixes.fix_surrogates(text))
        if text == before:
            break
    return text


def _decoded(text: str, budget: _Budget) -> str:
    """`ftfy.fix_encoding`."""
    while budget.pays(text):
        before = text
        text = _decoded_once(text, budget)
        if text == before:
            break
    return text


def _decoded_once(text: str, budget: _Budget) -> str:
    """One step of it: the text as a whole if that is UTF-8, else the parts that are, else single characters."""
    if text.isascii() or not is_bad(text):
        return text
    fixed, plan = ftfy._fix_encoding_one_step_and_explain(text, _WHOLE)
    if plan and plan[-1].action == "decode" and plan[-1].parameter.startswith("utf-8"):
        return fixed

    def part(match: Match[str]) -> str:
        found = match[0]
        return _decoded(found, budget) if len(found) < len(text) and is_bad(found) else found

    parts = UTF8_DETECTOR_RE.sub(part, text)
    return parts if parts != text else fixed
