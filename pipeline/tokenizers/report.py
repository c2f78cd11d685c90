"""What a tokenizer makes of a sample of texts: how many characters a token holds, by language and source, and which
tokens of the vocabulary are of no use.

A token that training text never shows is trained by nothing and does odd things when somebody writes it (Land and
Bartolo 2024, "Fishing for Magikarp"): such candidates are listed, those that no text at all can give apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tokenizers.base import Tokenizer
from stages.quality.fields import FIELDS
from stages.quality.statistics import counted

SHOWN = 30
"""Tokens that a list shows at most."""
RARE = 2
"""Uses in the sample up to which a token is almost never used."""
_BATCH = 256
SUMS = ("documents", "characters", "bytes", "words", "tokens", "unknown", "byte_tokens", "not_reversible")


def report(tokenizer: Tokenizer, texts: pa.Table) -> dict[str, Any]:
    """Figures over these texts (columns `source`, `language` and `text`), as JSON can hold them.

    Of the whole, each source and each language: `SUMS`, where `words` is None in scripts that put no spaces between
    them. `byte_tokens` are single bytes of characters that have no token. Texts are encoded a few at a time.
    """
    uses = np.zeros(tokenizer.vocabulary, np.int64)
    tables = []
    for batch in texts.to_batches(max_chunksize=_BATCH):
        tables.append(_figures(tokenizer, batch, uses))
    table = pa.concat_tables(tables) if tables else _empty()
    special = np.zeros(tokenizer.vocabulary, bool)
    special[list(tokenizer.special.values())] = True
    return {
        "kind": tokenizer.kind,
        "engine": tokenizer.engine,
        "vocabulary": tokenizer.vocabulary,
        "sample": _sums(table, None).get("", dict.fromkeys(SUMS, 0)),
        "sources": _sums(table, "source"),
        "languages": _sums(table, "language"),
        "tokens": _tokens(tokenizer, uses, special),
    }


def _empty() -> pa.Table:
    columns = {name: pa.int64() for name in (*SUMS, "spaced")}
    return pa.schema([("source", pa.string()), ("language", pa.string()), *columns.items()]).empty_table()


def _figures(tokenizer: Tokenizer, batch: pa.RecordBatch, uses: npt.NDArray[np.int64]) -> pa.Table:
    """A row of figures for each text; adds to `uses` how often each token is used."""
    text = batch.column("text").cast(pa.string())
    tokens = tokenizer.encode(text)
    flat = tokens.values.to_numpy(zero_copy_only=False).astype(np.int64)
    uses += np.bincount(flat, minlength=len(uses))
    ends = tokens.offsets.to_numpy()
    marked = {"byte_tokens": tokenizer.byte_tokens[flat], "unknown": flat == tokenizer.special.get("unk", -1)}
    sums = {name: np.append(0, np.cumsum(of)) for name, of in marked.items()}
    _, counts = counted(pa.RecordBatch.from_arrays([text], names=["text"]))
    return pa.table(
        {
            "source": batch.column("source").fill_null("unknown"),
            "language": batch.column("language").fill_null("unknown"),
            "documents": np.ones(batch.num_rows, np.int64),
            "characters": pc.utf8_length(text).cast(pa.int64()),
            "bytes": pc.binary_length(text).cast(pa.int64()),
            "words": counts[FIELDS.index("words")],
            "tokens": np.diff(ends).astype(np.int64),
            **{name: of[ends[1:]] - of[ends[:-1]] for name, of in sums.items()},
            "not_reversible": (~tokenizer.comes_back(text, tokens)).astype(np.int64),
            "spaced": counts[FIELDS.index("spaced_words")],
        }
    )


def _sums(table: pa.Table, by: str | None) -> dict[str, dict[str, Any]]:
    """The sums of each value of a column, or of everything under the empty name; most tokens first."""
    keys = table.column(by) if by else pa.array([""] * table.num_rows, pa.string())
    summed = (
        table.append_column("group", keys)
        .group_by("group")
        .aggregate([(name, "sum") for name in (*SUMS, "spaced")])
        .to_pylist()
    )
    found = {}
    for row in sorted(summed, key=lambda row: (-row["tokens_sum"], row["group"])):
        figures = {name: row[f"{name}_sum"] for name in SUMS}
        if 2 * row["spaced_sum"] < figures["words"]:
            figures["words"] = None
        found[row["group"]] = figures
    return found


def _tokens(tokenizer: Tokenizer, uses: npt.NDArray[np.int64], special: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The vocabulary: what is used, what is long, what is of no use."""
    ordinary = ~special
    several = ordinary & ~tokenizer.byte_tokens  # of single bytes nobody asks that they be used
    found: dict[str, Any] = {
        "used": int(np.count_nonzero(uses[ordinary])),
        "special": int(np.count_nonzero(special)),
    }
    pieces = tokenizer.pieces
    names = [tokenizer.piece(token) for token in range(tokenizer.vocabulary)]
    sizes = pieces.lengths() if pieces is not None else np.array([len(name) for name in names])
    by_length = np.lexsort((np.arange(len(sizes)), -sizes))

    def some(which: npt.NDArray[np.bool_]) -> dict[str, Any]:
        rows = by_length[which[by_length]]
        shown = [{"token": int(row), "text": names[row], "uses": int(uses[row])} for row in rows[:SHOWN]]
        return {"count": len(rows), "longest": shown}

    found["longest"] = some(ordinary & (uses > 0))["longest"]
    found["never"] = some(several & (uses == 0))
    found["rare"] = some(several & (uses > 0) & (uses <= RARE))
    found["unreachable"] = found["not_utf8"] = None
    if pieces is not None:
        whole = np.array([_utf8(pieces[token]) for token in range(len(pieces))], bool)
        found["not_utf8"] = some(ordinary & ~whole & (sizes > 1))
        rows = np.flatnonzero(several & whole & (sizes > 0))
        again = tokenizer.encode(pa.array([pieces[row].decode() for row in rows.tolist()], pa.string()))
        lengths = np.diff(again.offsets.to_numpy())
        firsts = np.full(len(rows), -1, np.int64)
        firsts[lengths == 1] = again.values.to_numpy(zero_copy_only=False)[again.offsets.to_numpy()[:-1][lengths == 1]]
        lost = np.zeros(len(names), bool)
        lost[rows[firsts != rows]] = True
        found["unreachable"] = some(lost)
    return found


def _utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
