"""The models of one language: KenLM's n-grams and SentencePiece's pieces, opened from their bytes.

KenLM itself is not needed: it is LGPL, comes as source that takes a compiler, and opens files by name alone. What it
writes unless told otherwise, CCNet's models among it, is three kinds of table, read where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.perplexity.ngrams import Ngrams, read
from stages.perplexity.score import score
from stages.rows import text_array
from stages.text.column import Ints, texts


@dataclass(frozen=True)
class Model:
    """The models of one language."""

    ngrams: Ngrams
    pieces: Any
    """SentencePiece's processor, or None: words are what stands between blanks."""

    def score(self, documents: Sequence[Sequence[str]]) -> tuple[npt.NDArray[np.float64], Ints]:
        """For each document, a list of its lines: the sum of its tokens' logarithms, and how many tokens it has."""
        return score(self.ngrams, texts(text_array(["\n".join(map(self._tokens, lines)) for lines in documents])))

    def _tokens(self, line: str) -> str:
        return " ".join(line.split() if self.pieces is None else self.pieces.encode(line, out_type=str))


def language_model(data: bytes, path: str) -> Ngrams:
    """The model in KenLM's binary or an ARPA file, which may be gzipped. Raises ValueError where it is none."""
    try:
        return read(data)
    except ValueError as error:
        raise ValueError(f"'{path}' is no model of KenLM, binary or ARPA, that can be read: {error}") from None


def sentence_pieces(data: bytes, path: str) -> Any:
    """The model of SentencePiece in a file. Raises ValueError where it is none."""
    import sentencepiece

    try:
        found = sentencepiece.SentencePieceProcessor()
        if not data or not found.LoadFromSerializedProto(data):
            raise ValueError(f"'{path}' is no model of SentencePiece: it is empty")
    except RuntimeError:
        raise ValueError(f"'{path}' is no model of SentencePiece") from None
    return found
