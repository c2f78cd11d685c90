"""Names of months against the Unicode CLDR (in Babel). `python -m tests.peers.test_months` rewrites ours."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from pathlib import Path

from babel.dates import get_month_names

from stages.extract import months

LANGUAGES = (
    "af ar az be bg bn bs ca cs cy da de el en es et eu fa fi fr ga gl hr hu hy id is it ka kk lt lv mk ms nb nl pl "
    "pt ro ru sk sl sq sr sr_Latn sv sw tr uk uz vi"
).split()


def cldr() -> dict[str, int]:
    """Number of the month by name, lower case and without the dot of an abbreviation.

    Left out: names that are two months in two languages, those with figures or blanks, and those of one letter.
    """
    numbers = defaultdict(set)
    for language in LANGUAGES:
        for width in ("wide", "abbreviated"):
            for context in ("format", "stand-alone"):
                for number, name in get_month_names(width, context=context, locale=language).items():
                    numbers[name.lower().rstrip(".")].add(number)
    return {name: min(found) for name, found in numbers.items() if len(found) == 1 and months.WORD.fullmatch(name)} | {
        "sept": 9
    }


def source(names: dict[str, int]) -> str:
    """The lines of the table."""
    lines = []
    for number in range(1, 13):
        words = " ".join(sorted(name for name, of in names.items() if of == number))
        wrapped = textwrap.wrap(words, 108, break_long_words=False, break_on_hyphens=False)
        lines += [f"    {number}: (", *(f'        "{line} "' for line in wrapped), "    ),"]
    return "\n".join(["_NAMES = {", *lines, "}"])


def test_months_are_those_of_cldr() -> None:
    """Else dates of pages in some language would be lost, or read as another month."""
    assert {name: months.NUMBER[name] for name in months.NUMBER} == cldr()


if __name__ == "__main__":
    path = Path(months.__file__)
    text = path.read_text("utf-8")
    start, end = text.index("_NAMES = {"), text.index("}", text.index("_NAMES = {")) + 1
    path.write_text(text[:start] + source(cldr()) + text[end:], "utf-8")
