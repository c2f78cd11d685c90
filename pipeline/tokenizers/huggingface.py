"""Hugging Face's tokenizer.json: run by `tokenizers`, or by tiktoken where that gives the same ids.

Its post-processor (which adds special tokens), truncation and padding are left out: a shard holds all of a text and
nothing else. Special tokens in a text are text.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.tokenizers import translate
from pipeline.tokenizers.base import Ids, Options, Tokenizer, by_role, size_of_vocabulary
from pipeline.tokenizers.bpe import choose, spliced
from pipeline.tokenizers.pieces import Pieces

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a run's processes are its parallelism, and its threads survive no fork
import tokenizers

_BATCH = 64
"""Texts that are encoded at once: the library keeps some hundred bytes a token until they are."""


class HuggingFace(Tokenizer):
    """A tokenizer.json."""

    kind = "huggingface"
    file_name = "tokenizer.json"

    def __init__(
        self,
        data: bytes,
        name: str = "the tokenizer",
        options: Options | None = None,
        engine: dict[str, Any] | None = None,
    ) -> None:
        """`engine` is what an earlier `choose_engine` found. Raises UserError where the file is damaged, or has no
        end-of-text token."""
        self.options = options or Options()
        try:
            self._json: dict[str, Any] = dict.fromkeys(_MAY_LACK) | _parsed(data, name)
            self._added: dict[str, int] = {one["content"]: int(one["id"]) for one in self._json["added_tokens"]}
            special = {one["content"] for one in self._json["added_tokens"] if one["special"]}
            roles = by_role(name, self._known_special(special), self.options.roles)
            for one in self._json["added_tokens"]:
                one["special"] = one["special"] or one["id"] in roles.values()  # no text may turn into it
            made = self._json | {"truncation": None, "padding": None, "post_processor": None}
            self._library = tokenizers.Tokenizer.from_str(json.dumps(made))
        except UserError:
            raise
        except Exception as error:  # of whatever kind: the library raises Exception itself
            raise UserError(f"{name} is no tokenizer.json that can be read, or is cut short ({error})") from error
        self._library.encode_special_tokens = True
        self.special = roles
        self._special = {one["id"] for one in self._json["added_tokens"] if one["special"]}
        self.vocabulary = size_of_vocabulary(name, max(self._library.get_vocab(with_added_tokens=True).values()))
        self._fast: translate.Fast | None = None
        self.engine = engine or {"name": "tokenizers", "why": "not compared with tiktoken yet"}
        if self.engine["name"] in ("compiled", "tiktoken"):
            self._fast = translate.fast(self._json)
        if self._fast is not None and self.engine["name"] == "compiled":
            self._fast.encoder.compile()

    def _known_special(self, special: set[str]) -> dict[str, int]:
        """The tokens that may have a role: the special ones, others that the user names, and the model's `unk`."""
        named = set(self.options.roles.values())
        known = {content: number for content, number in self._added.items() if content in special | named}
        model = self._json["model"]
        vocabulary = model.get("vocab")
        unknown = model.get("unk_token")
        if model.get("type") == "Unigram" and model.get("unk_id") is not None:
            known["<unk>"] = int(model["unk_id"])
        elif unknown is not None and isinstance(vocabulary, dict) and unknown in vocabulary:
            known["<unk>"] = known[unknown] = int(vocabulary[unknown])
        return known

    def choose_engine(self, texts: Sequence[str]) -> dict[str, Any]:
        """Goes over to tiktoken where it gives the ids of `tokenizers` for all these texts, and from there to the
        compiled encoder; returns the choice, to be noted, so that the next one to open the file need not compare."""
        try:
            fast = translate.fast(self._json, self._library)
            translate.check_classes(fast.pattern)
            translate.compare(fast, self._library, texts)
        except translate.NotExpressibleError as reason:
            self._fast, self.engine = None, {"name": "tokenizers", "why": str(reason)}
            return self.engine
        self._fast, self.engine = fast, choose(fast.encoder, texts)
        return self.engine

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over model, normaliser, pre-tokenizer, decoder and added tokens, and the roles of special tokens."""
        kept = {name: value for name, value in self._json.items() if name in _DECIDES}
        kept["roles"] = self.special
        text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def piece(self, token: int) -> str:
        """Its text where tokens are bytes, else as the file writes it."""
        written: str | None = self._library.id_to_token(token)
        if self.pieces is None or written is None or token in self._special:
            return written if written is not None else ""
        return self.pieces[token].decode(errors="backslashreplace")

    @functools.cached_property
    def byte_tokens(self) -> npt.NDArray[np.bool_]:
        """(vocabulary,) which tokens are single bytes, for text that has no piece (`byte_fallback`)."""
        if not self._json["model"].get("byte_fallback"):
            return super().byte_tokens
        known = self._library.get_vocab(with_added_tokens=False)
        found = np.zeros(self.vocabulary, bool)
        found[[known[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in known]] = True
        return found

    @functools.cached_property
    def pieces(self) -> Pieces | None:
        """The bytes of the tokens of a byte-level model."""
        if (self._json["decoder"] or {}).get("type") != "ByteLevel":
            return None
        try:
            vocabulary = translate.spelt(self._library.get_vocab(with_added_tokens=False), self._added)
        except translate.NotExpressibleError:
            return None
        found = [b""] * self.vocabulary
        for piece, token in vocabulary.items():
            found[token] = piece
        for content, token in self._added.items():
            found[token] = b"" if token in self._special else content.encode()
        return Pieces(found)

    def _encode(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        if self._fast is None:
            return _joined(self._slowly(texts.to_pylist()))
        others = self._fast.others(texts)
        beyond: list[int] = []
        flat, lengths = self._fast.encoder.encode(texts, beyond)
        others[beyond] = True
        places = np.flatnonzero(others)
        if not len(places):
            return flat, lengths
        some = _joined(self._slowly(texts.take(pa.array(places)).to_pylist()))  # which only the original gets right
        return spliced(flat, lengths, places.tolist(), *some)

    def _slowly(self, texts: list[str]) -> list[Ids]:
        """The tokens of each text, from the library that the file is of."""
        found: list[Ids] = []
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            encoded = self._library.encode_batch_fast(batch, add_special_tokens=False)
            found += [np.array(one.ids, np.uint32) for one in encoded]
        barred = np.array(sorted(self._special - {self.special.get("unk", -1)}), np.uint32)
        for row in range(len(found)):
            if np.isin(found[row], barred).any():  # a model that has its special tokens among its pieces
                found[row] = self._apart(texts[row], barred)
        return found

    def _apart(self, text: str, barred: Ids) -> Ids:
        """The tokens of a text with the name of a special token in it, cut behind the name's first character."""
        names = [name for name, token in self._added.items() if token in barred]
        parts = [text]
        for name in names:
            parts = [piece for part in parts for piece in _cut(part, name)]
        encoded = self._library.encode_batch_fast(parts, add_special_tokens=False)
        tokens = np.concatenate([np.array(one.ids, np.uint32) for one in encoded])
        return tokens[~np.isin(tokens, barred)]

    def _decode(self, rows: Sequence[Ids]) -> list[str]:
        return list(self._library.decode_batch([np.asarray(row).tolist() for row in rows], skip_special_tokens=True))


_MAY_LACK = ("normalizer", "pre_tokenizer", "decoder")
"""What a file may leave out that has none of it."""
_DECIDES = ("model", "added_tokens", *_MAY_LACK)


def _parsed(data: bytes, name: str) -> dict[str, Any]:
    """What the file holds. Raises UserError where it is cut short, or JSON of something else."""
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise UserError(f"{name} begins as a tokenizer.json does, but is cut short or damaged ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        hint = " A vocab.json alone says neither merges nor how text is cut." if len(found) > 1000 else ""
        raise UserError(f"{name} is JSON, but no tokenizer.json of Hugging Face: it has no `model`.{hint}")
    return found


def _joined(rows: list[Ids]) -> tuple[Ids, npt.NDArray[np.int64]]:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.concatenate([np.zeros(0, np.uint32), *rows]), lengths


def _cut(text: str, name: str) -> list[str]:
    """The text, cut inside each `name` in it."""
    first, *rest = text.split(name)
    found = [first]
    for part in rest:
        found[-1] += name[:1]
        found.append(name[1:] + part)
    return found
