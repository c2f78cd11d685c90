r"""LaTeX sources: the body as it is written, without preamble and comments.

Commands and formulas stay, since they are what a model should learn of them. `\input` and `\include` are not
followed; they stay in the text and are counted.
"""

from __future__ import annotations

import re
from collections import Counter

from pipeline.readers.base import Piece
from pipeline.readers.documents import Documents, Parsed, text_of
from pipeline.readers.sources import File

_VERBATIM = ("verbatim", "verbatim*", "Verbatim", "lstlisting", "minted", "alltt", "filecontents", "filecontents*")
_TOKEN = re.compile(
    r"\\begin\{(" + "|".join(map(re.escape, (*_VERBATIM, "comment"))) + r")\}|\\verb\*?(?=[^\sA-Za-z*])|\\.|%", re.S
)
_BEGIN = re.compile(r"\\begin\s*\{document\}")
_END = re.compile(r"\\end\s*\{document\}")
_INPUT = re.compile(r"\\(?:input|include|subfile|import)\b")
_TITLE = re.compile(r"\\title\s*(?:\[[^\]]{0,500}\])?\s*\{")
_MARKUP = re.compile(r"\\(?:thanks|footnote)\{[^{}]*\}|\\\\(?:\[[^\]]*\])?|\\[a-zA-Z]+\*?\s?|[{}~]")


def tex(file: File, piece: Piece, counts: Counter[str]) -> Parsed:
    """The body of a document. Counts `comment_characters`, `preamble_characters` (and what stands behind the end),
    `inputs_not_followed`, `without_document_environment`."""
    source = text_of(file, piece, counts)
    if isinstance(source, Parsed):
        return source
    text = _uncommented(source)
    counts["comment_characters"] += len(source) - len(text)
    title = _title(text)
    begin = _BEGIN.search(text)
    if begin:
        end = _END.search(text, begin.end())
        body = text[begin.end() : end.start() if end else len(text)]
    else:
        counts["without_document_environment"] += 1
        body = text
    counts["preamble_characters"] += len(text) - len(body)
    counts["inputs_not_followed"] += len(_INPUT.findall(body))
    for name in ("comment_characters", "preamble_characters", "inputs_not_followed"):
        if not counts[name]:
            del counts[name]
    return Parsed(body, title) if body.strip() else Parsed(reason="empty_text", title=title)


def _uncommented(text: str) -> str:
    """The text without comments; a line that held nothing else goes whole. Verbatim stretches keep their `%`."""
    kept: list[str] = []
    position = start = 0
    endless: set[str] = set()
    while token := _TOKEN.search(text, position):
        position = token.end()
        environment = token[1]
        if environment is not None:
            closing = f"\\end{{{environment}}}"
            end = -1 if environment in endless else text.find(closing, position)
            if end < 0:
                endless.add(environment)
                continue
            if environment == "comment":
                kept.append(text[start : token.start()])
                start = end + len(closing)
            position = end + len(closing)
        elif token[0].startswith("\\verb"):
            line_end = text.find("\n", position)
            end = text.find(text[position], position + 1, line_end if line_end >= 0 else len(text))
            position = end + 1 if end >= 0 else position
        elif token[0] == "%":
            line = text.rfind("\n", 0, token.start()) + 1
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            alone = not text[max(line, start) : token.start()].strip() and start <= line
            kept.append(text[start : line if alone else token.start()])
            start = min(end + 1, len(text)) if alone else end
            position = max(start, position)
    kept.append(text[start:])
    return "".join(kept)


def _title(text: str) -> str | None:
    found = _TITLE.search(text)
    if not found:
        return None
    depth, position = 1, found.end()
    while depth and position < min(len(text), found.end() + 2000):
        depth += {"{": 1, "}": -1}.get(text[position], 0) if text[position - 1] != "\\" else 0
        position += 1
    if depth:
        return None
    return " ".join(_MARKUP.sub(" ", text[found.end() : position - 1]).split()) or None


TEX = Documents("tex", tex)
