"""The counts of `stages.quality.fields` in plain Python, as their definitions read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import regex

from stages.quality.fields import BULLETS, FIELDS
from stages.words import _PIECE, _WORD

_CLOSERS = regex.compile(r"[\p{Pe}\p{Pf}\p{Pi}\"'\s\x1c-\x1f]+$")
_TERMINAL = regex.compile(r"[\p{Sentence_Terminal}\u17d6\u17d9\u17da]")
_CLOSING = regex.compile(r"[\p{Pe}\p{Pf}\p{Pi}\"']")
_ALNUM = regex.compile(r"[\p{L}\p{N}]")


def number(pattern: str, text: str) -> int:
    return len(regex.findall(pattern, text, regex.V1))


def repeats(pieces: Sequence[str]) -> tuple[int, int]:
    again = [piece for index, piece in enumerate(pieces) if piece in pieces[:index]]
    return len(again), sum(map(len, again))


def top(text: str, spans: Sequence[tuple[int, int]], size: int) -> int:
    grams = [tuple(text[a:b] for a, b in spans[start : start + size]) for start in range(len(spans) - size + 1)]
    best, times = max(Counter(grams).items(), key=lambda item: item[1], default=((), 0))
    if times < 2:
        return 0
    start = grams.index(best)
    return times * (spans[start + size - 1][1] - spans[start][0])


def repeated(words: Sequence[str], size: int) -> int:
    seen: set[tuple[str, ...]] = set()
    start = total = 0
    while start + size <= len(words):
        gram = tuple(words[start : start + size])
        if gram in seen:
            total += sum(map(len, gram))
            start += size
        else:
            seen.add(gram)
            start += 1
    return total


def goes_on(cuts: Collection[int], place: int) -> bool:
    """Whether a segmenter left a character together with the one before it; behind the last cut it does not."""
    return place not in cuts and any(cut > place for cut in cuts)


def terms(text: str, cuts: Collection[int] = ()) -> list[tuple[int, int]]:
    """Terms as (start, end); `cuts` are the places, in characters, where a segmenter ends words."""
    found: list[tuple[int, int]] = []
    last = -1  # end of the last one, if of a script without spaces
    for match in _WORD.finditer(text):
        if match["one"] and last == match.start() and goes_on(cuts, last):
            found[-1] = (found[-1][0], match.end())
        else:
            found.append(match.span())
        last = match.end() if match["one"] else -1
    return found


def words(text: str, cuts: Collection[int] = ()) -> tuple[list[str], list[str]]:
    """What `stages.words.tokens` gives, with the characters put together that a segmenter left together."""
    spaced: list[str] = []
    single: list[str] = []
    at = 0
    for token in text.split():
        at = start = text.index(token, at)
        at += len(token)
        last = False
        for match in _PIECE.finditer(token):
            if last and match["one"] and goes_on(cuts, start + match.start()):
                single[-1] += match.group()
            else:
                (single if match["one"] else spaced).append(match.group())
            last = match["one"] is not None
    return spaced, single


def sentences(line: str) -> int:
    """Ends of sentences: a terminal mark with something said before it, closing marks, and a blank that no small
    letter follows (no blank is needed behind the marks of East Asia); a single letter's full stop is an initial's."""
    found = 0
    said = False
    pending = blank = False
    wide = False
    for place, character in enumerate(line):
        if _TERMINAL.match(character):
            if said:
                before = list(_WORD.finditer(line, 0, place))
                last = before[-1] if before else None
                initial = last is not None and last.end() == place and len(last[0]) == 1 and last["one"] is None
                if character != "." or not initial or pending:
                    pending = True
                    wide |= ord(character) >= 0x3000
            blank = False
        elif pending and not _CLOSING.match(character):
            if character.isspace():
                blank = True
            else:
                if wide or (blank and not regex.match(r"\p{Ll}", character)):
                    found += 1
                    said = False
                pending = wide = False
        if _ALNUM.match(character):
            said = True
    return found + said


def counts(text: str, cuts: Collection[int] = ()) -> dict[str, int]:
    spaced, single = words(text, cuts)
    spans = terms(text, cuts)
    said = [text[a:b] for a, b in spans]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs = [""]
    for line in text.split("\n"):
        if not line.strip():
            paragraphs.append("")
        else:
            paragraphs[-1] += ("\n" if paragraphs[-1] else "") + line.strip()
    paragraphs = [paragraph for paragraph in paragraphs if paragraph]
    ends = [_CLOSERS.sub("", line) for line in lines]
    values = {
        "characters": len(text),
        "blanks": sum(character.isspace() for character in text),
        "letters": number(r"\p{L}", text),
        "digits": number(r"\p{Nd}", text),
        "capitals": number(r"\p{Lu}", text),
        "marks": number(r"[\p{P}\p{S}]", text),
        "hashes": text.count("#"),
        "ellipses": number(r"…+|\.\.\.", text),
        "breaks": text.count("\n"),
        "words": len(spaced) + len(single),
        "spaced_words": len(spaced),
        "spaced_length": sum(map(len, spaced)),
        "letter_words": sum(number(r"\p{Alphabetic}", word) > 0 for word in spaced + single),
        "longest_word": max(map(len, spaced), default=0),
        "terms": len(said),
        "term_length": sum(map(len, said)),
        "letter_terms": sum(number(r"\p{Alphabetic}", term) > 0 for term in said),
        "sentences": sum(map(sentences, text.split("\n"))),
        "lines": len(lines),
        "line_length": sum(map(len, lines)),
        "longest_line": max(map(len, lines), default=0),
        "bullet_lines": sum(line[0] in BULLETS and line[1:2] not in tuple("-*+") for line in lines),
        "ellipsis_lines": sum(end.endswith(("...", "…", ". . .")) for end in ends),
        "terminal_lines": sum(_TERMINAL.match(end[-1:]) is not None for end in ends),
        "repeated_lines": repeats(lines)[0],
        "repeated_line_length": repeats(lines)[1],
        "paragraphs": len(paragraphs),
        "repeated_paragraphs": repeats(paragraphs)[0],
        "repeated_paragraph_length": repeats(paragraphs)[1],
    }
    values |= {f"top_{size}": top(text, spans, size) for size in (2, 3, 4)}
    values |= {f"repeated_{size}": repeated(said, size) for size in range(5, 11)}
    return {field: values[field] for field in FIELDS}
