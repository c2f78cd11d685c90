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
import xxhash

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
_GROUP_ROWS = 16_384


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """uint16 for vocabularies below 65,500 (Megatron-LM's rule), else int32; little-endian."""
    return np.dtype("<u2" if vocabulary < 65_500 else "<i4")


def shard_name(split: str, number: int, of: int, label: str | None = None) -> str:
    """The name of a shard without its ending, such as `train-00000-of-00032`; with the label of a group (see
    `group_labels`), such as `train-books-00000-of-00002`."""
    return f"{split}-{number:05d}-of-{of:05d}" if label is None else f"{split}-{label}-{number:05d}-of-{of:05d}"


def group_labels(groups: Iterable[str]) -> dict[str, str]:
    """What stands for each group in file and folder names: all but letters, digits, `.` and `-` as `_`, a first `.`
    too, at most 80 characters; a number is added where two would be the same to a file system that ignores case."""
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for group in groups:
        plain = re.sub(r"[^A-Za-z0-9.-]|^\.", "_", group)[:80]
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
        if meta.get("format_version") != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {meta.get('format_version')}; this corpusmill reads {FORMAT_VERSION}. "
                "Make it again with `corpusmill run`."
            )
        corpus = cls(folder, meta)
        try:
            corpus._check_sizes()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamageError(f"{path} is damaged: {error!r}; `corpusmill verify` says more") from error
        return corpus

    def _check_sizes(self) -> None:
        """Raises DamageError where a file is not of the size that `corpus.json` gives, another error where it gives
        none."""
        _ = self.dtype, self.vocabulary, self.special, self.boundary, self.layout
        for shard in (shard for split in self.splits for shard in self.shards(split)):
            for ending, facts in shard.files.items():
                file = shard.path(ending)
                size = file.stat().st_size if file.exists() else -1
                if size != facts["bytes"]:
                    found = "is missing" if size < 0 else f"holds {size} bytes"
                    raise DamageError(f"{file} {found}, corpus.json says {facts['bytes']} bytes")
            if shard.files[".bin"]["bytes"] != shard.tokens * self.dtype.itemsize:
                raise DamageError(f"{shard.path('.bin')}: its size is not its number of tokens × item size")

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

    def tokenizer_file(self) -> Path | None:
        """The tokenizer's file; None where `corpus.json` names none. Raises DamageError where it is not there."""
        name = str(self.meta["tokenizer"].get("file") or "")
        if name and not (self.folder / name).is_file():
            raise lacks_tokenizer(str(self.folder), name)
        return self.folder / name if name else None

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
        again = "The recipe run again into this folder writes it anew; of a copy, copy it again."
        try:
            data = path.read_bytes()
            found = json.loads(data)
        except (OSError, ValueError) as error:
            raise DamageError(f"{path} cannot be read: {error}. {again}") from error
        if hashlib.sha256(data).hexdigest() != self.meta.get("files", {}).get(MIXTURE_FILE):
            raise DamageError(f"{path}: its SHA-256 is not the one in corpus.json. {again}")
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
        but its metadata, which a trainer may leave out of the loss. `prompt_tokens`, where a source has a template: so
        many behind them are the prompt of a record.
        """
        return pq.read_table(shard.path(".docs.parquet"), columns=list(columns) if columns else None)

    def columns(self, shard: Shard) -> list[str]:
        """The columns of a shard's `.docs.parquet`."""
        return list(pq.read_schema(shard.path(".docs.parquet")).names)


def lacks_tokenizer(place: str, name: str) -> DamageError:
    """What is wrong with a corpus that was copied without its tokenizer."""
    return DamageError(f"{place} has no tokenizer file {name}, which its corpus.json names; copy it there")


