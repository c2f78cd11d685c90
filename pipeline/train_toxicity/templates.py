"""Sentences made for training, by templates of our own (`templates.json`): people named by what they are, praise,
and insults.

Posts that name a minority are mostly hostile in the data sets, so that a model learns the names for insults. Here
each name stands in as many friendly and sober sentences as every other, and in as many hostile ones, so that it
says nothing; and in the English and German posts an English name is replaced by another by chance. The templates are
not those of the test (unintended-bias): "NAME is a ADJECTIVE TERM", "You are a ADJECTIVE TERM", "VERB TERM", "I am a
TERM, I hate ...", "being TERM is ADJECTIVE".
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import regex

from stages.hashing import keyed

Lists = dict[str, list[str]]
LISTS: dict[str, Lists] = json.loads(Path(__file__).with_name("templates.json").read_text("utf-8"))
"""By language: `terms`, names of groups; `plain` and `hostile`, sentences around {t}; `insults`, around {n} (`nouns`)
and {a} (`adjectives`); `praise`, around {g} (`good`)."""
_ENGLISH = LISTS["en"]["terms"]
_TERM = regex.compile(rf"\b({'|'.join(sorted(map(regex.escape, _ENGLISH), key=len, reverse=True))})(s?)\b", regex.I)


def sentences(seed: int) -> Iterator[tuple[bool, str]]:
    """Sentences, and whether they are hostile; the same for the same seed.

    Each name stands in each sentence around it; each insult in each of the insults; what else a template wants is
    chosen by a hash.
    """
    for language, lists in LISTS.items():
        for term, kind in itertools.product(lists["terms"], ("plain", "hostile")):
            for number, template in enumerate(lists[kind]):
                yield kind == "hostile", _filled(template, lists, seed, (language, term, number), t=term)
        for number, template in enumerate(lists["insults"]):
            for letter, name in (("n", "nouns"), ("a", "adjectives")):
                for word in lists[name] if f"{{{letter}}}" in template else ():
                    yield True, _filled(template, lists, seed, (language, word, number), **{letter: word})
        for template, word in itertools.product(lists["praise"], lists["good"]):
            yield False, template.format(g=word)


def swapped(text: str, seed: int) -> str:
    """The text with each English name of a group replaced by one chosen by a hash of the text and the place."""

    def other(match: regex.Match[str]) -> str:
        key = keyed("sample", seed, f"{match.start()} {text}".encode())
        return f"{_ENGLISH[key % len(_ENGLISH)]}{match[2]}"

    return str(_TERM.sub(other, text))


def rude(entries: Iterable[str]) -> regex.Pattern[str]:
    """Finds a word of `entries`, or an English insult of the templates, or its plural."""
    words = {*LISTS["en"]["nouns"], *LISTS["en"]["adjectives"], *(entry.casefold() for entry in entries)}
    ordered = sorted(words, key=lambda word: (-len(word), word))
    return regex.compile(rf"\b(?:{'|'.join(map(regex.escape, ordered))})s?\b", regex.I)


def _filled(template: str, lists: Lists, seed: int, key: tuple[object, ...], **given: str) -> str:
    def pick(name: str) -> str:
        words = lists[name]
        return words[keyed("sample", seed, repr((*key, name)).encode()) % len(words)]

    return template.format(**{"a": pick("adjectives"), "n": pick("nouns"), "g": pick("good")} | given)
