"""datatrove's steps over texts, timed one by one. Runs in an environment of its own: it imports nothing of ours.

`python datatrove_steps.py TEXTS.jsonl LID_MODEL WORD_LIST` prints a JSON object of CPU seconds by step and which
texts each keeps. Steps that datatrove lacks are what its users add: `emoji.demojize`, and C4's list of bad words.
"""

import contextlib
import json
import sys
import time

import emoji
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4BadWordsFilter,
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
)
from datatrove.pipeline.filters import c4_filters as c4
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.utils import lid


def main(texts: str, model: str, words: str) -> None:
    with open(texts, encoding="utf-8") as lines:
        documents = [Document(text=json.loads(line)["text"], id=str(number)) for number, line in enumerate(lines)]
    lid.cached_asset_path_or_download = lambda *_, **__: model  # both would be fetched from the network
    c4.cached_asset_path_or_download = lambda *_, **__: words
    formatters = {"ftfy": FTFYFormatter().format, "emoji": emoji.demojize, "pii": PIIFormatter().format}
    filters = {
        "language": LanguageFilter(languages=["en"]),
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(),
        "fineweb_quality": FineWebQualityFilter(),
        "bad_words": C4BadWordsFilter(),
    }
    steps = {}
    for name, change in formatters.items():
        steps[name] = lambda document, change=change: bool(change(document.text))
    for name, one in filters.items():
        steps[name] = lambda document, one=one: one.filter(document)
    found = {"seconds": {}, "kept": {}}
    for name, step in steps.items():
        with contextlib.suppress(Exception):
            step(Document(text="A text to begin with, so that models are loaded. It is short.", id="x"))
        begun = time.process_time()
        verdicts = []
        for document in documents:
            copy = Document(text=document.text, id=document.id)
            verdict = step(copy)
            verdicts.append(verdict[0] if isinstance(verdict, tuple) else bool(verdict))
        found["seconds"][name] = time.process_time() - begun
        found["kept"][name] = [number for number, kept in enumerate(verdicts) if kept]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:4])
