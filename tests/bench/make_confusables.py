"""Makes `stages/data/confusables.txt` anew: `python -m tests.bench.make_confusables`.

From the copy of Unicode's confusables.txt (UTS #39) in the package `confusable-homoglyphs`: each line holds the code
points that look like one another. Pairs in which a side is several characters are left out, and so are classes
without a letter of the scripts that the project folds to.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
from pathlib import Path

import regex

import stages
from stages.text.confusables import SCRIPTS

TARGET = Path(stages.__path__[0]) / "data" / "confusables.txt"
_DIRECTION = dict.fromkeys(map(ord, "\u200e\u200f"))
_LETTER = regex.compile("|".join(rf"[\p{{Script={script}}}&&\p{{L}}]" for script in SCRIPTS), regex.V1)


def classes() -> list[list[int]]:
    """The code points that look alike, class by class, each ascending, by their first."""
    text = (importlib.resources.files("confusable_homoglyphs") / "confusables.json").read_text("utf-8")
    root: dict[str, str] = {}

    def find(letter: str) -> str:
        while root.setdefault(letter, letter) != letter:
            letter = root[letter]
        return letter

    for left, others in json.loads(text).items():
        for other in others:
            pair = left.translate(_DIRECTION), other["c"].translate(_DIRECTION)
            if len(pair[0]) == len(pair[1]) == 1:
                root[max(map(find, pair))] = min(map(find, pair))
    found: dict[str, list[int]] = {}
    for letter in root:
        found.setdefault(find(letter), []).append(ord(letter))
    return sorted(
        sorted(members)
        for members in found.values()
        if len(members) > 1 and any(_LETTER.match(chr(code)) for code in members)
    )


def main() -> None:
    """Writes the file."""
    release = importlib.metadata.version("confusable-homoglyphs")
    lines = [f"# Code points that look alike: Unicode's confusables.txt (UTS #39), by confusable-homoglyphs {release}"]
    lines += [" ".join(f"{code:x}" for code in members) for members in classes()]
    TARGET.write_text("\n".join(lines) + "\n", "ascii")
    print(f"{TARGET}: {len(lines) - 1} classes, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
