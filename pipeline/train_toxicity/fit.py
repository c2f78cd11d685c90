"""Examples and their weights, the model, and its threshold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

import stages
from pipeline.train_toxicity.clean import KINDS, Clean, clean, passages
from pipeline.train_toxicity.posts import bucket, entries, posts
from pipeline.train_toxicity.templates import rude, sentences, swapped
from stages.classifier.fit import Examples, Training, fit
from stages.classifier.model import ONE, Model, scores
from stages.classifier.score import judge
from stages.classifier.windows import windows
from stages.text.column import texts

TRAINING = Training(bits=21)
WEIGHTS = {"davidson": 1.0, "edos": 0.5, "hatexplain": 1.0, "cold": 2.0, "germeval": 1.0}
"""Of the sets. Within each, toxic posts weigh as much together as the others: Davidson has 83 % of them."""
_MADE, _CHINESE_MADE, _LISTED = 3.0, 1.0, 0.3
_SHORT = dict.fromkeys(KINDS, 4) | {"encyclopedia": 1, "sentences": 1}
"""Of how many sentences and lines of clean text one stands among the examples by itself."""
CLEAN_FLAGGED = 0.001
"""Greatest share of the windows of each kind of clean text that the threshold may flag."""

Example = tuple[int, float, str]
"""0 for toxic (the model's class), -1 for not; weight; text."""


def examples(data: Path) -> list[Example]:
    """What the model learns from but clean text: posts, sentences of our own, and words of lists."""
    listed = entries(data)
    profane = rude(entry for entry, severity in listed if severity >= 1.2 and len(entry) > 3 and " " not in entry)
    kept = [
        # EDOS asks for sexism alone: a post that is rude in another way counts as clean there, and is left out.
        (post.name, post.toxic, post.text if post.name == "cold" else swapped(post.text, 1))
        for post in posts(data)
        if not post.test and not (post.name == "edos" and not post.toxic and profane.search(post.text))
    ]
    numbers = Counter((name, toxic) for name, toxic, _ in kept)
    made = []
    for name, toxic, text in kept:
        balance = (numbers[name, True] + numbers[name, False]) / 2 / numbers[name, toxic]
        made.append((0 if toxic else -1, WEIGHTS[name] * balance, text))
    made += [(0, severity / 2, entry) for entry, severity in listed]
    made += [(0, _LISTED, entry) for entry in _word_lists()]
    for hostile, text in dict.fromkeys(sentences(1)):
        made.append((0 if hostile else -1, _MADE if text.isascii() else _CHINESE_MADE, text))
    return made


def train(data: Path) -> Model:
    """The model, with its threshold."""
    found = examples(data)
    texts_clean = list(clean(data))
    for clean_text in texts_clean:
        if clean_text.part == "train":
            found.append((-1, 1.0, clean_text.text))
            found += [
                (-1, 1.0, part) for part in passages(clean_text.text) if not bucket(part, _SHORT[clean_text.kind])
            ]
    view = texts(pa.array([text for _, _, text in found], pa.large_string()))
    cut = windows(view.data, view.offsets)
    classes = np.array([label for label, _, _ in found], np.int64)[cut.rows]
    importance = np.array([weight for _, weight, _ in found])[cut.rows]
    facts = {
        "trained on": "toxicity/ (Davidson, EDOS, HateXplain, COLD, GermEval 2018), word lists, clean text, templates",
        "licences": "MIT, CC0-1.0, Apache-2.0, CC-BY-4.0; the model is Apache-2.0 and holds no text",
        "examples": len(found),
        "windows": len(cut.rows),
        "training": TRAINING._asdict(),
    }
    model = fit(Examples(view.data, cut.starts, cut.ends, classes, importance), "toxicity", ("toxic",), TRAINING, facts)
    return model._replace(threshold=_threshold(model, [text for text in texts_clean if text.part == "choose"]))


def window_scores(model: Model, given: Sequence[str]) -> npt.NDArray[np.int32]:
    """The scores of all windows of the texts."""
    return scores(judge(model, texts(pa.array(given, pa.large_string()))).log_odds[:, 0])


def _threshold(model: Model, given: Iterable[Clean]) -> int:
    """The least score, in hundredths from 0.6 on, that flags no more than `CLEAN_FLAGGED` of any kind's windows."""
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for text in given:
        by_kind[text.kind].append(text.text)
    found = [window_scores(model, given) for given in by_kind.values() if given]
    for threshold in range(ONE * 6 // 10, ONE, ONE // 100):
        if all(np.count_nonzero(each > threshold) <= CLEAN_FLAGGED * len(each) for each in found):
            return threshold
    raise ValueError("there is no threshold that lets clean text pass")


def _word_lists() -> list[str]:
    """The entries of the built-in word lists, without those that are also ordinary words."""
    folder = Path(stages.__path__[0]) / "data"
    ordinary: dict[str, Any] = json.loads((folder / "ldnoobw_ordinary.json").read_text("utf-8"))
    return [
        entry.strip()
        for file in sorted((folder / "ldnoobw").iterdir())
        for entry in file.read_text("utf-8").splitlines()
        if entry.strip() and entry not in ordinary.get(file.name, ())
    ]
