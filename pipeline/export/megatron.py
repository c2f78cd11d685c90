"""The arguments with which Megatron-LM and NeMo read the shards where they are: nothing is copied."""

from __future__ import annotations

import shlex

from pipeline.export.exporting import parts
from pipeline.shards import Corpus

OPTIONS = {"train": "--train-data-path", "validation": "--valid-data-path", "test": "--test-data-path"}


def arguments(corpus: Corpus, split: str | None) -> list[str]:
    """A line for each split that Megatron-LM knows: its option, then weight and stem of each shard.

    A weight is the shard's tokens: with equal ones a small last shard would be read more often. In layout `by_source`
    it is the share of the shard's group in `mixture.json` times the shard's part of its group. With one `split` the
    option is `--data-path`.
    """
    weighed: dict[str, list[str]] = {}
    groups = corpus.mixture()["groups"] if corpus.layout == "by_source" else {}
    for part in parts(corpus, split):
        tokens = sum(shard.tokens for shard in part.shards)
        # shares are those of training; another split is read as it is
        share = groups[part.group]["share"] if groups and part.split == "train" else None
        for shard in part.shards:
            weight = str(shard.tokens) if share is None else f"{share * shard.tokens / tokens:.6g}"
            if float(weight):
                weighed.setdefault(part.split, []).append(f"{weight} {shlex.quote(str(shard.stem.resolve()))}")
    if split or list(weighed) == ["train"]:
        return [f"--data-path {' '.join(shards)}" for shards in weighed.values()]
    return [f"{OPTIONS[name]} {' '.join(shards)}" for name, shards in weighed.items() if name in OPTIONS]
