"""A record once more: its bytes as the crawl has them, what each stage makes of them, and what was cut afterwards."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline import edits
from pipeline.errors import DamageError
from pipeline.look.runfolder import RunFolder
from pipeline.readers.base import Read
from pipeline.tokenizers import Tokenizer

MOST_RAW = 400_000
"""Characters of a raw page that are shown."""
MOST_TOKENS = 6_000
LONGEST = 16
"""Tokens that together may be one character, or a few."""
MOST_COMPARED = 200_000
"""Characters of each of two texts that are compared."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a text; `kind` says what became of it: `same`, `cut`, `gone`, `came`."""

    kind: str
    text: str


@dataclass
class Record:
    """What the crawl gives for a row now."""

    file: str
    raw: str
    """The payload as text, or the text as a table has it; escaped wherever it is shown."""
    kind: str
    """What `raw` is: content type and encoding."""
    size: int
    """Bytes of the payload."""
    shortened: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    """By stage: `stage`, `characters` of the text after it, `columns` that it wrote, whether the text `changed`."""
    dropped: dict[str, Any] | None = None
    """Which stage drops it: stage, reason, value, limit."""
    text: str | None = None
    """Its text, as far as it came, with the edits that are stored."""
    segments: list[Segment] = field(default_factory=list)
    """The same text with what was cut from it by phases over the whole corpus; empty where nothing was."""


def record_again(run: RunFolder, row: Mapping[str, Any]) -> Record:
    """The record of a row of documents or dropped.

    Raises UserError where the crawl file is gone, DamageError where it is another one.
    """
    from pipeline.look.reextract import record_of  # brings every stage's libraries
    from pipeline.look.try_page import through
    from pipeline.phases.clean import chain_of

    unit, path, read = record_of(run, row)
    made = Record(path, *_raw(read))
    steps, made.dropped = through(lambda: chain_of(run.context), read, row["source"])
    made.steps = [
        {
            "stage": step.stage,
            "characters": None if step.after is None else len(step.after),
            "changed": step.before != step.after,
            "columns": {name: _short(value) for name, value in step.columns.items()},
        }
        for step in steps
    ]
    made.text = steps[-1].after if steps else read.text
    if made.text is not None and made.dropped is None:
        cut = _cut_places(run, unit, row, made.text)
        made.segments = list(_segments(made.text, cut)) if cut.any() else []
        if made.segments:
            made.text = "".join(one.text for one in made.segments if one.kind == "same")
    return made


def _raw(read: Read) -> tuple[str, str, int, bool]:
    from stages.decode import decode

    if read.payload is not None:
        decoded = decode(read.payload, read.content_type)
        kind = f"{read.content_type or 'no content type'}, {decoded.charset}"
        return decoded.text[:MOST_RAW], kind, len(read.payload), len(decoded.text) > MOST_RAW
    if read.text is not None:
        return read.text[:MOST_RAW], "text", len(read.text.encode(errors="replace")), len(read.text) > MOST_RAW
    return "", "the reader gives no contents of this record", 0, False


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) < 200 else text[:200] + "…"


def _cut_places(run: RunFolder, unit: Any, row: Mapping[str, Any], text: str) -> npt.NDArray[np.bool_]:
    """(bytes of the text,) which were cut. Each phase speaks of what the one before it left."""
    cut = np.zeros(len(text.encode()), bool)
    for path, starts, ends in edits.stored(run.context, unit, row["origin"], row["id"]):
        left = np.flatnonzero(~cut)
        for start, end in zip(starts[0].as_py(), ends[0].as_py(), strict=True):
            if not 0 <= start <= end <= len(left):
                raise DamageError(f"the edits in {path} do not fit what the record gives now")
            cut[left[start:end]] = True
    return cut


def _segments(text: str, cut: npt.NDArray[np.bool_]) -> Iterator[Segment]:
    data = text.encode()
    bounds = [0, *(np.flatnonzero(cut[1:] != cut[:-1]) + 1).tolist(), len(data)]
    for start, end in itertools.pairwise(bounds):
        if end > start:
            yield Segment("cut" if cut[start] else "same", data[start:end].decode(errors="replace"))


def tokens_of(model: Tokenizer, text: str) -> dict[str, Any]:
    """The tokens of a text as pieces that follow each other: `pieces` of [text, ids], `total`, `shown`.

    A piece is one token wherever its tokens are whole characters, else as many as are.
    """
    ids = model.encode(pa.array([text], pa.string()))[0].values.to_numpy().astype(np.int64)
    pieces: list[tuple[str, list[int]]] = []
    at, start = 0, 0
    shown = ids[:MOST_TOKENS].tolist()
    while start < len(shown):
        for stop in range(start + 1, min(start + LONGEST, len(shown)) + 1):
            decoded = model.decode(shown[start:stop])
            # decoders drop a space that a model puts in front, which then may be the text's own
            found = next((one for one in (decoded, " " + decoded) if one and text.startswith(one, at)), None)
            if found is not None:
                break
        else:
            stop, found = start + 1, model.decode(shown[start : start + 1])
        pieces.append((found, shown[start:stop]))
        at += len(found)
        start = stop
    return {"pieces": pieces, "total": len(ids), "shown": len(shown), "characters": len(text)}


def compared(old: str, new: str) -> list[Segment]:
    """Both texts in one: what they share, what only the first has (`gone`), what only the second has (`came`).

    By words; where the script has no spaces, by characters.
    """
    a, b = (_units(text[:MOST_COMPARED]) for text in (old, new))
    found: list[Segment] = []
    for kind, a0, a1, b0, b1 in _opcodes(a, b):
        if kind == "equal":
            found.append(Segment("same", "".join(a[a0:a1])))
            continue
        for name, text in (("gone", "".join(a[a0:a1])), ("came", "".join(b[b0:b1]))):
            if text:
                found.append(Segment(name, text))
    return found


_UNIT = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+|\s+|.", re.S)  # fmt: skip  # noqa: E501
"""Characters of Thai, Lao, Burmese, Khmer, Japanese and Chinese stand alone; other letters make words."""


def _units(text: str) -> list[str]:
    return _UNIT.findall(text)


def _opcodes(a: list[str], b: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Lines first, then units inside of stretches that differ, so that long texts take no quadratic time."""
    lines_a, lines_b = _lines(a), _lines(b)
    keys_a = ["".join(a[start:end]) for start, end in lines_a]
    keys_b = ["".join(b[start:end]) for start, end in lines_b]
    found: list[tuple[str, int, int, int, int]] = []
    for kind, i0, i1, j0, j1 in difflib.SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_opcodes():
        a0, a1 = (lines_a[i0][0], lines_a[i1 - 1][1]) if i1 > i0 else (len(a), len(a))
        b0, b1 = (lines_b[j0][0], lines_b[j1 - 1][1]) if j1 > j0 else (len(b), len(b))
        if kind != "replace" or max(a1 - a0, b1 - b0) > 4_000:
            found.append((kind, a0, a1, b0, b1))
            continue
        inner = difflib.SequenceMatcher(None, a[a0:a1], b[b0:b1], autojunk=False).get_opcodes()
        found += [(name, a0 + w, a0 + x, b0 + y, b0 + z) for name, w, x, y, z in inner]
    return found


def _lines(units: list[str]) -> list[tuple[int, int]]:
    ends = [place + 1 for place, unit in enumerate(units) if "\n" in unit]
    bounds = [0, *ends, len(units)]
    return [(start, end) for start, end in itertools.pairwise(bounds) if end > start]
