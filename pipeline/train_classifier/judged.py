"""Documents that people judged in `corpusmill browse`, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import RecipeError
from pipeline.look import labels
from pipeline.look.runfolder import RunFolder
from pipeline.look.texts import of_documents
from pipeline.train_classifier.documents import Document


class Judged(NamedTuple):
    """The documents, and which labels gave none."""

    documents: list[Document]
    missing: int
    """Labels of records that are not among the documents of their run: what was dropped has no text there."""
    changed: int
    """Documents whose text is not the one that was judged, as after a change of the recipe; they are taken."""


def read(folders: Sequence[Path], good: str, bad: str) -> Judged:
    """The labelled documents of run folders, in the order in which they were first judged.

    Raises UserError where a folder holds no run, RecipeError where it has no labels.
    """
    documents: list[Document] = []
    missing = changed = 0
    for folder in folders:
        run = RunFolder(folder)
        known = labels.read(folder)
        if not known:
            raise RecipeError(f"{folder} has no labels; `corpusmill browse {folder}` gives it some")
        texts = of_documents(run, [bytes.fromhex(one) for one in known])
        for one, label in known.items():
            text = texts.get(bytes.fromhex(one), "")
            if not text.strip():
                missing += 1
                continue
            documents.append(Document(good if label.label == "good" else bad, text))
            changed += bool(label.digest) and label.digest != labels.digest(text)
    return Judged(documents, missing, changed)
