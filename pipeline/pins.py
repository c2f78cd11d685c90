"""Pins: documents that a run dropped by a limit on time or memory, so that later runs drop them without trying.

CPU time and crashes are measured, not computed, so another machine may decide otherwise at the margin. Each unit
lists the documents that it dropped so in its manifest row; `pins.json` in the run folder gathers them. A later run
of the folder obeys it where the stage is still as it was; another run obeys the pins that its recipe names, as they
are. With the same pins, two runs drop the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import RecipeError, UserError
from pipeline.guard import REASONS
from pipeline.ledger import Ledger, digest_of
from stages.base import Outcome

NAME = "pins.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One document that a stage dropped by one of `pipeline.guard.REASONS`."""

    id: str
    """In hex."""
    stage: str
    """The stage's label in the recipe."""
    reason: str
    limit: float | None
    """The limit that it met: CPU seconds, bytes; none for a crash."""
    source: str
    url: str | None
    file: str | None
    """The input that it was found in."""
    offset: int | None
    made_by: str
    """Digest of everything that the stage's outcome depends on."""
    versions: dict[str, str]
    """The stage's version and those of its packages."""


def read(path: Path) -> list[Pin]:
    """The pins in a file. Raises RecipeError where it holds none or is damaged."""
    try:
        return _read(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise RecipeError(f"there is no file {path}") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error


def _read(text: bytes, path: str) -> list[Pin]:
    try:
        data = json.loads(text.decode("utf-8"))
        if data["format_version"] != FORMAT_VERSION:
            raise RecipeError(f"{path} has pin format {data['format_version']}; this corpusmill reads {FORMAT_VERSION}")
        found = TypeAdapter(list[Pin]).validate_python(data["pins"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        what = f"{error.error_count()} entries are broken" if isinstance(error, ValidationError) else repr(error)
        raise RecipeError(f"{path} is no file of pins, as a run leaves in its folder as {NAME}: {what}") from error
    odd = next((pin for pin in found if pin.reason not in REASONS or not _is_id(pin.id)), None)
    if odd is not None:
        raise RecipeError(f"{path}: no pin: id {odd.id!r}, reason {odd.reason!r}; known reasons: {', '.join(REASONS)}")
    return found


def _is_id(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 16
    except ValueError:
        return False


def digest(pins: Iterable[Pin]) -> str:
    """The digest of what pins decide, for resume keys."""
    return digest_of(sorted([pin.stage, pin.id, pin.reason, pin.limit] for pin in pins))


def gather(ledger: Ledger) -> None:
    """Puts the pins of all committed units of a run into its `pins.json`, beside those that are there.

    Call it before the rows of units that are not asked for any more are removed.
    """
    found = {_key(pin): pin for pin in of_run(ledger)}
    found |= {_key(pin): pin for pin in of_rows(ledger)}
    if not found:
        return
    pins = [asdict(found[key]) for key in sorted(found)]
    text = json.dumps({"format_version": FORMAT_VERSION, "pins": pins}, indent=1, ensure_ascii=False) + "\n"
    ledger.put(NAME, text.encode())


def of_run(ledger: Ledger) -> list[Pin]:
    """The pins of a run folder; none where it has none. Raises UserError where they are damaged."""
    data = ledger.small(NAME)
    if data is None or not ledger.store.exists("ledger/run.json"):
        return []
    try:
        return _read(data, f"{ledger.store}/{NAME}")
    except RecipeError as error:
        raise UserError(f"{error}. Mend it, or remove it: then its documents are tried again.") from error


def of_rows(ledger: Ledger) -> list[Pin]:
    """The pins that the committed units list, in order."""
    found = {_key(pin): pin for row in ledger.rows("clean") for pin in (Pin(**one) for one in row.body.get("pins", []))}
    return [found[key] for key in sorted(found)]


def _key(pin: Pin) -> tuple[str, ...]:
    return (pin.id, pin.stage, pin.made_by, pin.reason)


class Obeying:
    """A guarded stage of a run that drops what is pinned without trying, and says what to pin."""

    def __init__(self, judge: Callable[[pa.RecordBatch], Outcome], label: str, facts: Mapping[str, Any]) -> None:
        """`facts`: everything that the stage's outcome depends on."""
        self._judge = judge
        self._label = label
        self._made_by = digest_of(facts)
        self._versions = {str(facts["stage"]): str(facts["version"]), **facts["packages"]}
        self._pinned: dict[bytes, Pin] = {}

    def obey(self, pins: Iterable[Pin], *, whatever_made_them: bool) -> None:
        """Takes pins in; without `whatever_made_them` only those that this very stage, as it is set now, made."""
        for pin in pins:
            if pin.stage == self._label and (whatever_made_them or pin.made_by == self._made_by):
                self._pinned.setdefault(bytes.fromhex(pin.id), pin)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        """What becomes of the batch."""
        pinned = [self._pinned.get(one) for one in batch.column("id").to_pylist()] if self._pinned else []
        if not any(pinned):
            return self._judge(batch)
        tried = np.flatnonzero([pin is None for pin in pinned])
        outcome = self._judge(batch.take(pa.array(tried)))
        dropped = [(int(tried[row]), *rest) for row, *rest in outcome.dropped]
        dropped += [(row, pin.reason, pin.limit, pin.limit) for row, pin in enumerate(pinned) if pin]
        return Outcome(outcome.batch, sorted(dropped, key=lambda one: one[0]), outcome.counts)  # type: ignore[arg-type]

    def pin(self, row: Mapping[str, Any], reason: str, limit: float | None) -> Pin:
        """The pin of a document that the stage dropped: the one that it obeyed, or a new one."""
        known = self._pinned.get(row["id"])
        if known is not None:
            return known
        origin = row["origin"] or {"file": None, "offset": None}
        return Pin(
            id=row["id"].hex(), stage=self._label, reason=reason, limit=limit, source=row["source"], url=row["url"],
            file=origin["file"], offset=origin["offset"], made_by=self._made_by, versions=self._versions,
        )  # fmt: skip
