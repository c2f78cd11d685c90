"""The gate of `normalize` against ftfy on every text: `python -m tests.bench.normalize_gate [NUMBER] [--pages]`.

Makes NUMBER texts (a million) of many shapes from a fixed seed: ftfy's own cases, whole and cut; text decoded as the
wrong charset, once and twice; the characters that ftfy's patterns know, alone and among others; entities, line ends,
joiners, blanks; all of Unicode. Each goes through the stage, in batches, and through plain Python (`fix_text` and
patterns on every text: tests/stages/normalize_reference.py), under several settings. Prints how many came out
otherwise, which should be none. Then, for real text and for web pages extracted by `blocks` (`--pages`), how many
documents pass the gate, so that no part of them becomes a Python string.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ftfy.badness import MOJIBAKE_CATEGORIES

from stages.normalize import Normalize
from stages.normalize.scan import FTFY, scan
from stages.text.column import texts
from tests.stages.normalize_reference import reference
from tests.stages.stage_helpers import SHARED, batch

SEED = 20
BATCH = 2000
SETTINGS = (
    Normalize(zero_width="keep", soft_hyphens="keep"),
    Normalize(),
    Normalize(form="NFKC", zero_width="keep", soft_hyphens="keep", max_blank_lines=0),
    Normalize(fix_encoding=False, unescape_html=False, dehyphenate=True, collapse_blanks=True),
    Normalize(uncurl_quotes=True, fix_character_width=True, zero_width="remove"),
)
CHARSETS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "mac-roman", "cp437", "iso-8859-2")
ALPHABETS = (
    "ab cdEF.;&#lt12\n\r\t<-",
    "".join(MOJIBAKE_CATEGORIES.values()),
    "ÂÃâ€œš™ŸžéèàœŒ \x85\x9d",
    "e\u0301\u0323a\u0328é각ᄀ\u1161\u11a8ক\u09c7\u09be\u0344\u0f73\u1e0aй",
    "\ufb01ĳǅŉ\x1b[3m;",
    "中文，。Ａ１ｱ \u3000\u2028\v\f\x00\x07\ufeff\u206a\u200d\u200c\xad\u200b",
    "क्ष می 👩🏽🚀\u200d\u200c\ufe0f",
    " \n\n\t\xa0",
)
ENTITIES = ("&amp;", "&#65;", "&#x41;", "&lt;", "&NTILDE;", "&nTilde;", "&NewLine;", "&Ã;", "&amp", "<b>", "\r\n", "\n")


def cases() -> list[str]:
    """The texts of ftfy's own cases; a few of ours where they are not here."""
    folder = SHARED / "emoji_mojibake" / "ftfy" / "tests" / "test-cases"
    found = [case for file in sorted(folder.glob("*.json")) for case in json.loads(file.read_text("utf-8"))]
    return [case[key] for case in found for key in ("original", "fixed")] or ["schÃ¶n âœ” No problems", "l’humanitÃ©"]


def shapes(number: int, known: Sequence[str], chance: random.Random) -> Iterator[str]:
    """So many texts, in turn of each shape."""
    pick = chance.choice
    for place in range(number):
        shape = place % 8
        if shape == 0:
            text = pick(known)
        elif shape == 1:
            text = pick(known)
            start = chance.randrange(len(text) + 1)
            text = text[start : start + chance.randrange(40)] + pick(pick(ALPHABETS)) + pick(known)[:5]
        elif shape in (2, 3):
            text = "".join(pick(pick(ALPHABETS)) for _ in range(chance.randrange(14)))
            for _ in range(shape - 1):
                text = text.encode().decode(pick(CHARSETS), pick(("replace", "ignore")))
        elif shape in (4, 5):
            alphabets = ALPHABETS if shape == 4 else (pick(ALPHABETS), pick(ALPHABETS))
            parts = [pick(pick(alphabets)) if chance.random() < 0.93 else pick(ENTITIES) for _ in range(40)]
            text = "".join(parts[: chance.randrange(41)])
        elif shape == 6:
            codes = (chance.randrange(pick((0x180, 0x3000, 0x110000))) for _ in range(chance.randrange(30)))
            text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        else:
            text = "\n".join(pick(known)[: chance.randrange(30)] for _ in range(chance.randrange(6)))
        yield text


def differences(number: int) -> int:
    """How many texts the stage gave back otherwise than plain Python does; prints the first of them."""
    chance, known, wrong, done = random.Random(SEED), cases(), 0, 0
    seconds = [0.0, 0.0]
    for stage in SETTINGS:
        stage.process(batch(["mojibÃ¤ke\r\n"]))  # compilation and tables
    while done < number:
        values = list(shapes(min(BATCH, number - done), known, chance))
        stage = SETTINGS[done // BATCH % len(SETTINGS)]
        begun = time.process_time()
        result = stage.process(batch(values))
        between = time.process_time()
        expected = [reference(value, stage) for value in values]
        seconds[0] += between - begun
        seconds[1] += time.process_time() - between
        kept = iter(result.batch.column("text").to_pylist())
        dropped = {drop[0] for drop in result.dropped}
        given = ["" if row in dropped else next(kept) for row in range(len(values))]
        for value, new, (wanted, _) in zip(values, given, expected, strict=True):
            if new != wanted:
                wrong += 1
                if wrong <= 5:
                    print(f"  {stage}\n    {value!a}\n    stage {new!a}\n    plain {wanted!a}")
        if result.counts.get("characters_cut", 0) != sum(cut for _, cut in expected):
            wrong += 1
            print(f"  characters cut differ in the batch at {done}, {stage}")
        done += len(values)
    micro = [1e6 * part / number for part in seconds]
    print(f"  CPU a text, most of them broken: the stage {micro[0]:.0f} us, plain Python {micro[1]:.0f} us")
    return wrong


def passing(name: str, values: Sequence[str]) -> None:
    """Prints how many of these documents the gate lets through."""
    column = batch(list(values)).column("text")
    lines, touched = scan(texts(column), SETTINGS[1]._kinds(), 2, False, False)
    sent = len(np.unique(lines.rows))
    mojibake = len(np.unique(lines.rows[lines.why & FTFY > 0]))
    print(
        f"  {name:24} {len(values):6} documents: {100 - 100 * sent / len(values):6.2f} % pass; ftfy sees a line of "
        f"{mojibake}, the Unicode form alone one of {sent - mojibake}; {100 * touched.mean():.0f} % may need tidying"
    )


def pages() -> list[str]:
    """The texts that `extract` makes of the pages of ../shared/data/crawl."""
    from stages.extract import Extract
    from tests.bench.extract_contestants import batch_of
    from tests.bench.extract_scoring import pages as crawled
    from tests.stages.stage_helpers import bound

    extract, found, made = bound(Extract()), crawled(), list[str]()
    for start in range(0, len(found), 32):
        made += extract(batch_of(found[start : start + 32])).batch.column("text").to_pylist()
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; 1 where a text came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--pages", action="store_true", help="extract the shared crawl too (minutes)")
    options = parser.parse_args(arguments)
    print(f"normalize against plain Python on {options.number:,} texts")
    wrong = differences(options.number)
    print(f"  {wrong} came out otherwise")
    for file in sorted((SHARED / "text").glob("*.jsonl.gz")):
        with gzip.open(file) as lines:
            passing(Path(file.stem).stem, [json.loads(line)["text"] for line in lines])
    if options.pages:
        passing("extracted web pages", pages())
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
