"""Byte-level BPE run by tiktoken, and the rank files that tiktoken reads: lines of a token in base64 and its rank."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tiktoken

from pipeline.errors import UserError, nearest
from pipeline.tokenizers.base import Ids, Options, Tokenizer, by_role
from pipeline.tokenizers.pieces import Pieces

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CASES}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CASES}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


class Known(NamedTuple):
    """An encoding that OpenAI published: how its text is cut, and what its rank file lacks."""

    pattern: str
    ranks: int
    special: dict[str, int]


_FIM = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
KNOWN = {
    "gpt2": Known(GPT2, 50256, {"<|endoftext|>": 50256}),
    "r50k": Known(GPT2, 50256, {"<|endoftext|>": 50256}),
    "p50k": Known(GPT2, 50280, {"<|endoftext|>": 50256}),
    "cl100k": Known(
        CL100K, 100256, {name: 100257 + place for place, name in enumerate(_FIM)} | {"<|endofprompt|>": 100276}
    ),
    "o200k": Known(O200K, 199998, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
}
"""Patterns by name, and the special tokens of a file that has as many ranks (tiktoken, `openai_public.py`)."""
_NO_SPECIAL = "<|never|>"
"""A special token that is never allowed: `encode_to_numpy` must have one to look for, or it looks everywhere."""

_NOTHING = np.zeros(0, np.uint32)


class Core:
    """tiktoken's encoder over ranks, with ids that may be others than the ranks."""

    def __init__(self, ranks: Mapping[bytes, int], pattern: str, ids: npt.NDArray[np.int64] | None = None) -> None:
        """`ids` are the tokens by rank; without them they are the ranks. Raises ValueError for a pattern that is no
        regular expression to tiktoken, and where a single byte has no rank."""
        missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
        if missing is not None:
            raise ValueError(f"it has no token for the byte 0x{missing:02x}")
        special = {_NO_SPECIAL: max(ranks.values()) + 1}
        self._core = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens=special)
        self._ids = ids

    def encode(self, texts: Sequence[str], beyond: list[int] | None = None) -> tuple[Ids, npt.NDArray[np.int64]]:
        """The tokens of all texts one behind the other, and how many each has.

        Places of texts on which the regular expression gives up are added to `beyond`, and these have no tokens;
        without it, such texts are halved.
        """
        found: list[Ids] = [_NOTHING]
        for place, text in enumerate(texts):
            try:
                found.append(self._one(text))
            except ValueError:
                if beyond is None:
                    found.append(self._in_halves(text))
                else:
                    beyond.append(place)
                    found.append(_NOTHING)
        flat = np.concatenate(found)
        lengths = np.fromiter(map(len, found), np.int64, len(found))[1:]
        return flat if self._ids is None else self._ids[flat], lengths

    def _one(self, text: str) -> Ids:
        return self._core.encode_to_numpy(text, disallowed_special=())

    def _in_halves(self, text: str) -> Ids:
        """The tokens of a text, halved where its regular expression gives up: a run of a million spaces and more.

        tiktoken itself raises or panics on such a text (its issues 15 and 400), so no tokens of it are the right ones.
        """
        try:
            return self._one(text)
        except ValueError:
            if len(text) < 2:
                raise
            middle = len(text) // 2
            return np.concatenate([self._in_halves(text[:middle]), self._in_halves(text[middle:])])


