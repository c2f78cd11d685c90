"""Corpora in the formats of other training stacks: `corpusmill export DIR --to FORMAT --out OUT`.

Read `exporting` first: what an export is made of, and how it gets its folder. Each format is a module of its own: `mds`
(MosaicML Streaming), `datatrove`, `huggingface` (token lists in Parquet), `jsonl` (texts). `megatron` writes nothing:
Megatron-LM reads the shards as they stand, and is told where they are.
"""
