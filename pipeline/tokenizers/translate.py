"""When tiktoken can run a tokenizer.json, and how: byte-level BPE whose words a regular expression cuts.

tiktoken merges whichever neighbours give a token of the lowest rank, Hugging Face's BPE the pairs that its list of
merges names, in its order: where each token comes from one place of that list, the two agree. What is not certain from
the file is tried out (`check_classes`, `compare`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.tokenizers.bpe import GPT2, LETTERS, PROBES, Encoder, members_of
from pipeline.tokenizers.training_bytes import PATTERN
from stages.text.forms import normalized

_PLACES = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PLACES]
BYTES = {chr(byte): byte for byte in _PLACES} | {chr(256 + place): byte for place, byte in enumerate(_OTHERS)}
"""How byte-level models write a byte: as a character that can be seen (Radford et al. 2019, GPT-2's encoder.py)."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SINGLE_DIGITS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++|\p{N}| ?[^\s\p{L}\p{N}]++|\s++(?=\p{N})|\s++$|\s+(?!\S)|\s"
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_FAST_CL100K = (  # not tiktoken's own, which since its version 0.8 takes white space at the end of a text as one
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
_FAST_OURS = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{M}\p{N}]?+[\p{L}\p{M}]++|\p{N}| ?[^\s\p{L}\p{M}\p{N}]++[\r\n]*+|\s*[\r\n]"
    r"|\s+(?!\S)|\s"
)
_FASTER = {_GPT2: GPT2, _CL100K: _FAST_CL100K, PATTERN: _FAST_OURS}
"""Patterns as they are often written, and written so that they cut the same and never go back."""


class NotExpressibleError(Exception):
    """Why tiktoken cannot run this tokenizer."""


