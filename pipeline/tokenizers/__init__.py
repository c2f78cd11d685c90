"""Tokenizers by file: SentencePiece `.model`, Hugging Face `tokenizer.json`, tiktoken rank file; one interface.

Text goes in as it is, whole batches of it, and comes out as Arrow lists of token ids. What looks like a special token
in a text (`</s>`, `<|endoftext|>`) is text. Read in this order: `base` (the interface), `files` (which maker a file
needs), `sentencepiece`, `bpe` (byte-level BPE through tiktoken, and the rank files), `huggingface`, `translate` (when
tiktoken can run a tokenizer.json), `training` and `training_bytes`, `report`.
"""

from __future__ import annotations

from pipeline.tokenizers.base import Options, Tokenizer
from pipeline.tokenizers.files import open_file, open_folder, opened

__all__ = ["Options", "Tokenizer", "open_file", "open_folder", "opened"]
