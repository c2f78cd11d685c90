"""Texts again, a JSON object a line: `text`, `id`, `source`, `url`; decoded from the tokens, as models see them."""

from __future__ import annotations

import json
from pathlib import Path

import zstandard

from pipeline.corpora.folder import tokenizer_of
from pipeline.export.exporting import Part, blocks
from pipeline.shards import Corpus


def write(corpus: Corpus, part: Part, folder: Path) -> None:
    """Writes each shard of a part as one `.jsonl.zst`. A metadata prefix is no text, and left out."""
    tokenizer = tokenizer_of(corpus)
    head = int(corpus.boundary == "bos-first")
    for shard in part.shards:
        wanted = ("id", "source", "url", "prefix_tokens")
        columns = [name for name in wanted if name in corpus.columns(shard)]
        with zstandard.open(folder / f"{shard.name}.jsonl.zst", "wt", encoding="utf-8") as file:
            for block in blocks(corpus, shard, columns):
                ends = block.ends.tolist()
                for number, row in enumerate(block.rows.to_pylist()):
                    tokens = block.tokens[ends[number] : ends[number + 1]]
                    text = tokenizer.decode(tokens[head + row.get("prefix_tokens", 0) :])
                    line = {"text": text, "id": row["id"].hex(), "source": row["source"], "url": row["url"]}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