class Tiktoken(Tokenizer):
    """A tiktoken rank file, with the pattern and the special tokens that the file does not hold."""

    kind = "tiktoken"
    file_name = "tokenizer.tiktoken"

    def __init__(self, data: bytes, name: str = "the tokenizer", options: Options | None = None) -> None:
        """Raises UserError where the file is damaged, or the options do not fit it."""
        options = options or Options()
        self._ranks = _ranks(data, name)
        self._pattern, special = _completed(options, self._ranks, name)
        self.options = Options(self._pattern, special, options.roles)
        top, taken = max(self._ranks.values()), set(self._ranks.values())
        for token, number in special.items():
            if number in taken and self._ranks.get(token.encode()) != number:
                raise UserError(
                    f"tokenizer.special: {token!r} is given the id {number}, which {name} has for another token; "
                    f"its ids go from 0 to {top}"
                )
        self.special = by_role(name, special, options.roles)
        self._special = dict(special)
        self.vocabulary = max(top, *special.values()) + 1
        try:
            self._core = Core(self._ranks, self._pattern)
        except ValueError as error:
            what = "is cut short or damaged" if "no token for the byte" in str(error) else "cannot be used"
            raise UserError(f"{name} {what}: {error}") from error

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over ranks, pattern, special tokens and their roles."""
        digest = hashlib.sha256()
        for piece, rank in sorted(self._ranks.items(), key=lambda item: item[1]):
            digest.update(rank.to_bytes(4, "little") + len(piece).to_bytes(4, "little") + piece)
        rest = {"pattern": self._pattern, "special": self._special, "roles": self.special}
        digest.update(json.dumps(rest, sort_keys=True).encode())
        return digest.hexdigest()

    @functools.cached_property
    def pieces(self) -> Pieces:
        """The bytes of each token."""
        found = [b""] * self.vocabulary
        for piece, rank in self._ranks.items():
            found[rank] = piece
        for token in self._special.values():
            found[token] = b""
        return Pieces(found)

    def piece(self, token: int) -> str:
        """Its text, bytes that are no UTF-8 as \\x0a; a special token's name."""
        special = {number: name for name, number in self._special.items()}
        return special.get(token) or self.pieces[token].decode(errors="backslashreplace")

    def _encode(self, texts: pa.Array) -> tuple[Ids, npt.NDArray[np.int64]]:
        return self._core.encode(texts.to_pylist())

    def _decode(self, rows: Sequence[Ids]) -> list[str]:
        return [self.pieces.join(row).decode(errors="replace") for row in rows]


def _ranks(data: bytes, name: str) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    taken: set[int] = set()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            piece, place = base64.b64decode(token, validate=True), int(rank)
        except (ValueError, binascii.Error) as error:
            raise UserError(f"{name} is damaged: line {number} is no token in base64 and its rank") from error
        if piece in found or place in taken or not piece or not 0 <= place < 1 << 31:
            raise UserError(f"{name} is damaged: line {number} repeats a token or a rank, or is out of range")
        found[piece] = place
        taken.add(place)
    if not found:
        raise UserError(f"{name} is damaged: it has no tokens")
    return found


def _completed(options: Options, ranks: Mapping[bytes, int], name: str) -> tuple[str, dict[str, int]]:
    """The regular expression and the special tokens, those of a known encoding where the user gives none."""
    count, free = len(ranks), max(ranks.values()) + 1
    if options.pattern is None:
        raise UserError(
            f"tokenizer.pattern: {name} is a tiktoken file, which does not say how text is cut into words: give "
            f"{', '.join(KNOWN)}, or a regular expression"
        )
    known = KNOWN.get(options.pattern)
    special = dict(options.special)
    if known is not None and not special:
        if known.ranks != count:
            raise UserError(
                f"tokenizer.special: {name} has {count:,} ranks, {options.pattern} has {known.ranks:,}: the file is "
                "cut short, or of another encoding; then give its special tokens with their ids, as "
                f'`special: {{"<|endoftext|>": {free}}}`'
            )
        special = dict(known.special)
    if known is None and options.pattern.isidentifier():
        raise UserError(f"tokenizer.pattern: there is no pattern '{options.pattern}'.{nearest(options.pattern, KNOWN)}")
    if not special:
        raise UserError(
            f"tokenizer.special: {name} is a tiktoken file, which has no special tokens: give them with their ids, "
            f'as `special: {{"<|endoftext|>": {free}}}`'
        )
    return known.pattern if known else options.pattern, special