class ShardWriter:
    """Writes the three files of one shard, a block of documents at a time.

    Files are written under their final names and synced: the caller passes a stem inside its own attempt's folder and
    renames. Equal documents give equal bytes however they are cut into blocks.
    """

    def __init__(self, stem: Path, dtype: np.dtype[Any], schema: pa.Schema) -> None:
        """`schema` is that of the rows without `token_start` and `token_end`, which are filled in here."""
        self.paths = {ending: stem.with_name(stem.name + ending) for ending in (".bin", ".idx", ".docs.parquet")}
        self.digests: dict[str, str] = {}
        """128-bit xxHash3 by ending, as the ledger has it; known when the writer is closed."""
        self.tokens = 0
        self._dtype = dtype
        self._schema = schema.append(pa.field("token_start", pa.int64())).append(pa.field("token_end", pa.int64()))
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._held: list[pa.Table] = []
        self._hashes = _Hashes()
        self._bin = self.paths[".bin"].open("wb")
        self._table = pq.ParquetWriter(
            self.paths[".docs.parquet"], self._schema, compression="zstd", use_dictionary=_repetitive(self._schema)
        )

    def append(self, tokens: npt.NDArray[Any], lengths: npt.NDArray[np.integer[Any]], rows: pa.Table) -> None:
        """Adds documents: their tokens one behind another, boundary tokens included, the length of each, its row."""
        sizes = np.asarray(lengths, np.int64)
        if len(tokens) != sizes.sum() or rows.num_rows != len(sizes):
            raise ValueError(f"{len(tokens)} tokens and {rows.num_rows} rows for documents of {sizes.sum()} tokens")
        data = np.ascontiguousarray(tokens, self._dtype).data
        self._bin.write(data)
        self._hashes.update(data)
        ends = self.tokens + np.cumsum(sizes)
        self.tokens += len(tokens)
        self._lengths.append(sizes)
        rows = rows.append_column("token_start", pa.array(ends - sizes)).append_column("token_end", pa.array(ends))
        self._held.append(rows.select(self._schema.names).cast(self._schema))
        self._flush(whole=False)

    def close(self) -> dict[str, Any]:
        """Ends the files and returns what `corpus.json` says of the shard (without its stem)."""
        self._flush(whole=True)
        self._table.close()
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        index = index_bytes(lengths, self._dtype)
        self.paths[".idx"].write_bytes(index)
        self._bin.close()
        hashes = {".bin": self._hashes, ".idx": _Hashes(), ".docs.parquet": _Hashes()}
        hashes[".idx"].update(index)
        with self.paths[".docs.parquet"].open("rb") as table:
            while data := table.read(4 << 20):
                hashes[".docs.parquet"].update(data)
        files = {}
        for ending, path in self.paths.items():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            files[ending] = {"bytes": path.stat().st_size, "sha256": hashes[ending].sha256.hexdigest()}
            self.digests[ending] = hashes[ending].xxh3.hexdigest()
        return {"documents": len(lengths), "tokens": self.tokens, "files": files}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bin.close()
        self._table.close()

    def _flush(self, *, whole: bool) -> None:
        """Writes whole row groups of the rows held, and at the end what is left."""
        if sum(table.num_rows for table in self._held) < _GROUP_ROWS and not whole:
            return
        table = pa.concat_tables(self._held or [self._schema.empty_table()])
        many = table.num_rows if whole else table.num_rows - table.num_rows % _GROUP_ROWS
        self._table.write_table(table.slice(0, many), row_group_size=_GROUP_ROWS)
        self._held = [table.slice(many)] if many < table.num_rows else []


class _Hashes:
    """What `corpus.json` and the ledger know a file by, taken while it is written: it is not read again."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.xxh3 = xxhash.xxh3_128()

    def update(self, data: Any) -> None:
        self.sha256.update(data)
        self.xxh3.update(data)


def _repetitive(schema: pa.Schema) -> list[str]:
    """The columns of texts that stand in many rows: the others cost time to look for values that were there before."""
    names = [field.name for field in schema if pa.types.is_string(field.type) and field.name != "url"]
    return [*names, *(["origin.file"] if "origin" in schema.names else [])]


def write_shard(
    stem: Path, documents: Iterable[tuple[npt.NDArray[Any], dict[str, Any]]], dtype: np.dtype[Any], schema: pa.Schema
) -> dict[str, Any]:
    """Writes the shard of a few documents, each with its tokens (boundary token included) and its row: what
    `corpus.json` says of it."""
    pairs = list(documents)
    with ShardWriter(stem, dtype, schema) as writer:
        tokens = np.concatenate([np.zeros(0, dtype), *(tokens for tokens, _ in pairs)])
        rows = pa.Table.from_pylist([row for _, row in pairs], schema)
        writer.append(tokens, np.array([len(tokens) for tokens, _ in pairs], np.int64), rows)
        return writer.close()
