"""Looking into the folder of a run: its parts as the ledger names them, its context, and its records as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamageError, UserError
from pipeline.ledger import Ledger, Row
from pipeline.parts import read_batches
from pipeline.store.folder import FolderStore
from pipeline.store.mirror import address_of, fill

if TYPE_CHECKING:
    from pipeline.work import Context

SCORES_NOT = (
    "id", "copy", "source", "url", "date", "origin", "title", "text", "language", "characters", "n_tokens", "tokens",
    "token_start", "token_end", "prefix_tokens",
)  # fmt: skip
"""Columns of documents that are no scores."""


_STEERING = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SPELLED = {
    chr(code): f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _STEERING if chr(code) not in "\n\t"
}
"""Control characters, line ends that terminals do not agree on, and those that turn the direction of what follows."""


class _Shown(FolderStore):
    """A folder that is only looked at; of a run at an address its files come when they are asked for."""

    def file(self, name: str) -> Path:
        fill(self.folder, [name])
        return super().file(name)


class _ReadOnce(Ledger):
    """A ledger that is only read: each of its rows once, however many figures are made of them."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.store = _Shown(out)

    def rows(self, phase: str | None = None) -> list[Row]:
        return [row for row in self._all if phase is None or row.phase == phase]

    @cached_property
    def _all(self) -> list[Row]:
        return super().rows()


@dataclass(frozen=True)
class RunFolder:
    """A run folder that is only read. Raises UserError where there is none."""

    folder: Path

    def __post_init__(self) -> None:
        self.ledger.head()

    @cached_property
    def ledger(self) -> Ledger:
        """The run's ledger, to be read: its rows stay as they were when they were first asked for."""
        return _ReadOnce(self.folder)

    @property
    def title(self) -> str:
        """How a run is called that lies here, or at an address of which this is a mirror."""
        return address_of(self.folder) or str(self.folder)

    @property
    def rows(self) -> list[Row]:
        """All readable manifest rows; none of a copy, as the ledger stayed with the run."""
        return self.ledger.rows()

    def of(self, phase: str) -> list[Row]:
        """The rows of a phase, by key."""
        return self.ledger.rows(phase)

    def parts(self, folder: str, start: str = "") -> list[Path]:
        """The committed files in this folder of the run whose name begins with `start`, by name.

        Files that were taken away are left out: see `removed`. Raises DamageError where another one is missing.
        """
        paths = []
        wanted = f"{folder}/{start}"
        fill(self.folder, (part.path for row in self.rows for part in row.parts if part.path.startswith(wanted)))
        for row in self.rows:
            for part in row.parts:
                if part.path.startswith(wanted):
                    path = self.folder / part.path
                    if path.exists():
                        paths.append(path)
                    elif folder not in self.ledger.removed(row):
                        raise DamageError(f"{path} is missing; `corpusmill verify {self.folder}` says what else is")
        return sorted(paths)

    def batches(self, folder: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of the committed tables in a folder, a row group at a time in memory; those of tokens mapped.

        Raises UserError where `corpusmill clean` took the files away, or a file has no such column.
        """
        if self.removed(folder):
            raise UserError(
                f"`corpusmill clean` took the {folder} out of {self.folder}; running the recipe again brings them back"
            )
        for path in self.parts(folder):
            if path.suffix == ".arrow":
                from pipeline import token_parts  # brings the compiler, which a look at documents does not need

                yield token_parts.opened(path).select(columns)
            if path.suffix != ".parquet":
                continue
            here = pq.read_schema(path).names
            for name in columns:
                if name not in here:
                    raise UserError(f"{path} has no column {name}: the run is not complete. Run its recipe again")
            yield from read_batches(path, columns)

    def removed(self, folder: str) -> bool:
        """Whether `corpusmill clean` took parts out of this folder."""
        return any(
            folder in self.ledger.removed(row) and not self._there(part.path)
            for row in self.rows
            for part in row.parts
            if part.path.startswith(folder + "/")
        )

    def _there(self, path: str) -> bool:
        fill(self.folder, [path])
        return (self.folder / path).exists()

    @cached_property
    def context(self) -> Context:
        """What the run was asked for, so that its stages can be set up again."""
        from pipeline.work import Context  # brings every stage, half of a short command's time

        path = self.ledger.folder / "context.json"
        try:
            found = Context.from_json(json.loads(path.read_text("utf-8")))
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing, so the run's stages are unknown; run its recipe again") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DamageError(f"{path} is damaged ({error}); running the recipe again mends it") from error
        context = Context(self.folder, found.folder, found.recipe, found.trial)
        context.__dict__["ledger"] = self.ledger
        return context


def printable(text: str | None) -> str:
    """Text from the crawl for a terminal: control characters, which could steer it or turn its lines round, are
    spelled out."""
    return "".join(_SPELLED.get(char, char) for char in text or "")


def one_line(text: str | None) -> str:
    """`printable` without tabs and line ends."""
    return printable(text).replace("\t", "\\t").replace("\n", "\\n")


def origin_text(origin: Mapping[str, Any] | None) -> str:
    """Where a record lies, for people: file, byte of its frame, place inside."""
    if origin is None:
        return "unknown"
    text = f"{one_line(origin['file'])}, byte {origin['offset']}"
    if origin["length"] is not None:
        text += f", {origin['length']} bytes"
    inside = (origin["inner_offset"], origin["inner_length"])
    return text if inside == (0, origin["length"]) else f"{text}; inside from {inside[0]}, {inside[1]} long"


def as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as JSON can hold it: ids in hex, dates in ISO 8601."""
    return {
        name: value.hex() if isinstance(value, bytes) else value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in record.items()
    }


def scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that stages added to a document."""
    return {name: value for name, value in row.items() if name not in SCORES_NOT}
