"""The shard format: plain little-endian tokens, a Megatron index, a table of documents, one `corpus.json`.

This module is all that the trainer knows of the pipeline; it imports neither Beam nor any stage. A corpus
is a folder with a `corpus.json`; paths in it are relative to that folder.

    shards/train-00000-of-00002.bin           uint16 or int32 tokens, no header
    shards/train-00000-of-00002.idx           Megatron `MMIDIDX` version 1, one sequence a document
    shards/train-00000-of-00002.docs.parquet  one row a document, in shard order

In layout `mixed` the mixture is in the files. In layout `by_source` every document stands once, each group of the
mixture has shards of its own (`train-books-00000-of-00002`, the `group` of their entries in `corpus.json`), those of
one group together and in order, and `mixture.json` says how to weigh them:

    {"format": "corpusmill-mixture", "format_version": 1, "by": ["source"], "tokens": budget or null,
     "groups": {NAME: {"share": 0.7, "tokens": of all its documents once, "max_epochs": 4.0,
                       "tokens_asked": share of the budget, "epochs": tokens_asked / tokens}}}
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DamageError, UserError

FORMAT = "corpusmill-corpus"
FORMAT_VERSION = 1
MIXTURE_FORMAT = "corpusmill-mixture"
MIXTURE_FORMAT_VERSION = 1
MIXTURE_FILE = "mixture.json"
BOUNDARIES = ("eot-last", "bos-first")

_MAGIC = b"MMIDIDX\x00\x00"
_DTYPE_CODES = {"uint16": 8, "int32": 4}  # the codes of Megatron-LM's indexed_dataset.DType
_HEADER = struct.Struct("<9sQBQQ")


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """uint16 for vocabularies below 65,500 (Megatron-LM's rule), else int32; little-endian."""
    return np.dtype("<u2" if vocabulary < 65_500 else "<i4")


def shard_name(split: str, number: int, of: int, label: str | None = None) -> str:
    """The name of a shard without its ending, such as `train-00000-of-00032`; with the label of a group (see
    `group_labels`), such as `train-books-00000-of-00002`."""
    return f"{split}-{number:05d}-of-{of:05d}" if label is None else f"{split}-{label}-{number:05d}-of-{of:05d}"


def group_labels(groups: Iterable[str]) -> dict[str, str]:
    """What stands for each group in file names: all but letters, digits, `.` and `-` as `_`, at most 80 characters; a
    number is added where two would be the same to a file system that ignores case."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for group in groups:
        plain = re.sub(r"[^A-Za-z0-9.-]", "_", group)[:80]
        label, number = plain, 1
        while label.lower() in taken:
            number += 1
            label = f"{plain}_{number}"
        taken.add(label.lower())
        labels[group] = label
    return labels


def index_bytes(lengths: npt.NDArray[np.integer[Any]], dtype: np.dtype[Any]) -> bytes:
    """The `MMIDIDX` index of documents of these lengths (tokens), one sequence a document."""
    lengths = np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths) * dtype.itemsize
    pointers = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(lengths) else np.zeros(0, np.int64)
    header = _HEADER.pack(_MAGIC, 1, _DTYPE_CODES[dtype.name], len(lengths), len(lengths) + 1)
    documents = np.arange(len(lengths) + 1, dtype="<i8")
    return header + lengths.astype("<i4").tobytes() + pointers.astype("<i8").tobytes() + documents.tobytes()


def read_index(path: Path) -> tuple[np.dtype[Any], npt.NDArray[np.int32]]:
    """The token type and the document lengths (tokens) that an index holds.

    Raises DamageError where the file is no index or contradicts itself.
    """
    data = path.read_bytes()
    if len(data) < _HEADER.size:
        raise DamageError(f"{path} is cut short: {len(data)} bytes are no index header")
    magic, version, code, sequences, documents = _HEADER.unpack_from(data)
    names = {number: name for name, number in _DTYPE_CODES.items()}
    if magic != _MAGIC or version != 1 or code not in names:
        raise DamageError(f"{path} is no MMIDIDX index of version 1 over uint16 or int32 tokens")
    dtype = np.dtype(names[code]).newbyteorder("<")
    expected = _HEADER.size + 12 * sequences + 8 * documents
    if len(data) != expected or documents != sequences + 1:
        raise DamageError(f"{path} holds {len(data)} bytes, its header promises {expected}")
    lengths = np.frombuffer(data, "<i4", sequences, _HEADER.size)
    if index_bytes(lengths, dtype) != data:
        raise DamageError(f"{path}: the pointers do not follow from the lengths")
    return dtype, lengths


def corpus_bytes(meta: dict[str, Any]) -> bytes:
    """What `corpus.json` holds: the description, and `check`, a digest of all of it, by which damage in the file itself
    is found."""
    plain = {name: value for name, value in meta.items() if name != "check"}
    text = json.dumps(plain, indent=1, ensure_ascii=False)
    whole = plain | {"check": hashlib.sha256(text.encode()).hexdigest()}
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Shard:
    """One shard on disk: paths without ending, and what `corpus.json` says of it."""

    stem: Path
    split: str
    documents: int
    tokens: int
    files: dict[str, dict[str, Any]]
    """Ending (`.bin`, `.idx`, `.docs.parquet`) to `{"bytes": size, "sha256": digest}`."""
    group: str | None = None
    """In layout `by_source` the group of the mixture that its documents are of, such as their source."""

    @property
    def name(self) -> str:
        """Such as `train-00000-of-00001`."""
        return self.stem.name

    @property
    def digest(self) -> str:
        """The SHA-256 of the token file."""
        return str(self.files[".bin"]["sha256"])

    def path(self, ending: str) -> Path:
        """The path of one of its files."""
        return self.stem.with_name(self.stem.name + ending)


@dataclass(frozen=True)
class Corpus:
    """An opened corpus: what `corpus.json` says, and access to tokens and documents of its shards."""

    folder: Path
    meta: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """The corpus in `folder`. Every file's size is checked against `corpus.json`, digests are not."""
        folder = Path(folder)
        path = folder / "corpus.json"
        if not path.exists():
            raise UserError(
                f"{folder} holds no corpus.json, so it is no finished corpus. "
                "`corpusmill run` writes it when the shards are complete."
            )
        try:
            meta = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise DamageError(f"{path} is not readable JSON: {error}") from error
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise DamageError(f"{path} does not describe a corpusmill corpus")
        if meta["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {meta['format_version']}; this corpusmill reads {FORMAT_VERSION}. "
                "Make it again with `corpusmill run`."
            )
        corpus = cls(folder, meta)
        for split in corpus.splits:
            for shard in corpus.shards(split):
                for ending, facts in shard.files.items():
                    file = shard.path(ending)
                    size = file.stat().st_size if file.exists() else -1
                    if size != facts["bytes"]:
                        found = "is missing" if size < 0 else f"holds {size} bytes"
                        raise DamageError(f"{file} {found}, corpus.json says {facts['bytes']} bytes")
                if shard.files[".bin"]["bytes"] != shard.tokens * corpus.dtype.itemsize:
                    raise DamageError(f"{shard.path('.bin')}: its size is not its number of tokens × item size")
        return corpus

    @property
    def dtype(self) -> np.dtype[Any]:
        """The little-endian type of a token."""
        dtype: np.dtype[Any] = np.dtype(self.meta["dtype"]).newbyteorder("<")
        return dtype

    @property
    def vocabulary(self) -> int:
        """Number of token ids; every token is below it."""
        return int(self.meta["vocabulary"])

    @property
    def special(self) -> dict[str, int]:
        """Token ids by role: `eot`, `bos`, `pad`, `unk`; a role that the tokenizer lacks is absent."""
        return dict(self.meta["tokenizer"]["special"])

    @property
    def boundary(self) -> str:
        """`eot-last`: a document ends with `eot`; `bos-first`: it begins with `bos`."""
        return str(self.meta["boundary"])

    @property
    def layout(self) -> str:
        """`mixed` or `by_source`."""
        return str(self.meta["layout"])

    def mixture(self) -> dict[str, Any]:
        """What `mixture.json` of a corpus of layout `by_source` says.

        Raises DamageError where it is missing, unreadable or not the one that `corpus.json` names.
        """
        path = self.folder / MIXTURE_FILE
        try:
            data = path.read_bytes()
            found = json.loads(data)
        except (OSError, ValueError) as error:
            raise DamageError(f"{path} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != self.meta["files"][MIXTURE_FILE]:
            raise DamageError(f"{path}: its SHA-256 is not the one in corpus.json")
        if (found["format"], found["format_version"]) != (MIXTURE_FORMAT, MIXTURE_FORMAT_VERSION):
            raise UserError(f"{path} is no {MIXTURE_FORMAT} of version {MIXTURE_FORMAT_VERSION}")
        return dict(found)

    @property
    def splits(self) -> list[str]:
        """Names of the splits, such as `train` and `validation`."""
        return list(self.meta["splits"])

    def shards(self, split: str) -> list[Shard]:
        """The shards of a split, in order."""
        if split not in self.meta["splits"]:
            raise UserError(f"{self.folder} has no split '{split}'; it has {', '.join(self.splits)}")
        return [
            Shard(
                self.folder / facts["stem"],
                split,
                facts["documents"],
                facts["tokens"],
                facts["files"],
                facts.get("group"),
            )
            for facts in self.meta["splits"][split]["shards"]
        ]

    def shard(self, name: str) -> Shard:
        """The shard of this name, such as `train-00000-of-00001` (an ending is ignored)."""
        wanted = Path(name).name.removesuffix(".bin").removesuffix(".idx").removesuffix(".docs.parquet")
        known = {shard.name: shard for split in self.splits for shard in self.shards(split)}
        if wanted not in known:
            raise UserError(f"{self.folder} has no shard '{wanted}'. It has: {', '.join(known)}")
        return known[wanted]

    def tokens(self, shard: Shard) -> npt.NDArray[Any]:
        """All tokens of a shard (tokens,), memory-mapped and read-only."""
        if shard.tokens == 0:
            return np.zeros(0, self.dtype)
        return np.memmap(shard.path(".bin"), self.dtype, "r")

    def lengths(self, shard: Shard) -> npt.NDArray[np.int32]:
        """The length in tokens of each document of a shard (documents,), boundary token included."""
        _, lengths = read_index(shard.path(".idx"))
        return lengths

    def documents(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        """The documents of a shard in order: id, copy, source, url, origin, language, token_start, token_end ...

        `prefix_tokens`: so many of them (behind the boundary token where that comes first) are no text of the document
        but its metadata, which a trainer may leave out of the loss.
        """
        return pq.read_table(shard.path(".docs.parquet"), columns=list(columns) if columns else None)

    def columns(self, shard: Shard) -> list[str]:
        """The columns of a shard's `.docs.parquet`."""
        return list(pq.read_schema(shard.path(".docs.parquet")).names)


def write_shard(
    stem: Path, documents: Iterable[tuple[npt.NDArray[Any], dict[str, Any]]], dtype: np.dtype[Any], schema: pa.Schema
) -> dict[str, Any]:
    """Writes the three files of one shard and returns what `corpus.json` says of it (without its stem).

    `documents` yields each document's tokens (boundary token included) and its row for `.docs.parquet`,
    whose `token_start` and `token_end` are filled in here. Files are written under their final names and
    synced: the caller passes a stem inside its own attempt's folder and renames.
    """
    lengths: list[int] = []
    rows: list[dict[str, Any]] = []
    position = 0
    paths = {ending: stem.with_name(stem.name + ending) for ending in (".bin", ".idx", ".docs.parquet")}
    schema = schema.append(pa.field("token_start", pa.int64())).append(pa.field("token_end", pa.int64()))
    with (
        paths[".bin"].open("wb") as bin_file,
        pq.ParquetWriter(paths[".docs.parquet"], schema, compression="zstd") as table,
    ):
        for tokens, row in documents:
            bin_file.write(np.ascontiguousarray(tokens, dtype).tobytes())
            rows.append(row | {"token_start": position, "token_end": position + len(tokens)})
            position += len(tokens)
            lengths.append(len(tokens))
            if len(rows) >= 16_384:
                table.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        if rows or not lengths:
            table.write_table(pa.Table.from_pylist(rows, schema))
        bin_file.flush()
        os.fsync(bin_file.fileno())
    with paths[".idx"].open("wb") as index_file:
        index_file.write(index_bytes(np.array(lengths, np.int64), dtype))
        index_file.flush()
        os.fsync(index_file.fileno())
    files = {ending: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for ending, path in paths.items()}
    return {"documents": len(lengths), "tokens": position, "files": files}
