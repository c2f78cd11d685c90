"""Documents with labels, out of files."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import RecipeError

csv.field_size_limit(1 << 26)
_NO_SECTION = re.compile(r"[a-z]{2}(?:[-_][a-z]{2,4})?|[\d._-]+")
_KINDS = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv", ".txt")
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".lz4": "lz4"}


class Document(NamedTuple):
    """A text and its label."""

    label: str
    text: str


def read(
    paths: Iterable[Path], text_field: str, label: str | None = None, label_field: str = "", url_field: str = ""
) -> Iterator[Document]:
    """The documents of files, in the order of the files.

    JSON lines, Parquet, CSV and TSV hold the text in `text_field`, and where `label` is not given the label in
    `label_field`, or in the `section` of the URL in `url_field`; of a plain text file each line is a document. Files
    may be packed (.gz, .zst, .bz2, .lz4); of a folder, such as the documents of a run, all such files are read.
    Documents without text or label are passed over.

    Raises RecipeError where a file is not there, of another kind, damaged, or has no such field.
    """
    for path in paths:
        found = 0
        for file in _files(path):
            try:
                for row in _rows(file, text_field, url_field or label_field):
                    if label is not None:
                        named: object = label
                    else:
                        named = section(row.get(url_field)) if url_field else row.get(label_field)
                    text = row.get(text_field)
                    if isinstance(text, str) and text.strip() and named is not None:
                        found += 1
                        yield Document(str(named), text)
            except (OSError, ValueError, pa.ArrowException, EOFError, csv.Error) as error:
                raise RecipeError(f"{file} cannot be read: {error}") from error
        if not found:
            if label is None and url_field:
                raise RecipeError(
                    f"{path} has no document with the field '{text_field}' and a URL with a section in '{url_field}'; "
                    "see --text-field and --url-field"
                )
            fields = f"'{text_field}'" + (f" and '{label_field}'" if label is None else "")
            raise RecipeError(f"{path} has no document with the field {fields}; see --text-field and --label-field")


def section(url: object) -> str | None:
    """The first part of a URL's path that is a folder and neither a language nor a number: `sport` of
    `https://example.org/en/2024/Sport/a.html`; None where there is none."""
    if not isinstance(url, str):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    folders = (unquote(part).strip().lower() for part in path.split("/")[1:-1])
    return next((part for part in folders if part and not _NO_SECTION.fullmatch(part)), None)


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file, by its name; with as many folders in front as it takes where others have that name."""
    found: dict[str, str] = {}
    for path in paths:
        for file in _files(path):
            with file.open("rb") as data:
                digest = hashlib.file_digest(data, "sha256").hexdigest()
            names = ("/".join(file.parts[-length:]) for length in range(1, len(file.parts) + 1))
            found[next(name for name in names if found.get(name, digest) == digest)] = digest
    return found


def _kind(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in _KINDS)
        if not found:
            raise RecipeError(f"the folder {path} has no file that can be read ({', '.join(_KINDS)})")
        return found
    if not path.is_file():
        raise RecipeError(f"there is no file {path}")
    if _kind(path) not in _KINDS:
        raise RecipeError(f"{path} is of no kind that can be read: {', '.join(_KINDS)}, packed or not")
    return [path]


def _rows(path: Path, *fields: str) -> Iterator[dict[str, object]]:
    kind = _kind(path)
    if kind == ".parquet":
        with pq.ParquetFile(path) as table:
            here = [field for field in fields if field in table.schema_arrow.names]
            for batch in table.iter_batches(1000, columns=here):
                yield from batch.to_pylist()
        return
    with _open(path) as file:
        if kind in (".csv", ".tsv"):
            yield from csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",")
            return
        for number, line in enumerate(file, 1):
            if kind == ".txt":
                yield {fields[0]: line}
            elif line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number} is no JSON: {error}") from error
                yield row if isinstance(row, dict) else {}


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    if path.suffix in _PACKED:
        stream = pa.input_stream(str(path), compression=_PACKED[path.suffix])
        return io.TextIOWrapper(stream, "utf-8-sig", "replace", "")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")
