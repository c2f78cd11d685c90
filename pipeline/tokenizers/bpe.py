"""Byte-level BPE run by tiktoken, and the rank files that tiktoken reads: lines of a token in base64 and its rank."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
import tiktoken

from pipeline.errors import UserError, nearest
from pipeline.tokenizers.base import Ids, Options, Tokenizer, by_role, size_of_vocabulary
from pipeline.tokenizers.compiled import Words
from pipeline.tokenizers.pieces import Pieces
from stages.bpe import cutting

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

PROBES = [
    "it's IT'S I'LL we'Ve y'all 'twas rock'n'roll \u017fo'\u017f",
    "  two   spaces\t\ttabs \n\n\n lines\r\n\r\n  end  ",
    "1 12 123 1234 12345 1,234.56 3\u00b2 \u2460\u2461 \u0661\u0662\u0663 \u0967",
    "def f(x):\n    return x**2  # \u00e9t\u00e9\n\n\n\tif not x:\n",
    "\u4e2d\u6587\u3002\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8 \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0627\u0644\u0639\u0631\u0628\u064a\u0651\u0629",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301",
    "\u00a0\u2003\u3000\u0085\u2028\u180e\ufeff\u00ad\0\x1f\x7f",
    "<|endoftext|></s> [CLS] http://a.b/c?d=e&f=%20g ... --- ___ \u2026\u2014 \u201cq\u201d",
    " ", "\n", "a", "", "   a", "a   ", "\n \n a", "a \n  ", "a\n\n  \n", "1 \n 2\t",
]  # fmt: skip
"""Texts on which two encoders are compared, beside those of a corpus."""
_NOTHING = np.zeros(0, np.uint32)


class Core:
    """tiktoken's encoder over ranks, with ids that may be others than the ranks."""

    def __init__(self, ranks: Mapping[bytes, int], pattern: str, ids: npt.NDArray[np.int64] | None = None) -> None:
        """`ids` are the tokens by rank; without them they are the ranks. Raises ValueError for a pattern that is no
        regular expression to tiktoken, or at times matches nothing, on which tiktoken panics, and where a single byte
        has no rank."""
        missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
        if missing is not None:
            raise ValueError(f"it has no token for the byte 0x{missing:02x}")
        with suppress(regex.error):  # tiktoken knows forms that it does not
            if any(not found[0] for text in PROBES for found in regex.finditer(pattern, text)):
                raise ValueError(f"its pattern {pattern!r} takes nothing for a word")
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


class Encoder:
    """tiktoken's encoder, with the compiled one before it where that is used."""

    def __init__(self, ranks: Mapping[bytes, int], pattern: str, ids: npt.NDArray[np.int64] | None = None) -> None:
        """As `Core`, whose ValueErrors it passes on."""
        self.core = Core(ranks, pattern, ids)
        self._made_of = ranks, pattern, ids
        self._words: Words | None = None

    def compile(self) -> bool:
        """Uses the compiled encoder from now on; False where the pattern is none that it knows."""
        ranks, pattern, ids = self._made_of
        cut = cutting.cut_of(pattern)
        if cut is not None:
            self._words = Words(ranks, cut, classes(marks=cut.marks), ids)
        return cut is not None

    def give_up_compiled(self) -> None:
        """Goes back to tiktoken alone."""
        self._words = None

    def encode(self, texts: pa.Array, beyond: list[int] | None = None) -> tuple[Ids, npt.NDArray[np.int64]]:
        """As `Core.encode`, of a column without nulls."""
        if self._words is None:
            return self.core.encode(texts.to_pylist(), beyond)
        left: list[int] = []
        flat, lengths = self._words.encode(texts, left)
        if not left:
            return flat, lengths
        further: list[int] = []
        some = self.core.encode(texts.take(pa.array(left)).to_pylist(), None if beyond is None else further)
        if beyond is not None:
            beyond += [left[place] for place in further]
        return spliced(flat, lengths, left, *some)


def spliced(
    flat: Ids, lengths: npt.NDArray[np.int64], rows: Sequence[int], others: Ids, sizes: npt.NDArray[np.int64]
) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Rows of tokens with those at some places put in the place of what is there."""
    found = np.split(flat, np.cumsum(lengths)[:-1])
    for row, tokens in zip(rows, np.split(others, np.cumsum(sizes)[:-1]), strict=True):
        found[row] = tokens
    return np.concatenate(found), np.fromiter(map(len, found), np.int64, len(found))


@functools.cache
def classes(*, marks: bool) -> cutting.Classes:
    """Of each code point its class for `cutting`, as tiktoken's regular expressions have it."""
    found = np.full(0x110000, cutting.OTHER, np.uint8)
    words = r"[\p{L}\p{M}]" if marks else r"\p{L}"
    for pattern, one in ((words, cutting.LETTER), (r"\p{N}", cutting.DIGIT), (r"\s", cutting.BLANK)):
        members = np.frombuffer(members_of(pattern).encode("utf-32-le"), np.uint32)
        found[members] = one
    found[[0x0A, 0x0D]] = cutting.NEWLINE
    return found


LETTERS = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200))))
"""All characters that Unicode has given out, with a wide margin."""


@functools.cache
def members_of(pattern: str) -> str:
    """The characters of LETTERS in a class of tiktoken's regular expressions."""
    taken, _ = Core({bytes([byte]): byte for byte in range(256)}, pattern + "+").encode([LETTERS])
    return taken.astype(np.uint8).tobytes().decode()


class Tiktoken(Tokenizer):
    """A tiktoken rank file, with the pattern and the special tokens that the file does not hold."""

    kind = "tiktoken"
    file_name = "tokenizer.tiktoken"

    def __init__(
        self,
        data: bytes,
        name: str = "the tokenizer",
        options: Options | None = None,
        engine: dict[str, Any] | None = None,
    ) -> None:
        """`engine` is what an earlier `choose_engine` found. Raises UserError where the file is damaged, or the
        options do not fit it."""
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
        self.vocabulary = size_of_vocabulary(name, max(top, *special.values()))
        try:
            self._encoder = Encoder(self._ranks, self._pattern)
        except ValueError as error:
            what = "is cut short or damaged" if "no token for the byte" in str(error) else "cannot be used"
            raise UserError(f"{name} {what}: {error}") from error
        self.engine = engine or {"name": "tiktoken", "why": None}
        if self.engine["name"] == "compiled":
            self._encoder.compile()

    def choose_engine(self, texts: Sequence[str]) -> dict[str, Any]:
        """Goes over to the compiled encoder where it gives tiktoken's ids for all these texts."""
        self.engine = choose(self._encoder, texts)
        return self.engine

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
        return self._encoder.encode(texts)


def choose(encoder: Encoder, texts: Sequence[str]) -> dict[str, Any]:
    """Turns on the compiled encoder, unless it gives other ids than tiktoken for one of these texts: the engine then,
    as `Tokenizer.engine` has it."""
    if not encoder.compile():
        return {"name": "tiktoken", "why": "its pattern is none of those that are compiled"}
    rows = [*PROBES, *texts]
    flat, lengths = encoder.encode(pa.array(rows, pa.string()))
    right, sizes = encoder.core.encode(rows)
    if np.array_equal(flat, right) and np.array_equal(lengths, sizes):
        return {"name": "compiled", "why": None}
    encoder.give_up_compiled()
    return {"name": "tiktoken", "why": "compiled it gives other ids"}


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
