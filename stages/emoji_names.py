"""Emoji to their names in the document's language."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import emoji
import pyarrow as pa
import pyarrow.compute as pc
import regex
from emoji import unicode_codes

from stages.base import Outcome, Stage
from stages.rows import Drop, outcome, strings, text_array
from stages.words import is_spaceless

LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
"""Languages that the emoji package has CLDR names for."""

_ZWJ, _TEXT, _SELECTORS = "\u200d", "\ufe0e", "\ufe0e\ufe0f"
# Letters, digits and typography that Unicode counts as emoji but writers do not mean as such.
_NEVER = frozenset("©®™")
# Below this code point, symbols shown as text by default (arrows, ‼, ℹ, Ⓜ, geometric shapes) are typography
# too, unless VARIATION SELECTOR-16 asks for the emoji; likewise the four CJK symbols.
_PICTOGRAPHS = 0x2600
_CJK_SYMBOLS = frozenset("〰〽㊗㊙")
_OPENING = regex.compile(r"[\p{Ps}\p{Pi}\"'/¿¡-]$")
_CLOSING = regex.compile(r"^[\p{Pe}\p{Pf}\"'/.,;:!?…،؛؟。，、；：！？-]")


@dataclass(frozen=True, kw_only=True)
class Emoji(Stage):
    """Replaces emoji by their Unicode CLDR names in the document's language, or shortcodes, or nothing.

    The language is that of the column `language`; where it is empty or the emoji package has no names in it,
    `fallback_language` is used. Digits, `#`, ©, ®, ™ and joiners between letters stay as they are. Counts
    `emoji_replaced`. A text of which nothing is left (mode `remove`) is dropped as `empty_text`.
    """

    name: ClassVar[str] = "emoji"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("emoji", "regex")

    mode: Literal["name", "shortcode", "remove", "keep"] = "name"
    """`name`: `I❤️you` to `I red heart you`; `shortcode`: to `I:red_heart:you`; `remove`; `keep`: do nothing."""
    fallback_language: Literal["ar", "de", "en", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh"] = (
        "en"
    )
    """Language of the names for documents of unknown language, or of one that has no names."""

    def process(self, batch: pa.RecordBatch) -> Outcome:
        texts = strings(batch, "text")
        drops: list[Drop] = [(row, "no_text", None, None) for row, text in enumerate(texts) if text is None]
        if self.mode == "keep":
            return outcome(batch, drops)
        # RE2 over the UTF-8 buffer: only texts with a candidate become work for Python.
        candidates = pc.match_substring_regex(batch.column("text"), _gate()).to_pylist()
        languages = strings(batch, "language") if any(candidates) else []
        replaced = 0
        for row, candidate in enumerate(candidates):
            text = texts[row]
            if not candidate or text is None:
                continue
            language = (languages[row] or "").lower().replace("_", "-").split("-")[0]
            new, number = self.replace(text, language if language in LANGUAGES else self.fallback_language)
            replaced += number
            if number and not new.strip():
                drops.append((row, "empty_text", None, None))
            texts[row] = new
        return outcome(batch, drops, {"text": text_array(texts)} if replaced else {}, {"emoji_replaced": replaced})

    def replace(self, text: str, language: str) -> tuple[str, int]:
        """The text with its emoji replaced, and how many they were."""
        parts: list[str] = []
        number = position = 0
        for run in _runs().finditer(text):
            for start, end, names in _emoji(run.group(), language):
                begin, finish = run.start() + start, run.start() + end
                parts.append(text[position:begin])
                position = finish
                number += 1
                parts.append(self._written(parts, names, text[finish : finish + 1], language))
        if not number:
            return text, 0
        parts.append(text[position:])
        return "".join(parts), number

    def _written(self, parts: list[str], names: list[str], after: str, language: str) -> str:
        if self.mode == "remove":
            before = next((part[-1] for part in reversed(parts) if part), "")
            return " " if before and after and _glues(before, after, spaced=False) else ""
        if self.mode == "shortcode":
            return "".join(f":{name}:" for name in names)
        spaced = language not in ("zh", "ja")
        name = " ".join(name.replace("_", " ") for name in names) if spaced else "".join(names).replace("_", "")
        before = next((part[-1] for part in reversed(parts) if part), "")
        left = " " if _glues(before, name[0], spaced) and not (spaced and _OPENING.search(before)) else ""
        # An emoji that follows puts the space on its own left.
        right = ""
        if after and not _runs().match(after) and _glues(name[-1], after, spaced):
            right = "" if spaced and _CLOSING.search(after) else " "
        return left + name + right


def _glues(left: str, right: str, spaced: bool) -> bool:
    """Whether two neighbours need a blank between them."""
    if not left or not right or left.isspace() or right.isspace():
        return False
    if spaced:
        return True
    return all(side.isalnum() and not is_spaceless(side) for side in (left, right))


def _emoji(run: str, language: str) -> list[tuple[int, int, list[str]]]:
    """The emoji of a run of candidate characters: start, end, names (one for each part of an odd sequence)."""
    found = []
    for token in emoji.analyze(run, join_emoji=True):
        match = token.value
        if isinstance(match, str) or not _meant(match.emoji):
            continue
        pieces = match.emojis if isinstance(match, emoji.EmojiMatchZWJNonRGI) else [match]
        end = match.end
        if run[end : end + 1] == _TEXT:  # the writer asks for the symbol as text
            continue
        while end < len(run) and run[end] in _SELECTORS:  # a stray selector belongs to what it follows
            end += 1
        found.append((match.start, end, [_name(piece.emoji, language) for piece in pieces]))
    return found


def _meant(symbol: str) -> bool:
    if symbol[0] in _NEVER:
        return False
    if len(symbol) > 1 and symbol != symbol[0] + "\ufe0e":
        return True
    if ord(symbol[0]) >= _PICTOGRAPHS and symbol[0] not in _CJK_SYMBOLS:
        return True
    return regex.match(r"\p{Emoji_Presentation}", symbol) is not None


def _name(symbol: str, language: str) -> str:
    data = emoji.EMOJI_DATA[symbol]
    if language not in data:
        unicode_codes.load_from_json(language)
    name = data.get(language) or data["en"]
    return str(name)[1:-1]


@functools.cache
def _first() -> str:
    """The characters an emoji may begin with, less digits, `#`, `*`: a set for `regex` and RE2."""
    first = {symbol[0] for symbol in emoji.EMOJI_DATA} - set("0123456789#*") - _NEVER
    return "".join(f"\\x{{{ord(character):x}}}" for character in sorted(first))


@functools.cache
def _gate() -> str:
    """RE2: a text without a match has no emoji."""
    return f"[{_first()}]|[0-9#*]\\x{{fe0f}}?\\x{{20e3}}"


@functools.cache
def _runs() -> regex.Pattern[str]:
    """Stretches that one emoji may take, joined sequences whole: a flag, a keycap, or pictographs with their
    selectors, skin tones and tags. Bounded, since the emoji package takes quadratic time over joiners."""
    first = "".join(f"\\U{int(code, 16):08x}" for code in regex.findall(r"\\x\{([0-9a-f]+)\}", _first()))
    flag = "[\U0001f1e6-\U0001f1ff]{1,2}"
    keycap = "[0-9#*]\ufe0f?\u20e3"
    piece = f"[{first}][{_SELECTORS}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]{{0,32}}"
    return regex.compile(f"{flag}|{keycap}|{piece}(?:{_ZWJ}{piece}){{0,15}}")
