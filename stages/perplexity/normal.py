"""Lines as the models of CCNet know them: its `text_normalizer`, in the order in which it works."""

from __future__ import annotations

import regex

from stages.text.forms import normalized

_PUNCTUATION = {
    "，": ",", "。": ".", "、": ",", "„": '"', "”": '"', "“": '"', "«": '"', "»": '"', "」": '"', "「": '"', "《": '"',
    "》": '"', "´": "'", "∶": ":", "：": ":", "？": "?", "！": "!", "（": "(", "）": ")", "；": ";", "–": "-",
    "—": " - ", "．": ". ", "～": "~", "’": "'", "…": "...", "━": "-", "〈": "<", "〉": ">", "【": "[", "】": "]",
    "％": "%", "►": "-",
}  # fmt: skip
_TABLE = str.maketrans(_PUNCTUATION | {chr(code): "" for code in (*range(32), *range(127, 160))})
_MARKS = regex.compile(r"\p{Mn}+")
_DIGITS = regex.compile(r"\p{Nd}")


def normal(line: str, accents: bool) -> str:
    """The line in small letters, each digit 0, punctuation in ASCII, without control characters.

    Without `accents` these go too; what is left is decomposed, as in CCNet.
    """
    line = line.strip().lower()
    if not accents and not line.isascii():
        line = _MARKS.sub("", normalized(line, "NFD"))
    line = str(_DIGITS.sub("0", line))
    return line if line.isascii() and line.isprintable() else line.translate(_TABLE)
