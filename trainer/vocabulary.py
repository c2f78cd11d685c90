"""What the trainer must know of single tokens: their bytes, the names of special ones, and ids that a tokenizer lacks.

Shards are read without a tokenizer's library; only objectives that ask for words, sentences or special tokens by name
open the corpus's tokenizer file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import DamageError
from pipeline.shards import Corpus

USUAL: Mapping[str, tuple[str, ...]] = {
    "mask": ("[MASK]", "<mask>", "<|mask|>", "<MASK>"),
    "fim_prefix": ("<fim_prefix>", "<|fim_prefix|>", "<fim-prefix>", "<PRE>", "▁<PRE>", "<｜fim▁begin｜>"),
    "fim_suffix": ("<fim_suffix>", "<|fim_suffix|>", "<fim-suffix>", "<SUF>", "▁<SUF>", "<｜fim▁hole｜>"),
    "fim_middle": ("<fim_middle>", "<|fim_middle|>", "<fim-middle>", "<MID>", "▁<MID>", "<｜fim▁end｜>"),
}
"""The names that tokens of a role have in tokenizers that are in use. Sentinel n is `<extra_id_n>` (T5)."""

SENTINEL, SENTINELS = "sentinel_", 100
"""What the names of sentinels' roles begin with, and how many T5 adds to a tokenizer."""

THEIRS = {"tokenizer.json": "huggingface", "spiece.model": "sentencepiece", "tokenizer.model": "sentencepiece"}
"""Tokenizer files of Hugging Face's folders, by their kind."""


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer file says of its tokens."""

    bytes_by_id: dict[int, bytes] = field(default_factory=dict)
    """The text of each ordinary token, with a space in front where the piece begins a word behind one; it may begin or
    end inside a character."""
    special: dict[str, int] = field(default_factory=dict)
    """Special tokens by name."""


def tokens_of(corpus: Corpus) -> Tokens:
    """What the corpus's tokenizer file says; nothing where the corpus was copied without one.

    Raises DamageError where the file cannot be read.
    """
    facts = corpus.meta["tokenizer"]
    path = corpus.folder / str(facts.get("file") or "")
    if not path.is_file():
        return Tokens()
    try:
        data = path.read_bytes()
        return _READERS[str(facts.get("kind", "sentencepiece"))](data, facts.get("options") or {})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DamageError(f"{path} is no tokenizer that can be read: {error!r}") from error


def tokens_beside(folder: Path) -> tuple[str, Tokens]:
    """(name of the file, what it says) of the tokenizer in a Hugging Face model's folder; nothing where there is none
    that can be read."""
    for name, kind in THEIRS.items():
        if (folder / name).is_file():
            try:
                return name, _READERS[kind]((folder / name).read_bytes(), {})
            except (OSError, ValueError, KeyError, TypeError, RuntimeError):
                continue
    return "", Tokens()


def ids_of(corpus: Corpus, roles: Iterable[str], special: Mapping[str, int]) -> dict[str, int]:
    """The token id of each role: the tokenizer's own special token of a usual name, else one above the corpus's
    vocabulary, in the order of the roles. The first 100 sentinels have 100 ids together, the first of them the last, as
    T5 has them above its tokenizer's."""
    found: dict[str, int] = {}
    extra, last_sentinel = corpus.vocabulary, None
    for role in roles:
        _, _, number = role.partition(SENTINEL)
        names = (f"<extra_id_{number}>",) if number else USUAL[role]
        own = next((special[name] for name in names if name in special), None)
        if own is not None:
            found[role] = own
        elif number and int(number) < SENTINELS:
            if last_sentinel is None:
                extra += SENTINELS
                last_sentinel = extra - 1
            found[role] = last_sentinel - int(number)
        else:
            found[role] = extra
            extra += 1
    return found


def _sentencepiece(data: bytes, options: Mapping[str, Any]) -> Tokens:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    texts, special = {}, {}
    for token in range(model.get_piece_size()):
        piece = model.id_to_piece(token)
        if model.is_control(token) or model.is_unknown(token) or model.is_unused(token) or _named(piece):
            special[piece] = token
        else:
            texts[token] = bytes([int(piece[3:5], 16)]) if model.is_byte(token) else piece.replace("▁", " ").encode()
    return Tokens(texts, special)


def _named(piece: str) -> bool:
    """Whether a user-defined piece has the name of a role."""
    return piece.startswith("<extra_id_") or any(piece in names for names in USUAL.values())


def _huggingface(data: bytes, options: Mapping[str, Any]) -> Tokens:
    found = json.loads(data)
    model = found["model"]
    listed = model["vocab"]
    vocabulary = listed if isinstance(listed, dict) else {piece: token for token, (piece, _) in enumerate(listed)}
    special = {one["content"]: int(one["id"]) for one in found.get("added_tokens", []) if one["special"]}
    if model.get("unk_token") in vocabulary:
        special[model["unk_token"]] = vocabulary[model["unk_token"]]
    if "ByteLevel" in json.dumps([found.get("pre_tokenizer"), found.get("decoder")]):
        text = _byte_level
    elif model.get("type") == "WordPiece":
        mark = str(model.get("continuing_subword_prefix", "##"))
        text = lambda piece: (piece.removeprefix(mark) if piece.startswith(mark) else f" {piece}").encode()  # noqa: E731
    else:
        text = _plain
    texts = {int(token): text(piece) for piece, token in vocabulary.items()}
    texts |= {int(one["id"]): one["content"].encode() for one in found.get("added_tokens", [])}
    return Tokens({token: text for token, text in texts.items() if token not in special.values()}, special)


def _plain(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _SHOWN]
_BYTES = {chr(byte): byte for byte in _SHOWN} | {chr(256 + number): byte for number, byte in enumerate(_HIDDEN)}
"""The characters that stand for bytes in GPT-2's vocabulary (its `bytes_to_unicode`)."""


def _byte_level(piece: str) -> bytes:
    return bytes(_BYTES[char] for char in piece) if all(char in _BYTES for char in piece) else piece.encode()


def _tiktoken(data: bytes, options: Mapping[str, Any]) -> Tokens:
    lines = (line.split() for line in data.splitlines() if line.strip())
    return Tokens({int(rank): base64.b64decode(piece) for piece, rank in lines}, dict(options.get("special") or {}))


_READERS = {"sentencepiece": _sentencepiece, "huggingface": _huggingface, "tiktoken": _tiktoken}
