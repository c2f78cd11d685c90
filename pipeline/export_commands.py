"""The command `export`: a corpus for other training stacks."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.app import command, console


class Format(StrEnum):
    """What other stacks read."""

    MEGATRON = "megatron"
    MDS = "mds"
    DATATROVE = "datatrove"
    HUGGINGFACE = "huggingface"
    JSONL = "jsonl"


@command("export", works=True)
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a corpus (with a corpus.json).")],
    to: Annotated[Format, typer.Option("--to", help="The format.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="OUT", help="The folder to write; a new one.")] = None,
    split: Annotated[str | None, typer.Option("--split", metavar="S", help="Only this split.")] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option("--sequence-length", metavar="N", min=2, help="With mds: samples of N tokens, for llm-foundry."),
    ] = None,
) -> None:
    """Write a corpus in another stack's format, or say how it reads the shards as they are.

    megatron: prints the data arguments of Megatron-LM and NeMo, with a weight by tokens for each shard; writes nothing.
    mds: shards for MosaicML Streaming. datatrove: .ds files with their index. huggingface: token lists in Parquet, for
    load_dataset. jsonl: the texts, decoded from the tokens. Each split has a folder of its own, OUT/SPLIT; shards by
    source have one for each group, OUT/GROUP/SPLIT, which the other stack then weighs.

    Example: corpusmill export runs/demo --to mds --out exports/demo-mds
    Example: corpusmill export runs/demo --to megatron --split train
    """
    from pipeline.corpora.folder import corpus_of, finished
    from pipeline.errors import RecipeError
    from pipeline.export import datatrove, exporting, huggingface, jsonl, mds, megatron

    corpus = corpus_of(finished(folder))
    if sequence_length and to is not Format.MDS:
        raise RecipeError("--sequence-length goes with --to mds; the other formats hold documents")
    if to is Format.MEGATRON:
        if out:
            raise RecipeError("--to megatron writes nothing, since Megatron-LM reads the shards; leave out --out")
        for line in megatron.arguments(corpus, split):
            print(line)
        return
    if out is None:
        raise RecipeError(f"--to {to.value} needs --out, a new folder")
    writers = {
        Format.MDS: partial(mds.write_sequences, length=sequence_length) if sequence_length else mds.write,
        Format.DATATROVE: datatrove.write,
        Format.HUGGINGFACE: huggingface.write,
        Format.JSONL: jsonl.write,
    }
    parts = exporting.export(corpus, out, split, writers[to], huggingface.card if to is Format.HUGGINGFACE else None)
    screen, left = console(), 0
    for part in parts:
        documents, tokens = (sum(getattr(shard, name) for shard in part.shards) for name in ("documents", "tokens"))
        screen.print(f"made: {out / part.folder}: {documents:,} documents, {tokens:,} tokens", highlight=False)
        left += tokens % (sequence_length or 1)
    if sequence_length:
        screen.print(f"{left:,} tokens at the ends make no whole sample and are left out", highlight=False)