@dataclass(frozen=True)
class Fast:
    """A tokenizer.json as tiktoken runs it."""

    encoder: Encoder
    pattern: str
    nfc: bool
    """Whether the original normalises to NFC: texts that are not so are left to it."""
    added: str | None
    """A regular expression of what the original takes out of a text first: texts with it are left to it."""

    def others(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        """(texts,) which texts, none of them null, the original has to encode."""
        found = np.zeros(len(texts), bool)
        if self.nfc:  # not by Arrow's utf8_normalize, whose NFC does not compose
            found |= [not text.isascii() and normalized(text, "NFC") != text for text in texts.to_pylist()]
        if self.added is not None:
            found |= pc.match_substring_regex(texts, self.added).to_numpy(zero_copy_only=False)
        return found


def fast(tokenizer: Mapping[str, Any], library: Any = None) -> Fast:
    """The same tokenizer for tiktoken; `library` is it as `tokenizers` has it, to try each token where that was not
    done before. Raises NotExpressibleError."""
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise NotExpressibleError(f"its model is {model.get('type')}, not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            raise NotExpressibleError(f"its model has {name}")
    pattern = _pattern(tokenizer["pre_tokenizer"])
    normal = _normalizes(tokenizer["normalizer"])
    added = {one["content"]: int(one["id"]) for one in tokenizer["added_tokens"]}
    plain = [one["content"] for one in tokenizer["added_tokens"] if not one["special"]]
    if normal and any(normalized(one, "NFC") != one for one in plain):
        raise NotExpressibleError("it has added tokens that are not in the form NFC, to which it normalises")
    ranks, ids = _ranks(model, added, library)
    try:
        encoder = Encoder(ranks, pattern, ids)
    except ValueError as error:
        raise NotExpressibleError(f"tiktoken refuses it: {error}") from error
    found = "|".join(re.escape(one) for one in sorted(plain, key=len, reverse=True)) if plain else None
    return Fast(encoder, pattern, normal, found)


def spelt(vocabulary: Mapping[str, int], added: Mapping[str, int]) -> dict[bytes, int]:
    """The bytes of each token of a byte-level vocabulary, but the added ones. Raises NotExpressibleError."""
    found: dict[bytes, int] = {}
    for written, token in vocabulary.items():
        if written not in added:
            try:
                found[bytes([BYTES[letter] for letter in written])] = token
            except KeyError as error:
                raise NotExpressibleError(f"its token {written!r} is not spelt in bytes") from error
    return found


def check_classes(pattern: str) -> None:
    """Raises NotExpressibleError where a class of characters in the pattern holds others to tiktoken's regular
    expressions than to those of `tokenizers`: they may be built on two versions of Unicode."""
    classes = set(re.findall(r"\\[pP]\{\^?\w+\}|\\[swdhSWDH]", pattern)) | (
        {"(?i:[a-z])"} if "(?i" in pattern else set()
    )
    for one in sorted(classes):
        differing = _differing(one)
        if differing:
            shown = ", ".join(f"U+{ord(letter):04X}" for letter in differing[:3])
            raise NotExpressibleError(f"{one} means other characters to tiktoken, as {shown}")
    bare = re.sub(r"\\.|\[[^\]]*\]", "", pattern.replace(GPT2, "").replace(_SINGLE_DIGITS, ""))
    if "^" in bare or "$" in bare or "." in bare:
        raise NotExpressibleError("its pattern uses ^, $ or a dot, which differ between the two in lines")


@functools.cache
def _differing(one: str) -> str:
    """The characters that a class holds in one of the two alone."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(one + "+"), "removed", invert=True)
    theirs = "".join(piece for piece, _ in split.pre_tokenize_str(LETTERS))
    return "".join(sorted(set(members_of(one)) ^ set(theirs)))


def compare(fast: Fast, library: Any, texts: Iterable[str]) -> None:
    """Raises NotExpressibleError where the ids of a text are others than those of `library`."""
    rows = [*PROBES, *texts]
    others = fast.others(pa.array(rows, pa.string()))
    rows = [text for text, other in zip(rows, others.tolist(), strict=True) if not other]
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        flat, lengths = fast.encoder.core.encode(batch)
        right = [one.ids for one in library.encode_batch_fast(batch, add_special_tokens=False)]
        ends = np.append(0, np.cumsum(lengths))
        for row, ids in enumerate(right):
            found = flat[ends[row] : ends[row + 1]].tolist()
            if found != ids:
                place = next((at for at, (a, b) in enumerate(zip(found, ids, strict=False)) if a != b), 0)
                shown = library.decode(ids[max(0, place - 2) : place + 4])
                raise NotExpressibleError(f"tiktoken gives other ids near {shown!r}")


def _pattern(pre: Mapping[str, Any] | None) -> str:
    """The regular expression by which a text is cut into words."""
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre] if pre else []
    last = steps[-1] if steps else {"type": "none"}
    if last["type"] != "ByteLevel":
        raise NotExpressibleError(f"its pre-tokenizer is {last['type']}, not ByteLevel")
    if any(step.get("add_prefix_space") for step in steps):
        raise NotExpressibleError("its pre-tokenizer puts a space before the text")
    own = last.get("use_regex", True)
    if len(steps) == 1 and own:
        return GPT2
    if len(steps) == 2 and own and steps[0] == {"type": "Digits", "individual_digits": True}:
        return _SINGLE_DIGITS
    if len(steps) == 2 and not own and steps[0]["type"] == "Split":
        split = steps[0]
        behaviour = (split["behavior"], bool(split.get("invert")))
        if "Regex" in split["pattern"] and behaviour in (("Isolated", False), ("Removed", True)):
            pattern = str(split["pattern"]["Regex"])
            return _FASTER.get(pattern, pattern)
    raise NotExpressibleError(f"its pre-tokenizer is {' + '.join(step['type'] for step in steps)}, not one pattern")


def _normalizes(normalizer: Mapping[str, Any] | None) -> bool:
    """Whether it normalises to NFC, which can be told from a text."""
    if normalizer is None:
        return False
    steps = normalizer.get("normalizers", [normalizer])
    other = next((step["type"] for step in steps if step["type"] != "NFC"), None)
    if other is not None:
        raise NotExpressibleError(f"it normalises text by {other}")
    return bool(steps)


def _ranks(
    model: Mapping[str, Any], added: Mapping[str, int], library: Any
) -> tuple[dict[bytes, int], npt.NDArray[np.int64]]:
    """Ranks for tiktoken, in the order of the merges, and the token of each rank."""
    vocabulary = model["vocab"]
    ids = spelt(vocabulary, added)
    ranks = {bytes([byte]): byte for byte in range(256) if bytes([byte]) in ids}
    before = None
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        try:
            piece = bytes([BYTES[letter] for letter in left + right])
        except KeyError as error:
            raise NotExpressibleError("its merges are not spelt in bytes") from error
        if piece in ranks and piece != before:
            raise NotExpressibleError(f"its token {left + right!r} comes from merges in several places of the list")
        ranks.setdefault(piece, len(ranks))
        before = piece
    whole = bool(model.get("ignore_merges"))
    for piece, token in ids.items():
        if piece not in ranks and whole:
            raise NotExpressibleError(f"its token {piece!r} comes from no merge, but is used for a whole word")
        if library is not None and piece in ranks and not whole and len(piece) > 1:
            written = library.id_to_token(token)
            if len(library.model.tokenize(written)) != 1:
                raise NotExpressibleError(f"its merges do not make the token {written!r} of its own bytes")
    table = np.zeros(max(ranks.values()) + 1, np.int64)
    for piece, rank in ranks.items():
        if piece not in ids:
            raise NotExpressibleError(f"the outcome {piece!r} of a merge is no token")
        table[rank] = ids[piece]
    return ranks, table
